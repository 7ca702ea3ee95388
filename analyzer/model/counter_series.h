// The driver's cumulative counters as amounts over time, in at most kMaximumBuckets equal buckets.
//
// A bucket's width is 10 ms times a power of two and buckets start at multiples of it, so two series merge exactly:
// when time outgrows the buckets, neighbours are added up and the width doubles. A sample is written only when
// something changed, so an amount belongs to the moment of its sample and not to the silence before it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace uvmtrace::analyzer {

struct CounterAmounts {
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t cpu_faults = 0;
  uint64_t gpu_faults = 0;

  bool any() const { return (host_to_device_bytes | device_to_host_bytes | cpu_faults | gpu_faults) != 0; }
  void Add(const CounterAmounts& other) {
    host_to_device_bytes += other.host_to_device_bytes;
    device_to_host_bytes += other.device_to_host_bytes;
    cpu_faults += other.cpu_faults;
    gpu_faults += other.gpu_faults;
  }
};

class CounterSeries {
 public:
  static constexpr size_t kMaximumBuckets = 120;
  static constexpr uint64_t kNarrowestNs = 10'000'000;

  void Add(uint64_t time_ns, const CounterAmounts& amounts) {
    if (!amounts.any()) return;
    const uint64_t index = time_ns / width_ns_;
    if (buckets_.empty()) {
      first_ = index;
      buckets_.resize(1);
    }
    const uint64_t begin = std::min(first_, index);
    const uint64_t end = std::max(first_ + buckets_.size(), index + 1);
    if (end - begin > kMaximumBuckets) {
      Widen();
      return Add(time_ns, amounts);
    }
    if (begin < first_) buckets_.insert(buckets_.begin(), static_cast<size_t>(first_ - begin), CounterAmounts{});
    first_ = begin;
    buckets_.resize(static_cast<size_t>(end - begin));
    buckets_[static_cast<size_t>(index - first_)].Add(amounts);
  }

  void Merge(const CounterSeries& other) {
    while (width_ns_ < other.width_ns_) Widen();
    for (size_t i = 0; i < other.buckets_.size(); ++i) {
      Add((other.first_ + i) * other.width_ns_, other.buckets_[i]);
    }
  }

  uint64_t width_ns() const { return width_ns_; }
  uint64_t start_ns() const { return first_ * width_ns_; }  // of the first bucket
  const std::vector<CounterAmounts>& buckets() const { return buckets_; }

 private:
  void Widen() {
    std::vector<CounterAmounts> wide;
    const uint64_t first = first_ / 2;
    for (size_t i = 0; i < buckets_.size(); ++i) {
      const auto index = static_cast<size_t>((first_ + i) / 2 - first);
      if (wide.size() <= index) wide.resize(index + 1);
      wide[index].Add(buckets_[i]);
    }
    buckets_ = std::move(wide);
    first_ = first;
    width_ns_ *= 2;
  }

  uint64_t width_ns_ = kNarrowestNs;
  uint64_t first_ = 0;  // buckets_[0] starts at first_ * width_ns_
  std::vector<CounterAmounts> buckets_;
};

}  // namespace uvmtrace::analyzer
