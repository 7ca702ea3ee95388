// Managed memory that was prefetched to a GPU and freed before anything used it.
//
// A GPU that uses what was prefetched leaves no fault, so any kernel on any device between the prefetch and the free
// may have been the use; so may a copy, a fault, a graph. What is called unused here had none of them.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "analyzer/accounts/event_sums.h"
#include "analyzer/model/kernel_overlaps.h"

namespace uvmtrace::analyzer {

class PrefetchUse {
 public:
  // A call, or one range of a batch.
  struct Prefetch {
    uint64_t start_ns = 0;
    uint64_t call_ns = 0;
    uint64_t bytes = 0;
    uint64_t moved_bytes = 0;
    uint64_t moved_ns = 0;
    uint32_t function = 0;
    uint32_t stack = 0;
    int32_t location = 0;
    uint32_t number = 0;  // in PrefetchCalls
  };
  struct Memory {
    uint64_t base = 0;
    uint64_t bytes = 0;
    uint32_t stack = 0;
    uint32_t number = 0;    // from 1
    uint64_t freed_ns = 0;  // when the free began; 0: it lives
    uint64_t last_use_ns = 0;
    std::vector<Prefetch> prefetches;  // in the order of time
  };

  // Of one allocation; older ones are taken as used.
  static constexpr size_t kMaximumPrefetches = 256;
  static constexpr size_t kMaximumFreed = 65536;

  Memory& Of(uint64_t allocation_id) { return memory_[allocation_id]; }
  void Use(uint64_t allocation_id, uint64_t time_ns);
  // A graph or a batch of copies was launched: it may use everything.
  void UseAny(uint64_t time_ns) { used_any_ns_ = time_ns > used_any_ns_ ? time_ns : used_any_ns_; }
  // After the events: the last use of each memory by its number, and what each call moved.
  void Learn(const std::vector<uint64_t>& last_use_ns, const PrefetchMoved& moved);
  // False: it was not prefetched.
  bool Free(uint64_t allocation_id, uint64_t start_ns);

  bool full() const { return freed_ >= 2 * kMaximumFreed; }
  void Lay(const KernelWindow& window, uint64_t forgotten_until_ns);
  // Too much waits for its uses: the older half counts as used.
  void Shorten();
  // Memory that was freed, with those prefetches that nothing used. Once, at the end.
  std::vector<Memory> Take();

 private:
  std::unordered_map<uint64_t, Memory> memory_;
  uint64_t used_any_ns_ = 0;
  size_t freed_ = 0;
};

}  // namespace uvmtrace::analyzer
