#include "analyzer/model/memory_ledger.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>

namespace uvmtrace::analyzer {
namespace {

// A handle's value is given out again once it was released: of one that was not seen released, this many are waited
// for.
constexpr size_t kMaximumUsesOfAHandle = 4;

uint64_t EndOf(const MemoryCall& call) { return std::max(call.address, call.address + call.bytes); }

// A reset destroys the device's primary context. Physical memory and reserved addresses belong to no context.
bool EndsWithItsDevice(MemoryKind kind) { return kind != MemoryKind::kPhysical && kind != MemoryKind::kReserved; }

}  // namespace

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
    case Operation::kReset:
      return true;
    default:
      return false;
  }
}

void MemoryLedger::Apply(const MemoryCall& call) {
  ended_.clear();
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
    case Operation::kReset:
      return Reset(call);
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
  outcome.allocation->graph_memory = call.graph;
  statistics.Grow(outcome.allocation->bytes);
}

void MemoryLedger::Free(const MemoryCall& call) {
  if (call.address == 0) return;  // freeing null is legal and does nothing
  if (call.failed) {
    // A free does not say of what; the memory that it meant does, alive or not.
    const auto occupants = table_.At(call.address, call.start_ns);
    const Allocation* meant = occupants.live != nullptr ? occupants.live : occupants.freed;
    MemoryKindStatistics& statistics = Of(meant != nullptr ? meant->kind : call.kind);
    ++statistics.failures;
    statistics.call_ns += call.end_ns - call.start_ns;
    return;
  }
  const auto outcome = table_.Free(call.address, call.start_ns, call.end_ns);
  if (outcome.allocation == nullptr) {
    ++unknown_frees_;
    return;
  }
  Allocation& allocation = *outcome.allocation;
  allocation.freed_stack = call.stack;
  allocation.freed_tid = call.tid;
  if (!outcome.was_superseded) {
    allocation.freed_stream = call.stream;
    if (call.stream_ordered) allocation.ended_by = EndedBy::kStreamOrderedFree;
    ended_.push_back({&allocation});
  }
  MemoryKindStatistics& statistics = Of(allocation.kind);
  ++statistics.frees;
  statistics.call_ns += call.end_ns - call.start_ns;
  if (outcome.was_superseded) {
    if (superseded_ > 0) --superseded_;
  } else {
    statistics.Shrink(outcome.allocation->bytes);
  }
}

void MemoryLedger::Create(const MemoryCall& call) {
  const MemoryKind kind = call.kind == MemoryKind::kImported ? call.kind : MemoryKind::kPhysical;
  MemoryKindStatistics& statistics = Of(kind);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  ++statistics.allocations;
  statistics.Grow(call.bytes);
  const uint64_t physical = next_physical_++;
  physical_[physical] = {call.bytes, 1, kind, call.stack};
  std::vector<Handle>& uses = handles_[call.address];
  if (uses.size() >= kMaximumUsesOfAHandle) {
    DropReference(uses.front().physical);
    uses.erase(uses.begin());
  }
  uses.push_back({physical, call.end_ns, 1, false});
}

// The newest use of the value that had begun by then, or the oldest.
MemoryLedger::Handle* MemoryLedger::FindHandle(uint64_t handle, uint64_t time_ns) {
  const auto uses = handles_.find(handle);
  if (uses == handles_.end()) return nullptr;
  for (auto use = uses->second.rbegin(); use != uses->second.rend(); ++use) {
    if (use->since_ns <= time_ns) return &*use;
  }
  return &uses->second.front();
}

