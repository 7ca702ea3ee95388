// What the program called: counted by function, and handed in the order of time to the ledger of its memory and to
// those who look for hazards.
#include <algorithm>

#include "analyzer/model/event_values.h"
#include "analyzer/model/process_model.h"

namespace uvmtrace::analyzer {
namespace {

// Calls that change what lies where, that use memory, or that say when something else happens.
bool MattersToMemory(const FunctionStatistics& function) {
  switch (function.operation) {
    case Operation::kCopy:
    case Operation::kSet:
    case Operation::kPrefetch:
    case Operation::kAdvise:
    case Operation::kSetAccess:
      return true;
    default:
      return function.role != FunctionRole::kNone || MemoryLedger::IsMemoryOperation(function.operation);
  }
}

}  // namespace

FunctionRole RoleOfFunction(const std::string& name) {
  const auto starts = [&name](const char* prefix) { return name.rfind(prefix, 0) == 0; };
  if (starts("cuMemRetainAllocationHandle")) return FunctionRole::kRetainHandle;
  if (starts("cudaFreeAsync") || starts("cuMemFreeAsync")) return FunctionRole::kStreamOrderedFree;
  if (starts("cudaGraphLaunch") || starts("cuGraphLaunch")) return FunctionRole::kGraphLaunch;
  if (starts("cudaGraphAdd") || starts("cuGraphAdd")) return FunctionRole::kGraphNode;
  if (starts("cudaStreamBeginCapture") || starts("cuStreamBeginCapture")) return FunctionRole::kBeginCapture;
  if (starts("cudaStreamEndCapture") || starts("cuStreamEndCapture")) return FunctionRole::kEndCapture;
  if (starts("cuModuleGetGlobal") || starts("cuLibraryGetGlobal") || starts("cuLibraryGetManaged"))
    return FunctionRole::kGetGlobal;
  return FunctionRole::kNone;
}

void ProcessModel::ApplyApiCalls(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    FunctionStatistics& function = FunctionOf(static_cast<uint32_t>(batch[api_calls::kFunction][row]));
    const uint64_t start_ns = batch[api_calls::kStart][row];
    const uint64_t duration_ns = batch[api_calls::kDuration][row];
    const uint64_t bytes = batch[api_calls::kBytes][row];
    const bool failed = batch[api_calls::kResult][row] != 0;
    const uint64_t door = batch[api_calls::kDoor][row];
    last_ns = std::max(last_ns, SaturatingAdd(start_ns, duration_ns));
    if (timeline.filter.Has(start_ns)) {
      ++api_calls;
      ++calls_by_door[door < kDoorCount ? door : 0];
      ++function.count;
      function.failures += failed;
      function.total_ns += duration_ns;
      function.durations.Add(duration_ns);
      function.bytes += bytes;
      if (function.operation == Operation::kCopy && !failed) copied_bytes += bytes;
    }
    if (!failed && function.operation == Operation::kProfilerStart)
      profiler_switches_.emplace_back(SaturatingAdd(start_ns, duration_ns), true);
    if (!failed && function.operation == Operation::kProfilerStop) profiler_switches_.emplace_back(start_ns, false);
    const bool no_memory = static_cast<int32_t>(batch[api_calls::kResult][row]) == FailedAllocations::kOutOfMemory;
    if (!no_memory && !MattersToMemory(function)) continue;
    const uint64_t kind = batch[api_calls::kMemoryKind][row];
    MemoryCall call;
    call.operation = function.operation;
    call.kind = kind < kMemoryKindCount ? static_cast<MemoryKind>(kind) : MemoryKind::kUnknown;
    call.start_ns = start_ns;
    call.end_ns = SaturatingAdd(start_ns, duration_ns);
    call.failed = failed;
    call.address = batch[api_calls::kAddress][row];
    call.bytes = bytes;
    call.handle = batch[api_calls::kOtherAddress][row];
    call.stack = static_cast<uint32_t>(batch[api_calls::kStack][row]);
    call.function = static_cast<uint32_t>(batch[api_calls::kFunction][row]);
    call.tid = static_cast<uint32_t>(batch[api_calls::kTid][row]);
    call.result = static_cast<int32_t>(batch[api_calls::kResult][row]);
    call.location = DeviceOrdinal(batch[api_calls::kLocation][row]);
    call.stream = batch[api_calls::kStream][row];
    call.flags = batch[api_calls::kFlags][row];
    call.stream_ordered = function.role == FunctionRole::kStreamOrderedFree;
    NameVariable(function, &call);
    pending_calls_.push_back(call);
  }
}

