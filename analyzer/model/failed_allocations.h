// Allocations that failed for want of memory, and what the program held at that moment.
//
// What was held is read from the ledger when the failed call is reached in the order of time: afterwards it is too
// late. The first failure of each place is kept, with the count of all; a program that tries again does so without end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "analyzer/model/memory_ledger.h"
#include "analyzer/read/columns.h"

namespace uvmtrace::analyzer {

// A row of AllocationFailures: what there was. 0: not known, and for limits: none.
struct MemoryAtFailure {
  uint64_t bytes = 0;
  int32_t device = kUnknownDevice;
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t pool_reserved_bytes = 0;
  uint64_t pool_used_bytes = 0;
  uint64_t host_resident_bytes = 0;
  uint64_t host_available_bytes = 0;
  uint64_t group_limit_bytes = 0;
  uint64_t group_used_bytes = 0;
  uint64_t lock_limit_bytes = 0;
  uint64_t address_limit_bytes = 0;
};

struct FailedAllocation {
  MemoryCall call;  // the first one
  uint64_t count = 0;
  uint64_t last_ns = 0;
  std::vector<HeldMemory> held;
  SmallAllocations small;
};

class FailedAllocations {
 public:
  static constexpr size_t kMaximumPlaces = 64;
  static constexpr size_t kMaximumRecords = 4096;
  static constexpr int32_t kOutOfMemory = 2;  // cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY

  // A call that failed for want of memory, before anything later is applied to the ledger.
  void Failed(const MemoryCall& call, const MemoryLedger& memory);
  void AddRecords(const ColumnBatch& batch);

  const std::vector<FailedAllocation>& places() const { return places_; }
  // What the recorder noted at that failure; nothing in older traces.
  std::optional<MemoryAtFailure> RecordOf(const MemoryCall& call) const;

 private:
  std::vector<FailedAllocation> places_;
  std::map<std::pair<uint32_t, uint32_t>, size_t> by_place_;          // by function and stack
  std::map<std::pair<uint32_t, uint64_t>, MemoryAtFailure> records_;  // by thread and start
};

}  // namespace uvmtrace::analyzer