void MemoryLedger::Release(const MemoryCall& call) {
  Handle* handle = FindHandle(call.address, call.start_ns);
  const auto known = handle == nullptr ? physical_.end() : physical_.find(handle->physical);
  MemoryKindStatistics& statistics = Of(known == physical_.end() ? MemoryKind::kPhysical : known->second.kind);
  statistics.call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++statistics.failures;
    return;
  }
  if (handle == nullptr) {
    ++unknown_frees_;
    return;
  }
  if (--handle->references > 0) return;
  if (!handle->retained) ++statistics.frees;
  const uint64_t physical = handle->physical;
  std::vector<Handle>& uses = handles_[call.address];
  uses.erase(uses.begin() + (handle - uses.data()));
  if (uses.empty()) handles_.erase(call.address);
  DropReference(physical);
}

void MemoryLedger::Retain(const MemoryCall& call) {
  if (call.failed) return;
  auto range = mapped_.upper_bound(call.address);
  if (range == mapped_.begin()) return;
  --range;
  if (call.address >= range->second.end || range->second.physical == 0) return;
  const uint64_t physical = range->second.physical;
  Handle* handle = FindHandle(call.handle, call.end_ns);
  if (handle != nullptr && handle->physical == physical) {
    ++handle->references;
    return;
  }
  // The handle had been released: this is a new one for the same memory.
  ++physical_[physical].references;
  handles_[call.handle].push_back({physical, call.end_ns, 1, true});
}

void MemoryLedger::DropReference(uint64_t physical) {
  const auto memory = physical_.find(physical);
  if (memory == physical_.end() || --memory->second.references > 0) return;
  Of(memory->second.kind).Shrink(memory->second.bytes);
  physical_.erase(memory);
}

void MemoryLedger::DropMapping(uint64_t address, const MappedRange& range) {
  const auto memory = physical_.find(range.physical);
  if (memory == physical_.end()) return;
  if (memory->second.kind == MemoryKind::kImported) Of(MemoryKind::kImported).Shrink(range.end - address);
  DropReference(range.physical);
}

void MemoryLedger::Map(const MemoryCall& call) {
  const Handle* handle = FindHandle(call.handle, call.start_ns);
  const auto memory = handle == nullptr ? physical_.end() : physical_.find(handle->physical);
  const MemoryKind kind = memory == physical_.end() ? MemoryKind::kPhysical : memory->second.kind;
  Of(kind).call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++Of(kind).failures;
    return;
  }
  if (call.address == 0 || call.bytes == 0) return;
  MappedRange range;
  range.end = EndOf(call);
  range.since_ns = call.end_ns;
  if (memory != physical_.end()) {
    range.physical = handle->physical;
    ++memory->second.references;
    // How large imported memory is, no call says before this one.
    if (kind == MemoryKind::kImported) Of(kind).Grow(range.end - call.address);
  }
  const auto [entry, is_new] = mapped_.try_emplace(call.address, range);
  if (!is_new) {
    const MappedRange before = entry->second;
    entry->second = range;
    DropMapping(call.address, before);
  }
  table_.Add(call.address, call.bytes, call.end_ns, kind, call.stack);
}

void MemoryLedger::SetAccess(const MemoryCall& call) {
  if (call.failed || call.location < 0 || call.location >= 64) return;
  const uint64_t device = uint64_t{1} << call.location;
  for (auto range = mapped_.lower_bound(call.address); range != mapped_.end() && range->first < EndOf(call); ++range) {
    MappedRange& mapped = range->second;
    if (call.flags == 0) {  // CU_MEM_ACCESS_FLAGS_PROT_NONE
      mapped.access_devices &= ~device;
      continue;
    }
    if (mapped.access_devices == 0) mapped.accessible_since_ns = call.start_ns;
    mapped.access_devices |= device;
  }
}

