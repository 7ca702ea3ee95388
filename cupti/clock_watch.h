// Samples of all clocks, CUPTI's among them, and the detection of a change.
//
// CUPTI's times are CLOCK_REALTIME by default, which NTP may step, and any client of the process may replace them by a
// clock of its own (torch.profiler registers a counter of CPU cycles). The analyzer converts times between samples, so
// that a step needs a sample right before and right after it: the drain thread looks at every tick.
#pragma once

#include <cstdint>

#include "cupti/cupti_api.h"
#include "record/os/clocks.h"

namespace uvmtrace {

class ClockWatch {
 public:
  // Reads all clocks. Records a sample if the last is a second old, or if a clock has moved against CLOCK_MONOTONIC by
  // more than a scheduler's delay can explain. Sets the source state "cupti.clock". `api` may be null: no CUPTI.
  void Tick(const CuptiApi* api, bool force);
  // Whether CUPTI's clock is one that a client brought along.
  bool replaced() const { return base_ == Base::kOther; }
  // Whether it is so now. Before CUPTI is armed that tells of a client which is at work already.
  static bool IsReplaced(const CuptiApi& api);

 private:
  enum class Base : uint8_t { kNotLooked, kRealtime, kMonotonicRaw, kMonotonic, kOther };

  using Reading = ClockReading;  // the other clock is CUPTI's
  static Reading Read(const CuptiApi* api);
  Base BaseOf(const Reading& reading) const;
  void TellBase(Base base);

  Reading last_{};
  Reading previous_{};
  bool sampled_ = false;
  Base base_ = Base::kNotLooked;
};

}  // namespace uvmtrace
