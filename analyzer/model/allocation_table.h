// Which allocation lived at an address at a time.
//
// Records of faults and migrations arrive late and out of order, and addresses are used again, so a map of what is
// alive *now* gives wrong answers. This is a sorted array of base addresses, each with its allocations over time
// ([allocated, freed)), and a cache of the last hit, which answers nearly always. New bases are collected and merged in
// when the next question comes.
// Memory: one Allocation for each that had events or may still get some; those freed long ago without any are forgotten
// when their address is used again. Each call takes a time that does not grow with how often an address was used
// before: programs allocate and free the same few addresses millions of times.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "analyzer/model/residency.h"

namespace uvmtrace::analyzer {

// Values of uvmtrace.proto's MemoryKind.
enum class MemoryKind : uint8_t {
  kUnknown = 0,
  kDevice = 1,
  kManaged = 2,
  kPinned = 3,
  kRegistered = 4,
  kPool = 5,
  kPhysical = 6,
  kReserved = 7,
  kImported = 8,
};
inline constexpr size_t kMemoryKindCount = 9;

// How an allocation came to its end.
enum class EndedBy : uint8_t {
  kNothing,
  kFree,
  kStreamOrderedFree,  // cudaFreeAsync: it ends when the stream gets there
  kUnmap,
  kReset,      // of the device
  kSuccessor,  // its free was never seen, but its address was allocated again
};

// What happened to the memory of one allocation, or to memory of no known one.
struct MemoryActivity {
  uint64_t gpu_fault_groups = 0;   // CUPTI
  uint64_t gpu_fault_records = 0;  // CUPTI
  uint64_t gpu_fault_entries = 0;  // driver's queue
  uint64_t cpu_faults = 0;
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t device_to_device_bytes = 0;
  uint64_t evicted_bytes = 0;
  uint64_t refaulted_bytes = 0;
  // The part of the bytes above that was recorded at the detail "sampled": it stands for more.
  uint64_t sampled_host_to_device_bytes = 0;
  uint64_t sampled_device_to_host_bytes = 0;
  uint64_t sampled_device_to_device_bytes = 0;
  uint64_t sampled_evicted_bytes = 0;

  bool any() const {
    return (gpu_fault_records | gpu_fault_entries | cpu_faults | host_to_device_bytes | device_to_host_bytes |
            device_to_device_bytes) != 0;
  }
  bool any_sampled() const {
    return (sampled_host_to_device_bytes | sampled_device_to_host_bytes | sampled_device_to_device_bytes) != 0;
  }
  void Add(const MemoryActivity& other) {
    gpu_fault_groups += other.gpu_fault_groups;
    gpu_fault_records += other.gpu_fault_records;
    gpu_fault_entries += other.gpu_fault_entries;
    cpu_faults += other.cpu_faults;
    AddBytes(other);
  }
  void AddBytes(const MemoryActivity& other) {
    host_to_device_bytes += other.host_to_device_bytes;
    device_to_host_bytes += other.device_to_host_bytes;
    device_to_device_bytes += other.device_to_device_bytes;
    evicted_bytes += other.evicted_bytes;
    refaulted_bytes += other.refaulted_bytes;
    sampled_host_to_device_bytes += other.sampled_host_to_device_bytes;
    sampled_device_to_host_bytes += other.sampled_device_to_host_bytes;
    sampled_device_to_device_bytes += other.sampled_device_to_device_bytes;
    sampled_evicted_bytes += other.sampled_evicted_bytes;
  }
};

struct Allocation {
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  uint64_t id = 0;  // from 1, in the order of the trace
  uint64_t base = 0;
  uint64_t bytes = 0;
  uint64_t end = 0;           // base + bytes
  uint64_t reach = 0;         // end, rounded up to what the driver moves as one piece
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
  MemoryActivity activity;
  Residency residency;

