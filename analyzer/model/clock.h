// Every clock of a trace, converted to CLOCK_MONOTONIC.
//
// CUPTI's timestamps are CLOCK_REALTIME by default, the driver's are CLOCK_MONOTONIC_RAW; the recorder reads all clocks
// together now and then. Between two samples the offset is interpolated, after the last one it is extrapolated from the
// last two. Where the offset jumps (NTP or a person set the clock), nothing is interpolated: the time that falls
// between the two samples is taken, and the step is counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "analyzer/read/columns.h"

namespace uvmtrace::analyzer {

class ClockConverter {
 public:
  // What the process definition says: used for CLOCK_REALTIME until there is a sample.
  void SetStart(uint64_t monotonic_ns, uint64_t realtime_ns);
  void AddSamples(const ColumnBatch& samples);

  // Nothing: this clock was never sampled.
  std::optional<uint64_t> ToMonotonic(TimeBase clock, uint64_t time_ns) {
    if (clock == TimeBase::kMonotonic) return time_ns;
    if (clock == TimeBase::kUnknown) return std::nullopt;
    Track* const track = TrackOf(clock);
    const Segment& segment = track->segment;
    if (time_ns - segment.start >= segment.length) return Find(track, time_ns);
    return Apply(segment, time_ns);
  }

  // A column of times into `monotonic`. One that cannot be converted becomes the one before it, for the first
  // `*last_ns`, which is set to the last one. Returns how many of them there were.
  size_t ToMonotonic(TimeBase clock, std::span<const uint64_t> times_ns, uint64_t* last_ns, uint64_t* monotonic_ns);

  uint64_t steps() const { return steps_; }

 private:
  struct Point {
    uint64_t time_ns;
    uint64_t monotonic_ns;
  };
  struct Segment {
    uint64_t start = 0;
    uint64_t length = 0;  // 0: nothing is in it
    uint64_t offset = 0;  // monotonic - time at the start, modulo 2^64
    double slope = 0;
  };
  struct Track {
    std::vector<Point> points;
    Segment segment;  // the one that the last time fell into
    bool from_start = false;
  };

  static uint64_t Apply(const Segment& segment, uint64_t time_ns) {
    const auto correction = static_cast<int64_t>(static_cast<double>(time_ns - segment.start) * segment.slope);
    return time_ns + segment.offset + static_cast<uint64_t>(correction);
  }
  Track* TrackOf(TimeBase clock) {
    Track* const track = &tracks_[static_cast<size_t>(clock)];
    // CUPTI's clock is CLOCK_REALTIME unless another client of CUPTI changed it.
    return track->points.empty() && clock == TimeBase::kCupti ? &tracks_[static_cast<size_t>(TimeBase::kRealtime)]
                                                              : track;
  }
  static bool IsStep(const Point& before, const Point& after);
  std::optional<uint64_t> Find(Track* track, uint64_t time_ns);
  void AddPoint(Track* track, Point point);

  std::array<Track, kTimeBaseCount> tracks_;
  uint64_t steps_ = 0;
};

}  // namespace uvmtrace::analyzer
