// Clocks, in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

namespace uvmtrace {

// 0: this kernel has no such clock.
inline uint64_t ReadClockNs(clockid_t clock) {
  timespec now;
  if (clock_gettime(clock, &now) != 0) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

// The clock of the trace: CLOCK_MONOTONIC.
inline uint64_t NowNs() { return ReadClockNs(CLOCK_MONOTONIC); }

// All clocks at one instant.
struct ClockReading {
  uint64_t monotonic_ns = 0;
  uint64_t realtime_ns = 0;
  uint64_t monotonic_raw_ns = 0;
  uint64_t other_ns = 0;
  uint64_t width_ns = UINT64_MAX;  // no clock is further off than this
};

// The clocks are read between two readings of CLOCK_MONOTONIC whose middle stands for the instant, and again if
// something came in between: the narrowest reading wins. `other` reads one more clock.
template <typename Other>
ClockReading ReadClocks(const Other& other) {
  constexpr int kTries = 4;
  constexpr uint64_t kNarrowNs = 2'000;
  ClockReading best;
  for (int i = 0; i < kTries && best.width_ns > kNarrowNs; ++i) {
    ClockReading reading;
    const uint64_t before_ns = NowNs();
    reading.other_ns = other();
    reading.realtime_ns = ReadClockNs(CLOCK_REALTIME);
    reading.monotonic_raw_ns = ReadClockNs(CLOCK_MONOTONIC_RAW);
    reading.width_ns = NowNs() - before_ns;
    reading.monotonic_ns = before_ns + reading.width_ns / 2;
    if (reading.width_ns < best.width_ns) best = reading;
  }
  return best;
}

inline ClockReading ReadClocks() {
  return ReadClocks([] { return uint64_t{0}; });
}

}  // namespace uvmtrace
