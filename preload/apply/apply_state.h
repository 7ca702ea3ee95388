// What the parts of preload/apply/ share: the file, the memory that is remembered for it, and what became of each
// change.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "preload/apply/apply_file.h"
#include "preload/apply/tracked_memory.h"
#include "preload/calls/cuda_api.h"
#include "record/os/futex.h"

namespace uvmtrace::apply {

// What became of a change. The order of kApplyCounts, from "allocations" on.
struct Counts {
  std::atomic<uint64_t> allocations;
  std::atomic<uint64_t> calls;
  std::atomic<uint64_t> bytes;
  std::atomic<uint64_t> suppressed;
  std::atomic<uint64_t> failed;
  std::atomic<uint64_t> too_large;
  std::atomic<uint64_t> result;
};

// Holds what follows it, but for the counts. Never while the driver is called: that may wait.
extern constinit ShortLock lock;
extern constinit ApplyFile file;
extern constinit TrackedMemory tracked;
extern constinit uint64_t brought_total;
extern constinit uint64_t room_bytes;  // that the GPU had for this memory when the first of it came; 0: not asked yet
extern constinit uint64_t last_used;   // address of the allocation that the last launch used
extern constinit CUstream side_stream;
extern constinit bool no_side_stream;

extern constinit Counts counts[kApplyChanges];
extern constinit std::atomic<uint64_t> wait_epoch;  // how often the program has waited
extern constinit std::atomic<bool> any_tracked;

inline void Add(std::atomic<uint64_t>* count, uint64_t value = 1) {
  count->fetch_add(value, std::memory_order_relaxed);
}
inline uint64_t Get(const std::atomic<uint64_t>& count) { return count.load(std::memory_order_relaxed); }

template <typename Visit>
void ForEachChange(uint32_t changes, Visit visit) {
  for (; changes != 0; changes &= changes - 1) visit(static_cast<size_t>(__builtin_ctz(changes)));
}

// Counts a call that was made for these changes, with what the driver answered.
void CountCall(uint32_t changes, ApplyAction action, uint64_t bytes, CUresult result);

}  // namespace uvmtrace::apply
