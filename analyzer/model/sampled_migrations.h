// Migrations that were recorded only in windows (detail "sampled"): what is needed to tell the whole from them, and how
// sure that is.
//
// A window is a cluster: within it everything was recorded, and windows differ because the program does. The bytes of a
// cause among all bytes of its direction are a ratio estimator over windows; its variance needs no more than the sums
// of products that are kept here. So memory is bounded by the windows that are still open: the last kOpenWindows,
// because records arrive after the row of their window or before it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

#include "analyzer/model/kinds.h"

namespace uvmtrace::analyzer {

struct SampledBytes {
  std::array<std::array<uint64_t, kMigrationCauseCount>, kDirectionCount> bytes{};

  void Add(const SampledBytes& other);
  bool any() const;
};

// Sums over windows: x is a window's bytes of a direction, y those of one cause among them. In MiB, so that the squares
// stay exact enough.
struct SampleMoments {
  struct Direction {
    uint64_t windows = 0;  // in which this direction moved anything
    double x = 0;
    double xx = 0;
    std::array<double, kMigrationCauseCount> y{};
    std::array<double, kMigrationCauseCount> yy{};
    std::array<double, kMigrationCauseCount> xy{};
  };
  std::array<Direction, kDirectionCount> directions;

  void AddWindow(const SampledBytes& window);
  // Half the width of the 95 % interval of cause's share of its direction, or a negative number if the windows are too
  // few to tell.
  double HalfWidth(size_t direction, size_t cause) const;
};

class SampledMigrations {
 public:
  static constexpr size_t kOpenWindows = 64;
  static constexpr size_t kMaximumWaiting = 4096;
  static constexpr uint64_t kSlotNs = 1'000'000;  // what waits for its window waits by the millisecond

  void AddWindow(uint64_t start_ns, uint64_t end_ns);
  void Add(uint64_t time_ns, size_t direction, size_t cause, uint64_t bytes);

  // Everything so far. What fell into no known window counts as one of its own.
  SampleMoments Moments() const;
  uint64_t windows() const { return windows_; }
  uint64_t windows_ns() const { return windows_ns_; }

 private:
  struct Window {
    uint64_t start_ns;
    uint64_t end_ns;
    SampledBytes sum;
  };

  std::deque<Window> open_;
  std::map<uint64_t, SampledBytes> waiting_;  // by time / kSlotNs
  SampledBytes without_window_;               // waited too long
  SampleMoments closed_;
  uint64_t windows_ = 0;
  uint64_t windows_ns_ = 0;
};

}  // namespace uvmtrace::analyzer
