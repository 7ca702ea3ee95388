// How often the byte counters of a link are read.
//
// They are 32 bits wide, and PCIe 5.0 x16 carries 63 GB/s: they wrap after 68 ms at the earliest. A reading costs 0.3
// ms. While bytes flow they are read as rarely as is safe. A link that has been quiet for two seconds is read less
// often; when bytes flow again, the first interval may hide a wrap, and is told as unsure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace uvmtrace {

class LinkPace {
 public:
  static constexpr uint64_t kWrapNs = 67'000'000;
  static constexpr uint64_t kFlowingNs = 50'000'000;
  static constexpr uint64_t kQuietNs = 250'000'000;
  // An idle H100 sends and receives 0.8 MB a second.
  static constexpr uint64_t kQuietBytes = uint64_t{1} << 20;
  static constexpr int kQuietReadings = 40;

  uint64_t period_ns() const { return quiet() ? kQuietNs : kFlowingNs; }

  // A reading found `bytes` since the last one. Returns whether there may have been 4 GiB more.
  bool Add(uint64_t bytes, uint64_t interval_ns) {
    const bool stays_quiet = quiet() && bytes < kQuietBytes;
    quiet_readings_ = bytes < kQuietBytes ? std::min(quiet_readings_ + 1, kQuietReadings) : 0;
    return interval_ns > kWrapNs && !stays_quiet;
  }

 private:
  bool quiet() const { return quiet_readings_ == kQuietReadings; }

  int quiet_readings_ = 0;
};

}  // namespace uvmtrace
