// Pages that the host and the GPUs take from each other by page faults, again and again: uvm_perf_thrashing.c.
//
// A page counts a move if it comes to another processor within a lapse of its last one. From `threshold` moves on it
// thrashes: who faults on it while it is fresh at its place has to wait for a nap ("throttling"). At `pin_threshold` it
// is pinned on the host for a while, where GPUs map it. Evictions and prefetch calls count for nothing, so that one GPU
// whose memory is too small never thrashes in the driver's sense.
//
// All times are virtual. The engine's lock protects everything.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>

#include "sim/engine/paging_model.h"

namespace uvmsim {

class ThrashingDetector {
 public:
  // Module parameters of nvidia-uvm.
  struct Limits {
    double lapse_ns = 500'000;  // uvm_perf_thrashing_lapse_usec
    uint8_t threshold = 3;      // uvm_perf_thrashing_threshold
    uint8_t pin_threshold = 10;
    double nap_lapses = 1;
    double pin_lapses = 300;
  };
  // Pages of one block.
  struct Found {
    PageMask detected;  // thrash from now on
    PageMask pinned;    // are to stay on the host from now on
  };

  // Pages of one block came to a processor by a fault. What a GPU takes is remembered; a page that only the host ever
  // had is not, so that this allocates no memory for kCpu.
  Found Moved(uint64_t address, uint64_t bytes, int processor, double now_ns);
  // How long a processor that faults on the pages has to wait.
  double ThrottleNs(uint64_t address, uint64_t bytes, int processor, double now_ns) const;
  // Whether the pins of the block at the address are over. Their count begins anew then.
  bool TakeUnpinned(uint64_t address, double now_ns);
  void Forget(uint64_t address, uint64_t bytes);
  bool Empty() const { return blocks_.empty(); }

 private:
  struct Page {
    double last_ns = 0;
    int8_t processor = kNoProcessor;
    uint8_t moves = 0;
  };
  struct BlockState {
    std::array<Page, kPagesPerBlock> pages;
    PageMask pinned;
    double pinned_until_ns = 0;
  };

  const Limits limits_;
  std::map<uint64_t, std::unique_ptr<BlockState>> blocks_;  // by the 2 MiB boundary
};

}  // namespace uvmsim
