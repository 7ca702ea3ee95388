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
#include <vector>

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
  static constexpr uint64_t kSlotNs = 1'000'000;  // clocks agree to this

  // Windows first, then Seal, then what was recorded in them, in any order.
  void AddWindow(uint64_t start_ns, uint64_t end_ns);
  void Seal();
  void Add(uint64_t time_ns, size_t direction, size_t cause, uint64_t bytes);
  // Of the same windows.
  void Merge(const SampledMigrations& other);

  // Everything so far. What fell into no known window counts as one of its own.
  SampleMoments Moments() const;
  uint64_t windows() const { return windows_.size(); }
  uint64_t windows_ns() const { return windows_ns_; }

 private:
  struct Window {
    uint64_t start_ns = 0;
    uint64_t end_ns = 0;
    SampledBytes sum;

    bool Has(uint64_t time_ns) const {
      return time_ns / kSlotNs >= start_ns / kSlotNs && time_ns / kSlotNs <= end_ns / kSlotNs;
    }
  };

  std::vector<Window> windows_;
  SampledBytes without_window_;
  uint64_t windows_ns_ = 0;
  size_t last_ = 0;
};

}  // namespace uvmtrace::analyzer
