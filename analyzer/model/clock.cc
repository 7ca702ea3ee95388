#include "analyzer/model/clock.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

// Samples kept of each clock. An event older than the oldest of them gets that one's offset.
constexpr size_t kMaximumPoints = 8192;
// Clocks that are merely disciplined drift apart by less than this.
constexpr double kMaximumDrift = 1e-3;
constexpr double kStepNs = 200'000;

double Difference(uint64_t a, uint64_t b) { return static_cast<double>(static_cast<int64_t>(a - b)); }

}  // namespace

void ClockConverter::SetStart(uint64_t monotonic_ns, uint64_t realtime_ns) {
  Track& track = tracks_[static_cast<size_t>(TimeBase::kRealtime)];
  if (realtime_ns == 0 || !track.points.empty()) return;
  track.points.push_back({realtime_ns, monotonic_ns});
  track.from_start = true;
}

void ClockConverter::AddSamples(const ColumnBatch& samples) {
  for (size_t row = 0; row < samples.rows; ++row) {
    const uint64_t monotonic_ns = samples[clock_samples::kMonotonic][row];
    for (int clock = 1; clock < kTimeBaseCount; ++clock) {
      const uint64_t time_ns = samples[static_cast<size_t>(clock)][row];
      if (time_ns != 0) AddPoint(&tracks_[static_cast<size_t>(clock)], {time_ns, monotonic_ns});
    }
  }
}

bool ClockConverter::IsStep(const Point& before, const Point& after) {
  const double elapsed = Difference(after.monotonic_ns, before.monotonic_ns);
  const double drift = Difference(after.monotonic_ns - after.time_ns, before.monotonic_ns - before.time_ns);
  return drift > kStepNs + elapsed * kMaximumDrift || -drift > kStepNs + elapsed * kMaximumDrift;
}

void ClockConverter::AddPoint(Track* track, Point point) {
  if (track->from_start) {
    // The process definition is one reading of two clocks that may lie apart; samples are better.
    track->points.clear();
    track->from_start = false;
  }
  if (!track->points.empty()) {
    if (point.monotonic_ns <= track->points.back().monotonic_ns) return;
    if (IsStep(track->points.back(), point)) ++steps_;
  }
  if (track->points.size() >= kMaximumPoints) {
    track->points.erase(track->points.begin(), track->points.begin() + kMaximumPoints / 2);
  }
  track->points.push_back(point);
  track->segment.length = 0;
}

size_t ClockConverter::ToMonotonic(TimeBase clock, std::span<const uint64_t> times_ns, uint64_t* last_ns,
                                   uint64_t* monotonic_ns) {
  size_t unconverted = 0;
  for (size_t row = 0; row < times_ns.size();) {
    if (const auto converted = ToMonotonic(clock, times_ns[row])) {
      *last_ns = *converted;
    } else {
      ++unconverted;
    }
    monotonic_ns[row++] = *last_ns;
    if (clock == TimeBase::kMonotonic || clock == TimeBase::kUnknown) continue;
    // Those that follow are of the same segment nearly always.
    const size_t begin = row;
    for (const Segment segment = TrackOf(clock)->segment;
         row < times_ns.size() && times_ns[row] - segment.start < segment.length; ++row)
      monotonic_ns[row] = Apply(segment, times_ns[row]);
    if (row > begin) *last_ns = monotonic_ns[row - 1];
  }
  return unconverted;
}

std::optional<uint64_t> ClockConverter::Find(Track* track, uint64_t time_ns) {
  const std::vector<Point>& points = track->points;
  if (points.empty()) return std::nullopt;
  size_t index = points.size();
  // From the end: events are nearly always newer than the last sample but one.
  while (index > 0 && points[index - 1].time_ns > time_ns) {
    if (index >= 2 && IsStep(points[index - 2], points[index - 1])) {
      // The clock was set between these two samples: with the newer offset, does the event fall between them?
      const uint64_t with_new = time_ns + (points[index - 1].monotonic_ns - points[index - 1].time_ns);
      if (Difference(with_new, points[index - 2].monotonic_ns) >= 0) return with_new;
    }
    --index;
  }
  Segment& segment = track->segment;
  if (index == 0) {
    segment = {0, points[0].time_ns, points[0].monotonic_ns - points[0].time_ns, 0};
    return Apply(segment, time_ns);
  }
  const Point& before = points[index - 1];
  segment.start = before.time_ns;
  segment.offset = before.monotonic_ns - before.time_ns;
  segment.slope = 0;
  if (index == points.size()) {
    segment.length = ~uint64_t{0} - before.time_ns;
    if (index >= 2 && !IsStep(points[index - 2], before)) {
      const Point& earlier = points[index - 2];
      const double elapsed = Difference(before.time_ns, earlier.time_ns);
      const uint64_t earlier_offset = earlier.monotonic_ns - earlier.time_ns;
      if (elapsed > 0) segment.slope = Difference(segment.offset, earlier_offset) / elapsed;
      // A day without a sample must not turn noise of a microsecond into hours.
      if (segment.slope > kMaximumDrift || segment.slope < -kMaximumDrift) segment.slope = 0;
      if (time_ns - before.time_ns > uint64_t{3600} * 1'000'000'000) segment.slope = 0;
    }
    return Apply(segment, time_ns);
  }
  const Point& after = points[index];
  const uint64_t after_offset = after.monotonic_ns - after.time_ns;
  if (!IsStep(before, after)) {
    segment.length = after.time_ns - before.time_ns;
    if (segment.length > 0) {
      segment.slope = Difference(after_offset, segment.offset) / static_cast<double>(segment.length);
    }
    return Apply(segment, time_ns);
  }
  // The clock was set between these samples, and the event was before that.
  segment.length = 0;
  return std::min(time_ns + segment.offset, after.monotonic_ns);
}

}  // namespace uvmtrace::analyzer
