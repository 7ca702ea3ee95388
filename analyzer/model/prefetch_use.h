// Managed memory that was prefetched to a GPU and freed before anything used it.
//
// A GPU that uses what was prefetched leaves no fault, so any kernel on any device between the prefetch and the free
// may have been the use; so may a copy, a fault, a graph. What is called unused here had none of them.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

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
  };
  struct Memory {
    uint64_t base = 0;
    uint64_t bytes = 0;
    uint32_t stack = 0;
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
  void Moved(uint64_t allocation_id, uint64_t time_ns, uint64_t bytes, uint64_t duration_ns);
  // False: it was not prefetched.
  bool Free(uint64_t allocation_id, uint64_t start_ns);

  bool full() const { return freed_ >= 2 * kMaximumFreed; }
  void Lay(const KernelWindow& window, uint64_t forgotten_until_ns);
  // Memory that was freed, with those prefetches that nothing used. Of all, or only where no kernel can still come.
  std::vector<Memory> Take(bool all, uint64_t newest_ns);

 private:
  std::unordered_map<uint64_t, Memory> memory_;
  uint64_t used_any_ns_ = 0;
  size_t freed_ = 0;
};

}  // namespace uvmtrace::analyzer
