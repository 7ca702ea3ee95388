#include "analyzer/model/sampled_migrations.h"

#include <algorithm>
#include <cmath>

namespace uvmtrace::analyzer {
namespace {

constexpr double kUnitBytes = 1 << 20;

// Two-sided 95 % quantiles of Student's t: few windows are worth less than their variance says.
double StudentQuantile(uint64_t degrees) {
  static constexpr std::array kQuantiles = {12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                            2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
  return degrees <= kQuantiles.size() ? kQuantiles[degrees - 1] : degrees < 60 ? 2.086 : 2.0;
}

}  // namespace

void SampledBytes::Add(const SampledBytes& other) {
  for (size_t direction = 0; direction < kDirectionCount; ++direction) {
    for (size_t cause = 0; cause < kMigrationCauseCount; ++cause)
      bytes[direction][cause] += other.bytes[direction][cause];
  }
}

bool SampledBytes::any() const {
  return std::any_of(bytes.begin(), bytes.end(), [](const auto& causes) {
    return std::any_of(causes.begin(), causes.end(), [](uint64_t value) { return value > 0; });
  });
}

void SampleMoments::AddWindow(const SampledBytes& window) {
  for (size_t index = 0; index < kDirectionCount; ++index) {
    Direction& direction = directions[index];
    double x = 0;
    for (const uint64_t bytes : window.bytes[index]) x += static_cast<double>(bytes) / kUnitBytes;
    if (x == 0) continue;
    ++direction.windows;
    direction.x += x;
    direction.xx += x * x;
    for (size_t cause = 0; cause < kMigrationCauseCount; ++cause) {
      const double y = static_cast<double>(window.bytes[index][cause]) / kUnitBytes;
      direction.y[cause] += y;
      direction.yy[cause] += y * y;
      direction.xy[cause] += x * y;
    }
  }
}

double SampleMoments::HalfWidth(size_t direction, size_t cause) const {
  const Direction& sums = directions[direction];
  if (sums.windows < 2 || sums.x <= 0) return -1;
  const double ratio = sums.y[cause] / sums.x;
  const double residuals = std::max(0.0, sums.yy[cause] - 2 * ratio * sums.xy[cause] + ratio * ratio * sums.xx);
  const auto windows = static_cast<double>(sums.windows);
  return StudentQuantile(sums.windows - 1) * std::sqrt(windows / (windows - 1) * residuals) / sums.x;
}

void SampledMigrations::AddWindow(uint64_t start_ns, uint64_t end_ns) {
  if (end_ns < start_ns) end_ns = start_ns;
  ++windows_;
  windows_ns_ += end_ns - start_ns;
  Window window{start_ns, end_ns, {}};
  const auto first = waiting_.lower_bound(start_ns / kSlotNs);
  auto last = first;
  while (last != waiting_.end() && last->first <= end_ns / kSlotNs) window.sum.Add((last++)->second);
  waiting_.erase(first, last);
  open_.push_back(window);
  if (open_.size() <= kOpenWindows) return;
  closed_.AddWindow(open_.front().sum);
  open_.pop_front();
}

void SampledMigrations::Add(uint64_t time_ns, size_t direction, size_t cause, uint64_t bytes) {
  for (auto window = open_.rbegin(); window != open_.rend(); ++window) {
    if (time_ns / kSlotNs < window->start_ns / kSlotNs || time_ns / kSlotNs > window->end_ns / kSlotNs) continue;
    window->sum.bytes[direction][cause] += bytes;
    return;
  }
  waiting_[time_ns / kSlotNs].bytes[direction][cause] += bytes;
  if (waiting_.size() <= kMaximumWaiting) return;
  without_window_.Add(waiting_.begin()->second);
  waiting_.erase(waiting_.begin());
}

SampleMoments SampledMigrations::Moments() const {
  SampleMoments moments = closed_;
  for (const Window& window : open_) moments.AddWindow(window.sum);
  SampledBytes rest = without_window_;
  for (const auto& [slot, bytes] : waiting_) rest.Add(bytes);
  moments.AddWindow(rest);
  return moments;
}

}  // namespace uvmtrace::analyzer