void MemoryLedger::Unmap(const MemoryCall& call) {
  Of(MemoryKind::kPhysical).call_ns += call.end_ns - call.start_ns;
  if (call.failed) {
    ++Of(MemoryKind::kPhysical).failures;
    return;
  }
  // One call may unmap many neighbouring mappings, but never a part of one.
  const uint64_t end = EndOf(call);
  auto range = mapped_.lower_bound(call.address);
  if (range == mapped_.end() || (range->first >= end && range->first != call.address)) ++unknown_frees_;
  while (range != mapped_.end() && (range->first < end || range->first == call.address)) {
    if (range->second.since_ns > call.start_ns) {  // its address was mapped again before this call was read
      ++range;
      continue;
    }
    const auto outcome = table_.Free(range->first, call.start_ns, call.end_ns);
    if (outcome.allocation != nullptr && !outcome.was_superseded) {
      outcome.allocation->ended_by = EndedBy::kUnmap;
      outcome.allocation->freed_stack = call.stack;
      outcome.allocation->freed_tid = call.tid;
      ended_.push_back({outcome.allocation, range->second.access_devices, range->second.accessible_since_ns});
    }
    DropMapping(range->first, range->second);
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
  const ReservedRange range{call.bytes, call.end_ns};
  const auto [entry, is_new] = reserved_.try_emplace(call.address, range);
  if (!is_new) {
    ++superseded_;
    statistics.Shrink(entry->second.bytes);
    entry->second = range;
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
  if (entry->second.since_ns > call.start_ns) {  // reserved again before this call was read
    if (superseded_ > 0) --superseded_;
    return;
  }
  statistics.Shrink(entry->second.bytes);
  reserved_.erase(entry);
}

std::vector<HeldMemory> MemoryLedger::Held() const {
  std::vector<HeldMemory> held;
  const SiteMemories& sites = table_.sites();
  for (uint32_t site = 0; site < sites.size(); ++site) {
    const SiteMemory& memory = sites[site];
    if (memory.live_bytes == 0 || memory.kind == MemoryKind::kPhysical) continue;
    held.push_back({memory.kind, memory.stack, memory.live_bytes, memory.live_allocations});
  }
  std::unordered_map<uint32_t, HeldMemory> physical;  // by stack
  for (const auto& [id, memory] : physical_) {
    if (memory.kind != MemoryKind::kPhysical) continue;
    HeldMemory& sum = physical[memory.stack];
    sum.kind = memory.kind;
    sum.stack = memory.stack;
    sum.bytes += memory.bytes;
    ++sum.allocations;
  }
  for (const auto& [stack, memory] : physical) held.push_back(memory);
  std::sort(held.begin(), held.end(), [](const HeldMemory& a, const HeldMemory& b) {
    return std::tuple(b.bytes, a.kind, a.stack) < std::tuple(a.bytes, b.kind, b.stack);
  });
  return held;
}

SmallAllocations MemoryLedger::SmallDeviceMemory() const {
  SmallAllocations small;
  std::unordered_set<uint64_t> pieces;
  table_.ForEach([&](const Allocation& allocation) {
    if (!allocation.live() || allocation.kind != MemoryKind::kDevice || allocation.bytes == 0 ||
        allocation.bytes >= SmallAllocations::kPieceBytes) {
      return;
    }
    ++small.allocations;
    small.bytes += allocation.bytes;
    pieces.insert(allocation.base / SmallAllocations::kPieceBytes);
    pieces.insert((allocation.end - 1) / SmallAllocations::kPieceBytes);
  });
  small.pieces = pieces.size();
  return small;
}

void MemoryLedger::Reset(const MemoryCall& call) {
  if (call.failed) return;
  if (devices_ > 1) {
    ++unclear_resets_;
    return;
  }
  table_.ForEachLive([&](Allocation* allocation) {
    if (!EndsWithItsDevice(allocation->kind) || allocation->allocated_ns > call.start_ns) return;
    table_.End(allocation, call.end_ns);
    allocation->ended_by = EndedBy::kReset;
    allocation->freed_stack = call.stack;
    allocation->freed_tid = call.tid;
    MemoryKindStatistics& statistics = Of(allocation->kind);
    ++statistics.frees;
    statistics.Shrink(allocation->bytes);
  });
}

}  // namespace uvmtrace::analyzer
