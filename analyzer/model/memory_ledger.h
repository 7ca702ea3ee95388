// Memory by kind: how much was allocated, how much lives, the peak, what the calls cost.
//
// Physical memory (cuMemCreate) has no address: it lives until every reference to its handle is released *and* every
// mapping of it is gone. What is mapped is an allocation at its address, so that faults there find it. Handles and
// addresses are used again, and the call that gave one up may be read after the call that got it: each is told apart by
// when it began.
//
// Imported memory is another process's or library's: it has a row of its own, and its bytes are those that are mapped
// here.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "analyzer/model/allocation_table.h"
#include "analyzer/read/chunk.h"

namespace uvmtrace::analyzer {

struct MemoryKindStatistics {
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t live_bytes = 0;
  uint64_t peak_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t call_ns = 0;
  uint64_t failures = 0;

  void Grow(uint64_t bytes) {
    live_bytes += bytes;
    total_bytes += bytes;
    if (live_bytes > peak_bytes) peak_bytes = live_bytes;
  }
  void Shrink(uint64_t bytes) { live_bytes -= bytes < live_bytes ? bytes : live_bytes; }
};

struct MemoryCall {
  Operation operation = Operation::kOther;
  MemoryKind kind = MemoryKind::kUnknown;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  bool failed = false;
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t handle = 0;  // of a mapping
  uint32_t stack = 0;
  uint32_t function = 0;
  uint32_t tid = 0;
  int32_t result = 0;
  int32_t location = 0;
  uint64_t stream = 0;
  uint64_t flags = 0;
  bool stream_ordered = false;  // a free that happens when its stream gets there
  bool graph = false;           // made while a graph was captured or built

  // When the call takes effect, for ordering the calls of several threads.
  uint64_t EffectNs() const {
    switch (operation) {
      case Operation::kFree:
      case Operation::kUnregister:
      case Operation::kUnreserve:
      case Operation::kRelease:
      case Operation::kUnmap:
      case Operation::kReset:
      case Operation::kCopy:
      case Operation::kSet:
      case Operation::kPrefetch:
      case Operation::kAdvise:
        return start_ns;
      default:
        return end_ns;
    }
  }
};

// What lives, by kind and the call that allocated it.
struct HeldMemory {
  MemoryKind kind = MemoryKind::kUnknown;
  uint32_t stack = 0;
  uint64_t bytes = 0;
  uint64_t allocations = 0;
};

// Device allocations below 2 MiB share pieces of 2 MiB: a piece is free again when all in it are.
struct SmallAllocations {
  static constexpr uint64_t kPieceBytes = uint64_t{2} << 20;
  uint64_t allocations = 0;
  uint64_t bytes = 0;
  uint64_t pieces = 0;
};

class MemoryLedger {
 public:
  static bool IsMemoryOperation(Operation operation);

  void Apply(const MemoryCall& call);

  // cuMemRetainAllocationHandle: one more reference to the memory that is mapped at call.address.
  void Retain(const MemoryCall& call);
  // cuMemSetAccess.
  void SetAccess(const MemoryCall& call);
  // A reset ends what its device has, which a trace of several devices does not tell.
  void SetDevices(size_t devices) { devices_ = devices; }

  // What the last call ended; valid until the next one.
  struct Ended {
    Allocation* allocation;
    uint64_t access_devices = 0;       // of a mapping: bit n is CUDA device n
    uint64_t accessible_since_ns = 0;  // of a mapping: 0 never
  };
  const std::vector<Ended>& ended() const { return ended_; }

  // What takes memory now, the largest first: without reserved addresses, and physical memory once, however often it is
  // mapped.
  std::vector<HeldMemory> Held() const;
  SmallAllocations SmallDeviceMemory() const;

  AllocationTable& table() { return table_; }
  const AllocationTable& table() const { return table_; }
  const MemoryKindStatistics& of(MemoryKind kind) const { return kinds_[static_cast<size_t>(kind)]; }

  uint64_t unknown_frees() const { return unknown_frees_; }    // of addresses that nothing known was allocated at
  uint64_t missed_frees() const { return superseded_; }        // addresses allocated again without a free in between
  uint64_t unclear_resets() const { return unclear_resets_; }  // of one device of several

 private:
  struct PhysicalMemory {
    uint64_t bytes = 0;
    uint64_t references = 0;  // handles and mappings
    MemoryKind kind = MemoryKind::kPhysical;
    uint32_t stack = 0;
  };
  struct Handle {
    uint64_t physical = 0;
    uint64_t since_ns = 0;
    uint64_t references = 0;
    bool retained = false;  // got from a mapping: its release frees nothing of its own
  };
  struct MappedRange {
    uint64_t end = 0;
    uint64_t physical = 0;  // 0: unknown handle
    uint64_t since_ns = 0;
    uint64_t access_devices = 0;
    uint64_t accessible_since_ns = 0;
  };
  struct ReservedRange {
    uint64_t bytes = 0;
    uint64_t since_ns = 0;
  };

  MemoryKindStatistics& Of(MemoryKind kind) { return kinds_[static_cast<size_t>(kind)]; }
  void Allocate(const MemoryCall& call);
  void Free(const MemoryCall& call);
  void Create(const MemoryCall& call);
  void Release(const MemoryCall& call);
  void Map(const MemoryCall& call);
  void Unmap(const MemoryCall& call);
  void Reserve(const MemoryCall& call);
  void Unreserve(const MemoryCall& call);
  void Reset(const MemoryCall& call);
  Handle* FindHandle(uint64_t handle, uint64_t time_ns);
  void DropReference(uint64_t physical);
  void DropMapping(uint64_t address, const MappedRange& range);

  std::array<MemoryKindStatistics, kMemoryKindCount> kinds_;
  AllocationTable table_;
  std::unordered_map<uint64_t, std::vector<Handle>> handles_;  // by value; the newest last
  std::unordered_map<uint64_t, PhysicalMemory> physical_;
  std::map<uint64_t, MappedRange> mapped_;
  std::unordered_map<uint64_t, ReservedRange> reserved_;
  std::vector<Ended> ended_;
  size_t devices_ = 0;
  uint64_t unclear_resets_ = 0;
  uint64_t next_physical_ = 1;
  uint64_t unknown_frees_ = 0;
  uint64_t superseded_ = 0;
};

}  // namespace uvmtrace::analyzer
