// Which pages of a block thrash: uvm_perf_thrashing.c as far as the driver's events do not tell it.
//
// An event says when a page begins to thrash and when it is pinned. That it has stopped is nowhere said: it follows
// from the times of the moves. All times are nanoseconds of one clock.
#pragma once

#include <cstdint>
#include <vector>

#include "uvm_model/service.h"

namespace uvm_model {

class Thrashing {
 public:
  struct Limits {
    uint64_t lapse_ns = 500'000;    // uvm_perf_thrashing_lapse_usec
    uint64_t epoch_lapses = 2'000;  // uvm_perf_thrashing_epoch
    uint64_t pin_lapses = 300;      // uvm_perf_thrashing_pin
    uint32_t max_resets = 4;        // uvm_perf_thrashing_max_resets
  };

  // Call before a service: drops pins and states that are too old.
  void Expire(uint64_t time_ns, const Limits& limits);
  // The driver said so of this page. It counts from the next service on.
  void Begin(int page, uint64_t time_ns);
  void Pin(int page, int processor, uint64_t time_ns, const Limits& limits);
  // The pages were copied. A page that had been quiet for a lapse has stopped thrashing.
  void Moved(const PageMask& pages, uint64_t time_ns, const Limits& limits);

  const ThrashingView& view() const { return view_; }

 private:
  struct PageState {
    int16_t page;
    int8_t pinned_at = kNoProcessor;
    uint64_t last_ns = 0;
    uint64_t pinned_until_ns = 0;
  };
  PageState& StateOf(int page);
  void UpdateView();

  ThrashingView view_;
  std::vector<PageState> states_;  // of the pages that thrash
  uint64_t last_ns_ = 0;
  uint32_t resets_ = 0;
};

}  // namespace uvm_model