// In the order of time, all but the newest `keep`. Threads' calls stand one thread after the other, in chunks that are
// not in the order of time either; an address freed by one may have been given to the next.
void ProcessModel::ApplyPendingCalls(size_t keep) {
  if (pending_calls_.size() <= keep) return;
  std::stable_sort(pending_calls_.begin(), pending_calls_.end(),
                   [](const MemoryCall& a, const MemoryCall& b) { return a.EffectNs() < b.EffectNs(); });
  const size_t due = pending_calls_.size() - keep;
  for (size_t i = 0; i < due; ++i) {
    MemoryCall& call = pending_calls_[i];
    const FunctionRole role = FunctionOf(call.function).role;
    call.graph = role == FunctionRole::kGraphNode || hazards.capturing();
    ApplyCall(call, role);
  }
  pending_calls_.erase(pending_calls_.begin(), pending_calls_.begin() + static_cast<std::ptrdiff_t>(due));
}

FunctionStatistics& ProcessModel::FunctionOf(uint32_t id) {
  const auto known = functions.find(id);
  if (known != functions.end()) return known->second;
  // What was never defined has no name: beyond the budget all of it is one.
  if (budget.Take(Spending::kFunctions) == 0) return functions[0];
  return functions[id];
}

void ProcessModel::ApplyCall(const MemoryCall& call, FunctionRole role) {
  HazardTracker::Role hazard_role;
  hazard_role.graph_launch = role == FunctionRole::kGraphLaunch;
  hazard_role.begin_capture = role == FunctionRole::kBeginCapture;
  hazard_role.get_global = role == FunctionRole::kGetGlobal;
  hazard_role.end_capture = role == FunctionRole::kEndCapture;
  if (call.result == FailedAllocations::kOutOfMemory) failed_allocations.Failed(call, memory);
  CountCallSite(call);
  if (call.operation == Operation::kCopy) CountCopyCall(call);
  hazards.Before(call, hazard_role, &memory.table());
  if (role == FunctionRole::kRetainHandle) {
    memory.Retain(call);
  } else if (call.operation == Operation::kSetAccess) {
    memory.SetAccess(call);
  } else if (MemoryLedger::IsMemoryOperation(call.operation)) {
    memory.Apply(call);
    hazards.After(call, memory);
    const uint64_t managed = memory.of(MemoryKind::kManaged).live_bytes;
    const uint64_t plain = memory.of(MemoryKind::kDevice).live_bytes + memory.of(MemoryKind::kPool).live_bytes +
                           memory.of(MemoryKind::kPhysical).live_bytes;
    if (managed > 0 && managed + plain > capacity_peak.managed_bytes + capacity_peak.plain_bytes) {
      capacity_peak = {managed, plain, call.end_ns};
    }
  }
}

// Before the call takes effect: a free is of what still lives.
void ProcessModel::CountCallSite(const MemoryCall& call) {
  hazards.NextPrefetch(PrefetchCalls::kNone);
  switch (call.operation) {
    case Operation::kCopy:
    case Operation::kSet:
    case Operation::kPrefetch:
    case Operation::kAdvise:
    case Operation::kRegister:
    case Operation::kUnregister:
    case Operation::kFree:
      break;
    default:
      return;
  }
  if (call.graph) return;
  Allocation* target = call.address == 0 ? nullptr : memory.table().At(call.address, call.start_ns).live;
  Allocation* other_end = nullptr;
  bool from_target = false;
  if (call.operation == Operation::kCopy && call.handle != 0) {
    // Managed memory is what the report is about, else the destination.
    other_end = memory.table().At(call.handle, call.start_ns).live;
    const bool managed = target != nullptr && target->kind == MemoryKind::kManaged;
    from_target = other_end != nullptr && !managed && (target == nullptr || other_end->kind == MemoryKind::kManaged);
    if (from_target) std::swap(target, other_end);
  }
  const bool placed = call.operation == Operation::kPrefetch || call.operation == Operation::kAdvise;
  CallSiteKey key;
  key.function = call.function;
  key.stack = call.stack;
  if (target != nullptr) key.target = target->site;
  if (other_end != nullptr) key.other_end = other_end->site;
  key.from_target = from_target;
  if (placed) key.location = call.location;
  if (call.operation == Operation::kAdvise || call.operation == Operation::kCopy)
    key.detail = static_cast<uint32_t>(call.flags);
  const uint32_t site = call_sites.Of(key, call.operation);
  if (timeline.filter.Has(call.start_ns)) {
    CallSiteSums& sums = call_sites[site];
    ++sums.count;
    sums.failures += call.failed;
    sums.total_ns += call.end_ns - call.start_ns;
    if (!call.failed) {
      const bool of_target = call.operation == Operation::kFree || call.operation == Operation::kUnregister;
      sums.bytes += of_target && target != nullptr ? target->bytes : call.bytes;
    }
  }
  if (call.operation != Operation::kPrefetch || call.failed || target == nullptr ||
      target->version == AllocationVersions::kNone) {
    return;
  }
  PrefetchCalls::Call prefetch;
  prefetch.start_ns = call.start_ns;
  prefetch.address = call.address;
  prefetch.end = SaturatingAdd(call.address, call.bytes);
  prefetch.version = target->version;
  prefetch.call_site = site;
  prefetch.location = call.location;
  hazards.NextPrefetch(timeline.prefetches.Add(prefetch));
}

}  // namespace uvmtrace::analyzer
