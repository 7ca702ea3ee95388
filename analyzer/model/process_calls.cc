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
  memory_calls_.clear();
  for (size_t row = 0; row < batch.rows; ++row) {
    FunctionStatistics& function = functions[static_cast<uint32_t>(batch[api_calls::kFunction][row])];
    const uint64_t start_ns = batch[api_calls::kStart][row];
    const uint64_t duration_ns = batch[api_calls::kDuration][row];
    const uint64_t bytes = batch[api_calls::kBytes][row];
    const bool failed = batch[api_calls::kResult][row] != 0;
    const uint64_t door = batch[api_calls::kDoor][row];
    ++api_calls;
    ++calls_by_door[door < kDoorCount ? door : 0];
    ++function.count;
    function.failures += failed;
    function.total_ns += duration_ns;
    function.durations.Add(duration_ns);
    function.bytes += bytes;
    last_ns = std::max(last_ns, SaturatingAdd(start_ns, duration_ns));
    if (function.operation == Operation::kCopy && !failed) copied_bytes += bytes;
    if (!MattersToMemory(function)) continue;
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
    memory_calls_.push_back(call);
  }
  // Threads' calls stand one thread after the other; an address freed by one may have been given to the next.
  std::stable_sort(memory_calls_.begin(), memory_calls_.end(),
                   [](const MemoryCall& a, const MemoryCall& b) { return a.EffectNs() < b.EffectNs(); });
  for (MemoryCall& call : memory_calls_) {
    const FunctionRole role = functions[call.function].role;
    call.graph = role == FunctionRole::kGraphNode || hazards.capturing();
    ApplyCall(call, role);
  }
}

void ProcessModel::ApplyCall(const MemoryCall& call, FunctionRole role) {
  HazardTracker::Role hazard_role;
  hazard_role.graph_launch = role == FunctionRole::kGraphLaunch;
  hazard_role.begin_capture = role == FunctionRole::kBeginCapture;
  hazard_role.get_global = role == FunctionRole::kGetGlobal;
  hazard_role.end_capture = role == FunctionRole::kEndCapture;
  hazards.Before(call, hazard_role, &memory.table());
  if (role == FunctionRole::kRetainHandle) {
    memory.Retain(call);
  } else if (call.operation == Operation::kSetAccess) {
    memory.SetAccess(call);
  } else if (MemoryLedger::IsMemoryOperation(call.operation)) {
    memory.Apply(call);
    hazards.After(call, memory);
  }
}

}  // namespace uvmtrace::analyzer
