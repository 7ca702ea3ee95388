#include "analyzer/model/memory_ledger.h"

namespace uvmtrace::analyzer {

bool MemoryLedger::IsMemoryOperation(Operation operation) {
  switch (operation) {
    case Operation::kAllocate:
    case Operation::kFree:
    case Operation::kRegister:
    case Operation::kUnregister:
    case Operation::kReserve:
    case Operation::kUnreserve:
    case Operation::kCreate:
    case Operation::kRelease:
    case Operation::kMap:
    case Operation::kUnmap:
      return true;
    default:
      return false;
  }
}

void MemoryLedger::Apply(const MemoryCall& call) {
  switch (call.operation) {
    case Operation::kAllocate:
    case Operation::kRegister:
      return Allocate(call);
    case Operation::kFree:
    case Operation::kUnregister:
      return Free(call);
    case Operation::kCreate:
      return Create(call);
    case Operation::kRelease:
      return Release(call);
    case Operation::kMap:
      return Map(call);
    case Operation::kUnmap:
      return Unmap(call);
    case Operation::kReserve:
      return Reserve(call);
    case Operation::kUnreserve:
      return Unreserve(call);
    default:
      return;
  }
}

void MemoryLedger::Allocate(const MemoryCall& call) {
  const MemoryKind kind =
      call.kind == MemoryKind::kUnknown && call.operation == Operation::kRegister ? MemoryKind::kRegistered : call.kind;
  MemoryKindStatistics& statistics = Of(kind);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  ++statistics.allocations;
  if (call.address == 0 || call.bytes == 0) return;  // an allocation of nothing succeeds and gives null
  const auto outcome = table_.Add(call.address, call.bytes, call.end_ns, kind, call.stack);
  if (outcome.superseded != nullptr) {
    ++superseded_;
    Of(outcome.superseded->kind).Shrink(outcome.superseded->bytes);
  }
  statistics.Grow(outcome.allocation->bytes);
}

void MemoryLedger::Free(const MemoryCall& call) {
  if (call.address == 0) return;  // freeing null is legal and does nothing
  if (call.failed) {
    ++Of(call.kind).failures;
    Of(call.kind).call_ns += call.end_ns - call.start_ns;
    return;
  }
  const auto outcome = table_.Free(call.address, call.start_ns, call.end_ns);
  if (outcome.allocation == nullptr) {
    ++unknown_frees_;
    return;
  }
  MemoryKindStatistics& statistics = Of(outcome.allocation->kind);
  ++statistics.frees;
  statistics.call_ns += call.end_ns - call.start_ns;
  if (outcome.was_superseded) {
    if (superseded_ > 0) --superseded_;
  } else {
    statistics.Shrink(outcome.allocation->bytes);
  }
}

void MemoryLedger::Create(const MemoryCall& call) {
  MemoryKindStatistics& statistics = Of(MemoryKind::kPhysical);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  ++statistics.allocations;
  statistics.Grow(call.bytes);
  const uint64_t physical = next_physical_++;
  physical_[physical] = {call.bytes, 1};
  handles_[call.address] = physical;
}

void MemoryLedger::Release(const MemoryCall& call) {
  MemoryKindStatistics& statistics = Of(MemoryKind::kPhysical);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  const auto handle = handles_.find(call.address);
  if (handle == handles_.end()) {
    ++unknown_frees_;
    return;
  }
  ++statistics.frees;
  const uint64_t physical = handle->second;
  handles_.erase(handle);
  DropReference(physical);
}

void MemoryLedger::DropReference(uint64_t physical) {
  const auto memory = physical_.find(physical);
  if (memory == physical_.end() || --memory->second.references > 0) return;
  Of(MemoryKind::kPhysical).Shrink(memory->second.bytes);
  physical_.erase(memory);
}

void MemoryLedger::Map(const MemoryCall& call) {
  Of(MemoryKind::kPhysical).call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++Of(MemoryKind::kPhysical).failures;
    return;
  }
  if (call.address == 0 || call.bytes == 0) return;
  MappedRange range{call.address + call.bytes, 0};
  const auto handle = handles_.find(call.handle);
  if (handle != handles_.end()) {
    range.physical = handle->second;
    ++physical_[range.physical].references;
  }
  const auto [entry, is_new] = mapped_.try_emplace(call.address, range);
  if (!is_new) {
    DropReference(entry->second.physical);
    entry->second = range;
  }
  table_.Add(call.address, call.bytes, call.end_ns, MemoryKind::kPhysical, call.stack);
}

void MemoryLedger::Unmap(const MemoryCall& call) {
  Of(MemoryKind::kPhysical).call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++Of(MemoryKind::kPhysical).failures;
    return;
  }
  // One call may unmap many neighbouring mappings, but never a part of one.
  const uint64_t end = call.address + call.bytes;
  auto range = mapped_.lower_bound(call.address);
  if (range == mapped_.end() || (range->first >= end && range->first != call.address)) ++unknown_frees_;
  while (range != mapped_.end() && (range->first < end || range->first == call.address)) {
    table_.Free(range->first, call.start_ns, call.end_ns);
    DropReference(range->second.physical);
    range = mapped_.erase(range);
  }
}

void MemoryLedger::Reserve(const MemoryCall& call) {
  MemoryKindStatistics& statistics = Of(MemoryKind::kReserved);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  ++statistics.allocations;
  const auto [entry, is_new] = reserved_.try_emplace(call.address, call.bytes);
  if (!is_new) {
    ++superseded_;
    statistics.Shrink(entry->second);
    entry->second = call.bytes;
  }
  statistics.Grow(call.bytes);
}

void MemoryLedger::Unreserve(const MemoryCall& call) {
  MemoryKindStatistics& statistics = Of(MemoryKind::kReserved);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  const auto entry = reserved_.find(call.address);
  if (entry == reserved_.end()) {
    ++unknown_frees_;
    return;
  }
  ++statistics.frees;
  statistics.Shrink(entry->second);
  reserved_.erase(entry);
}

}  // namespace uvmtrace::analyzer
