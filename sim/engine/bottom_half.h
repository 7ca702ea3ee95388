// The thread "UVM GPU1 BH": services batches of GPU faults, one after the other, and burns the CPU time they cost.
#pragma once

#include <cstdint>

#include "sim/engine/clock.h"
#include "sim/engine/thread.h"

namespace uvmsim {

// On both clocks that the driver's clients see: CUPTI's records count in one, the tools events in the other.
struct Interval {
  uint64_t start_ns = 0;  // CLOCK_REALTIME
  uint64_t end_ns = 0;
  uint64_t raw_start_ns = 0;  // CLOCK_MONOTONIC_RAW
  uint64_t raw_end_ns = 0;

  void Start() {
    start_ns = RealtimeNs();
    raw_start_ns = RawNs();
  }
  void End() {
    end_ns = RealtimeNs();
    raw_end_ns = RawNs();
  }
};

class BottomHalf {
 public:
  // Returns when the thread runs and tid() is known.
  bool Start(int gpu);
  // Hands one batch over and waits until it has been serviced.
  Interval Service(double cpu_ns);
  int tid() const { return tid_; }
  // All that Service was ever asked for.
  double serviced_ns() const { return serviced_ns_; }

 private:
  static void* Run(void* self);

  Mutex mutex_;
  Condition changed_;
  bool has_work_ = false;
  bool done_ = false;
  double work_ns_ = 0;
  double serviced_ns_ = 0;
  Interval interval_;
  int tid_ = 0;
};

}  // namespace uvmsim
