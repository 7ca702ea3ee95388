// The program's memory while its calls are read, in the order of time: what lives at an address, and what lived there
// last.
//
// Events do not ask here: each allocation leaves 40 bytes in AllocationVersions, which knows the whole run, and is
// counted in the account of its call site. So an Allocation is kept while it lives, and for a while after its end, for
// those who look for calls on dead memory.
// Each call takes a time that does not grow with how often an address was used before: programs allocate and free the
// same few addresses millions of times.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "analyzer/read/read_budget.h"
#include "analyzer/timeline/allocation_versions.h"
#include "analyzer/timeline/site_memory.h"

namespace uvmtrace::analyzer {

// How an allocation came to its end.
enum class EndedBy : uint8_t {
  kNothing,
  kFree,
  kStreamOrderedFree,  // cudaFreeAsync: it ends when the stream gets there
  kUnmap,
  kReset,      // of the device
  kSuccessor,  // its free was never seen, but its address was allocated again
};

struct Allocation {
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  uint64_t id = 0;  // from 1, in the order of the trace
  uint64_t base = 0;
  uint64_t bytes = 0;
  uint64_t end = 0;           // base + bytes
  uint64_t allocated_ns = 0;  // when the call returned
  uint64_t freed_ns = kNever;
  uint64_t last_touch_ns = 0;  // newest fault on it that was recorded so far
  uint64_t freed_stream = 0;   // of a stream-ordered free
  uint32_t stack = 0;
  uint32_t freed_stack = 0;
  uint32_t freed_tid = 0;
  MemoryKind kind = MemoryKind::kUnknown;
  EndedBy ended_by = EndedBy::kNothing;
  bool prefetched = false;    // by a call that is being followed
  bool graph_memory = false;  // allocated while a graph was captured or built: each launch may allocate it again
  bool superseded = false;    // its address was allocated again before its free was seen
  uint32_t site = 0;          // in SiteMemories
  uint32_t version = 0;       // in AllocationVersions

  bool live() const { return freed_ns == kNever; }
};

class AllocationTable {
 public:
  static constexpr uint64_t kClockErrorNs = AllocationVersions::kClockErrorNs;

  struct AddOutcome {
    Allocation* allocation;
    Allocation* superseded;  // was still live at this address: its free was not seen (yet); null if none
  };
  AddOutcome Add(uint64_t base, uint64_t bytes, uint64_t time_ns, MemoryKind kind, uint32_t stack);

  struct FreeOutcome {
    Allocation* allocation = nullptr;  // null: nothing known was allocated there
    bool was_superseded = false;       // it had been given up already
  };
  // start_ns and end_ns are of the call that frees.
  FreeOutcome Free(uint64_t base, uint64_t start_ns, uint64_t end_ns);

  // Who lived at an address at an instant of the calls' own clock, to the nanosecond: no benefit of the doubt.
  struct Occupants {
    Allocation* live = nullptr;
    Allocation* freed = nullptr;  // the last one that had ended by then
  };
  Occupants At(uint64_t address, uint64_t time_ns);

  // Memory that no call allocated: known to events alone.
  void AddSystemMemory(uint64_t base, uint64_t end, uint64_t from_ns, uint64_t until_ns, uint32_t stack);
  // Time inside a call that allocated or freed it.
  void AddCallTime(const Allocation& allocation, uint64_t time_ns) { sites_[allocation.site].call_ns += time_ns; }

  // Ends a life that no Free ends: of a reset.
  void End(Allocation* allocation, uint64_t freed_ns);

  // Every allocation that is still known.
  template <typename OnAllocation>
  void ForEach(OnAllocation on_allocation) const {
    for (const auto& [base, versions] : by_base_) {
      for (const auto& allocation : versions.list) on_allocation(*allocation);
    }
  }
  template <typename OnAllocation>
  void ForEachLive(OnAllocation on_allocation) {
    for (auto& [base, versions] : by_base_) {
      for (auto& allocation : versions.list) {
        if (allocation->live()) on_allocation(allocation.get());
      }
    }
  }

  uint64_t allocations() const { return next_id_ - 1; }
  size_t known() const { return known_; }  // that live, or ended not long ago

  // Bounds the versions; without one there are as many as allocations.
  void SetBudget(ReadBudget* budget) { budget_ = budget; }
  // Every allocation of the run, and the memory of every call site.
  AllocationVersions& versions() { return versions_; }
  const AllocationVersions& versions() const { return versions_; }
  const SiteMemories& sites() const { return sites_; }

  // How many versions were looked at by all calls so far: what the time depends on.
  uint64_t steps() const { return steps_; }

 private:
  // Freed ones that are kept, before those that ended long ago are forgotten.
  static constexpr size_t kMaximumFreed = 65536;
  // Versions of memory that never faults are given up beyond this many.
  static constexpr size_t kMaximumFixedVersions = size_t{1} << 20;
  // Of memory, for one version: itself, its place in the order, its base, and the room that vectors grow into.
  static constexpr uint64_t kBytesOfVersion = 128;

  // All that is known of one base address.
  struct Versions {
    std::vector<std::unique_ptr<Allocation>> list;  // oldest first
    uint64_t end = 0;                               // the largest of any version so far
    // Forget looks at all versions: not before there are so many, or a program that uses an address a million times
    // would have a million looked at for each of them.
    size_t forget_at = 8;
    // Not freed so far, by Free; no fewer than there are, for a reset ends allocations as well.
    size_t open = 0;
  };
  // Where versions of one base were recorded in another order than they lived, it is by no more than this.
  static constexpr int kVersionsOutOfOrder = 8;

  bool KeepsVersion(MemoryKind kind);
  void Forget(Versions* versions, uint64_t time_ns);
  void ForgetFreed(uint64_t time_ns);

  std::unordered_map<uint64_t, Versions> by_base_;
  std::map<uint64_t, const Versions*> ordered_;
  uint64_t largest_bytes_ = 0;
  AllocationVersions versions_;
  SiteMemories sites_;
  size_t fixed_versions_ = 0;
  ReadBudget* budget_ = nullptr;
  size_t known_ = 0;
  size_t live_ = 0;
  size_t forget_freed_at_ = kMaximumFreed;
  uint64_t next_id_ = 1;
  uint64_t steps_ = 0;
};

}  // namespace uvmtrace::analyzer
