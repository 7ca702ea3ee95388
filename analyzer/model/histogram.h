// Durations by logarithm, 32 linear buckets in each power of two: percentiles that are off by at most 1.6 %, in 15 KiB,
// whatever comes in; two histograms merge exactly by adding.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace uvmtrace::analyzer {

class Histogram {
 public:
  void Add(uint64_t value) {
    if (buckets_.empty()) buckets_.resize(kBuckets);
    ++buckets_[Index(value)];
    minimum_ = count_ == 0 ? value : std::min(minimum_, value);
    ++count_;
    maximum_ = std::max(maximum_, value);
  }

  void Merge(const Histogram& other) {
    if (other.count_ == 0) return;
    if (buckets_.empty()) buckets_.resize(kBuckets);
    for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    minimum_ = count_ == 0 ? other.minimum_ : std::min(minimum_, other.minimum_);
    count_ += other.count_;
    maximum_ = std::max(maximum_, other.maximum_);
  }

  // The smallest value that at least `fraction` of the values do not exceed; 0 when there is none. So the 99th
  // percentile of a few values is the largest of them.
  uint64_t Quantile(double fraction) const {
    if (count_ == 0) return 0;
    const auto wanted = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
    const uint64_t rank = std::clamp<uint64_t>(wanted, 1, count_) - 1;
    uint64_t seen = 0;
    for (size_t index = 0; index < kBuckets; ++index) {
      seen += buckets_[index];
      if (seen > rank) return std::clamp(Middle(index), minimum_, maximum_);
    }
    return maximum_;
  }

  uint64_t count() const { return count_; }
  uint64_t maximum() const { return maximum_; }

 private:
  static constexpr unsigned kSubBits = 5;
  static constexpr size_t kSubBuckets = size_t{1} << kSubBits;
  static constexpr size_t kBuckets = (64 - kSubBits + 1) * kSubBuckets;

  static size_t Index(uint64_t value) {
    if (value < kSubBuckets) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - 1 - kSubBits;
    return (shift + 1) * kSubBuckets + ((value >> shift) - kSubBuckets);
  }
  static uint64_t Middle(size_t index) {
    if (index < kSubBuckets) return index;
    const unsigned shift = static_cast<unsigned>(index / kSubBuckets) - 1;
    return ((kSubBuckets + index % kSubBuckets) << shift) + ((uint64_t{1} << shift) >> 1);
  }

  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t minimum_ = 0;
  uint64_t maximum_ = 0;
};

}  // namespace uvmtrace::analyzer
