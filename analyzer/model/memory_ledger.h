// Memory by kind: how much was allocated, how much lives, the peak, what the calls cost.
//
// Physical memory (cuMemCreate) has no address: it lives until its handle is released *and* every mapping of it is
// gone. What is mapped is an allocation at its address, so that faults there find it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>

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

  // When the call takes effect, for ordering the calls of several threads.
  uint64_t EffectNs() const {
    switch (operation) {
      case Operation::kFree:
      case Operation::kUnregister:
      case Operation::kUnreserve:
      case Operation::kRelease:
      case Operation::kUnmap:
        return start_ns;
      default:
        return end_ns;
    }
  }
};

class MemoryLedger {
 public:
  static bool IsMemoryOperation(Operation operation);

  void Apply(const MemoryCall& call);

  AllocationTable& table() { return table_; }
  const AllocationTable& table() const { return table_; }
  const MemoryKindStatistics& of(MemoryKind kind) const { return kinds_[static_cast<size_t>(kind)]; }

  uint64_t unknown_frees() const { return unknown_frees_; }  // of addresses that nothing known was allocated at
  uint64_t missed_frees() const { return superseded_; }      // addresses allocated again without a free in between

 private:
  struct PhysicalMemory {
    uint64_t bytes = 0;
    uint64_t references = 0;
  };
  struct MappedRange {
    uint64_t end = 0;
    uint64_t physical = 0;  // 0: unknown handle
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
  void DropReference(uint64_t physical);

  std::array<MemoryKindStatistics, kMemoryKindCount> kinds_;
  AllocationTable table_;
  std::unordered_map<uint64_t, uint64_t> handles_;  // handle -> physical memory; a handle's value is used again
  std::unordered_map<uint64_t, PhysicalMemory> physical_;
  std::map<uint64_t, MappedRange> mapped_;
  std::unordered_map<uint64_t, uint64_t> reserved_;  // address -> bytes
  uint64_t next_physical_ = 1;
  uint64_t unknown_frees_ = 0;
  uint64_t superseded_ = 0;
};

}  // namespace uvmtrace::analyzer
