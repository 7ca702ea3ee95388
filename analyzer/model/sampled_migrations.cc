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
  windows_ns_ += end_ns - start_ns;
  windows_.push_back({start_ns, end_ns, {}});
}

void SampledMigrations::Seal() {
  std::stable_sort(windows_.begin(), windows_.end(),
                   [](const Window& a, const Window& b) { return a.start_ns < b.start_ns; });
}

void SampledMigrations::Add(uint64_t time_ns, size_t direction, size_t cause, uint64_t bytes) {
  if (last_ >= windows_.size() || !windows_[last_].Has(time_ns)) {
    // The newest that has it; windows overlap by a slot at most.
    constexpr int kSearched = 4;
    auto after = std::upper_bound(windows_.begin(), windows_.end(), time_ns, [](uint64_t wanted, const Window& window) {
      return wanted / kSlotNs < window.start_ns / kSlotNs;
    });
    bool found = false;
    for (int left = kSearched; after != windows_.begin() && left > 0 && !found; --left) {
      --after;
      found = after->Has(time_ns);
    }
    if (!found) {
      without_window_.bytes[direction][cause] += bytes;
      return;
    }
    last_ = static_cast<size_t>(after - windows_.begin());
  }
  windows_[last_].sum.bytes[direction][cause] += bytes;
}

void SampledMigrations::Merge(const SampledMigrations& other) {
  for (size_t i = 0; i < windows_.size() && i < other.windows_.size(); ++i) windows_[i].sum.Add(other.windows_[i].sum);
  without_window_.Add(other.without_window_);
}

SampleMoments SampledMigrations::Moments() const {
  SampleMoments moments;
  for (const Window& window : windows_) moments.AddWindow(window.sum);
  moments.AddWindow(without_window_);
  return moments;
}

}  // namespace uvmtrace::analyzer
