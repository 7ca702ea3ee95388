// What crossed the links, and what was missing when memory ran out: rows of the recorder's samplers and of CUPTI.
#include <algorithm>

#include "analyzer/model/event_values.h"
#include "analyzer/model/process_model.h"
#include "proto/schema.h"

namespace uvmtrace::analyzer {
namespace {

CopyWay WayOf(uint64_t host_memory) {
  switch (static_cast<CopyMemory>(host_memory & 0xff)) {
    case CopyMemory::kPageable:
      return CopyWay::kPageable;
    case CopyMemory::kPinned:
      return CopyWay::kPinned;
    default:
      return CopyWay::kOther;
  }
}

// Under this name the recorder notes a variable as an allocation.
constexpr const char* kManagedVariableFunction = "__managed__ variable";

bool IsOnGpu(MemoryKind kind) {
  return kind == MemoryKind::kDevice || kind == MemoryKind::kPool || kind == MemoryKind::kPhysical;
}

bool IsPinned(MemoryKind kind) { return kind == MemoryKind::kPinned || kind == MemoryKind::kRegistered; }

}  // namespace

void ProcessModel::ApplyCopies(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const auto kind = static_cast<CopyKind>(batch[copies::kKind][row] & 0xff);
    if (kind != CopyKind::kHostToDevice && kind != CopyKind::kDeviceToHost) continue;
    const uint64_t start_ns = Monotonic(batch.clock, batch[copies::kStart][row]);
    if (!timeline.filter.Has(start_ns)) continue;
    const size_t direction = kind == CopyKind::kHostToDevice ? 0 : 1;
    const size_t host_end = direction == 0 ? copies::kSourceMemory : copies::kDestinationMemory;
    traffic.copies[DeviceOrdinal(batch[copies::kDevice][row])].Add(
        direction, WayOf(batch[host_end][row]), start_ns, SaturatingAdd(start_ns, batch[copies::kDuration][row]),
        batch[copies::kBytes][row]);
  }
}

// A copy call, by the memory at its ends. What no allocation holds is pageable if the other end is a GPU's.
void ProcessModel::CountCopyCall(const MemoryCall& call) {
  if (call.failed || call.graph || call.bytes == 0 || !timeline.filter.Has(call.start_ns)) return;
  const auto kind_at = [&](uint64_t address) {
    const Allocation* live = address == 0 ? nullptr : memory.table().At(address, call.start_ns).live;
    return live == nullptr ? MemoryKind::kUnknown : live->kind;
  };
  const MemoryKind to = kind_at(call.address);
  const MemoryKind from = kind_at(call.handle);
  const auto add = [&](size_t direction, MemoryKind host) {
    traffic.called.Add(direction, IsPinned(host) ? CopyWay::kPinned : CopyWay::kPageable, call.start_ns, call.end_ns,
                       call.bytes);
  };
  if (IsOnGpu(to) && (IsPinned(from) || (from == MemoryKind::kUnknown && call.handle != 0))) {
    add(0, from);
  } else if (IsOnGpu(from) && (IsPinned(to) || (to == MemoryKind::kUnknown && call.address != 0))) {
    add(1, to);
  } else if (!(IsOnGpu(to) && IsOnGpu(from)) && !(IsPinned(to) && IsPinned(from))) {
    traffic.unclear_bytes += call.bytes;
  }
}

void ProcessModel::ApplyLinkSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = batch[link_samples::kTime][row];
    last_ns = std::max(last_ns, time_ns);
    traffic.counters[DeviceOrdinal(batch[link_samples::kDevice][row])].Add(
        {time_ns, batch[link_samples::kReceivedBytes][row], batch[link_samples::kSentBytes][row]},
        batch[link_samples::kUnsure][row]);
  }
}

// Each __managed__ variable is a call site of its own: no call of the program allocates it.
void ProcessModel::DefineManagedVariable(const ManagedVariableDefinition& variable) {
  // A restart repeats definitions; after a reset another variable may lie there.
  const auto known = managed_variable_at_.find(variable.address);
  if (known != managed_variable_at_.end() && managed_variables[known->second].name == variable.name) return;
  if (budget.Take(Spending::kDefinitions) == 0) return;
  managed_variable_at_[variable.address] = static_cast<uint32_t>(managed_variables.size());
  managed_variables.push_back(variable);
}

const ManagedVariableDefinition* ProcessModel::VariableOfStack(uint32_t stack) const {
  if ((stack & kVariableStacks) == 0 || (stack & ~kVariableStacks) >= managed_variables.size()) return nullptr;
  return &managed_variables[stack & ~kVariableStacks];
}

void ProcessModel::NameVariable(const FunctionStatistics& function, MemoryCall* call) const {
  if (call->operation != Operation::kAllocate || call->kind != MemoryKind::kManaged || call->failed) return;
  if (function.name != kManagedVariableFunction) return;
  const auto variable = managed_variable_at_.find(call->address);
  if (variable != managed_variable_at_.end()) call->stack = kVariableStacks | variable->second;
}

}  // namespace uvmtrace::analyzer
