#include "analyzer/model/link_traffic.h"

#include <iterator>

namespace uvmtrace::analyzer {

void ByteSeries::Add(uint64_t from_ns, uint64_t to_ns, uint64_t bytes) {
  if (bytes == 0) return;
  const uint64_t first = from_ns / width_ns_;
  const uint64_t last = to_ns > from_ns ? (to_ns - 1) / width_ns_ : first;
  if (last - first >= kMaximumSpread) {
    buckets_[first] += static_cast<double>(bytes);
  } else {
    for (uint64_t bucket = first; bucket <= last; ++bucket) {
      const uint64_t begin = std::max(from_ns, bucket * width_ns_);
      const uint64_t end = std::min(to_ns, (bucket + 1) * width_ns_);
      const double share =
          first == last ? 1.0 : static_cast<double>(end - begin) / static_cast<double>(to_ns - from_ns);
      buckets_[bucket] += share * static_cast<double>(bytes);
    }
  }
  while (buckets_.size() > kMaximumBuckets) {
    std::map<uint64_t, double> wide;
    for (const auto& [bucket, sum] : buckets_) wide[bucket / 2] += sum;
    // A series so sparse that widening merges nothing is damage.
    buckets_ = std::move(wide);
    width_ns_ *= 2;
  }
}

double ByteSeries::Between(uint64_t from_ns, uint64_t to_ns) const {
  double sum = 0;
  for (auto bucket = buckets_.lower_bound(from_ns / width_ns_); bucket != buckets_.end(); ++bucket) {
    const uint64_t begin = bucket->first * width_ns_;
    if (begin >= to_ns) break;
    const uint64_t first = std::max(begin, from_ns);
    const uint64_t last = std::min(begin + width_ns_, to_ns);
    if (last > first) sum += bucket->second * static_cast<double>(last - first) / static_cast<double>(width_ns_);
  }
  return sum;
}

void LinkCopies::Add(size_t direction, CopyWay way, uint64_t start_ns, uint64_t end_ns, uint64_t bytes) {
  CopySums& sum = sums[direction][static_cast<size_t>(way)];
  sum.bytes += bytes;
  sum.busy.Add(start_ns, end_ns);
  over_time[direction].Add(start_ns, end_ns, bytes);
}

void LinkCounters::Add(const LinkSample& sample, uint64_t unsure_ns) {
  // Cumulative, from one thread: a sample that goes back is damage.
  if (!samples_.empty() &&
      (sample.time_ns <= samples_.back().time_ns || sample.received_bytes < samples_.back().received_bytes ||
       sample.sent_bytes < samples_.back().sent_bytes)) {
    return;
  }
  samples_.push_back(sample);
  unsure_ns_ = std::max(unsure_ns_, unsure_ns);
  if (samples_.size() < kMaximumSamples) return;
  size_t kept = 0;
  for (size_t i = 0; i < samples_.size(); i += 2) samples_[kept++] = samples_[i];
  if (samples_.size() % 2 == 0) samples_[kept++] = samples_.back();
  samples_.resize(kept);
}

}  // namespace uvmtrace::analyzer