  bool live() const { return freed_ns == kNever; }
};

class AllocationTable {
 public:
  // Times of events and of calls come from different clocks; an event this much after the free, or before the
  // allocation, still belongs to it unless another allocation was there.
  static constexpr uint64_t kClockErrorNs = 1'000'000;
  // The driver moves whole pages, 64 KiB at a time: an event in the padding of an allocation is its own.
  static constexpr uint64_t kGranuleBytes = 64 << 10;

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

  // The allocation that `address` belonged to at time_ns, or null.
  Allocation* Find(uint64_t address, uint64_t time_ns) {
    if (last_hit_ != nullptr && address - last_hit_->base < last_hit_->bytes && time_ns >= last_hit_->allocated_ns &&
        time_ns < last_hit_->freed_ns) {
      return last_hit_;
    }
    return Search(address, time_ns);
  }

  // Who lived at an address at an instant of the calls' own clock, to the nanosecond: no benefit of the doubt.
  struct Occupants {
    Allocation* live = nullptr;
    Allocation* freed = nullptr;  // the last one that had ended by then
  };
  Occupants At(uint64_t address, uint64_t time_ns);

  // Splits [address, address + bytes) among the allocations that it touches. Calls on_part(allocation or null, address,
  // bytes) for consecutive parts that add up to the whole.
  template <typename OnPart>
  void Split(uint64_t address, uint64_t bytes, uint64_t time_ns, OnPart on_part) {
    Allocation* allocation = Find(address, time_ns);
    if (allocation != nullptr && address < allocation->end && bytes <= allocation->end - address) {
      on_part(allocation, address, bytes);
      return;
    }
    // Damage that claims a huge migration must not make us walk all allocations for every record.
    for (int parts = 0; bytes > 0; ++parts) {
      uint64_t part = bytes;
      allocation = parts < kMaximumParts ? Find(address, time_ns) : nullptr;
      if (parts < kMaximumParts) {
        Allocation* next = NextAfter(address, time_ns);
        if (allocation != nullptr) part = std::min(part, allocation->reach - address);
        if (next != nullptr && next != allocation) {
          part = std::min(part, next->base - address);
          // The start of the page that the next allocation begins in.
          if (allocation == nullptr && next->base / kGranuleBytes == address / kGranuleBytes) {
            allocation = next;
          }
        }
      }
      on_part(allocation, address, part);
      address += part;
      bytes -= part;
    }
  }

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

  // How many versions were looked at by all calls so far: what the time depends on.
  uint64_t steps() const { return steps_; }

 private:
  static constexpr int kMaximumParts = 4096;

  // All that is known of one base address.
  struct Versions {
    std::vector<std::unique_ptr<Allocation>> list;  // oldest first
    uint64_t end = 0;                               // the largest of any version so far; so is `reach`
    uint64_t reach = 0;
    // Forget looks at all versions: not before there are so many, or a program that uses an address a million times
    // would have a million looked at for each of them.
    size_t forget_at = 8;
    // Not freed so far, by Free; no fewer than there are, for a reset ends allocations as well.
    size_t open = 0;
  };
  struct Base {
    uint64_t address;
    uint64_t reach;  // of this base's allocations and of all bases before it
    Versions* versions;
  };

  // Where versions of one base were recorded in another order than they lived, it is by no more than this.
  static constexpr int kVersionsOutOfOrder = 8;

  Allocation* Search(uint64_t address, uint64_t time_ns);
  Allocation* NextAfter(uint64_t address, uint64_t time_ns);
  void MergeNewBases();
  void Forget(Versions* versions, uint64_t time_ns);

  std::unordered_map<uint64_t, Versions> by_base_;
  // For At, which is asked between two allocations: `bases_` is made for many questions after many allocations.
  std::map<uint64_t, const Versions*> ordered_;
  uint64_t largest_bytes_ = 0;
  std::vector<Base> bases_;
  std::vector<uint64_t> new_bases_;
  bool reach_is_stale_ = false;
  Allocation* last_hit_ = nullptr;
  uint64_t next_id_ = 1;
  uint64_t steps_ = 0;
};

}  // namespace uvmtrace::analyzer
