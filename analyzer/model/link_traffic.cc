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
  if (!samples_.empty() && sample.received_bytes == samples_.back().received_bytes &&
      sample.sent_bytes == samples_.back().sent_bytes) {
    if (!pauses_.empty() && pauses_.back().second == samples_.back().time_ns) {
      pauses_.back().second = sample.time_ns;
    } else if (pauses_.size() < kMaximumPauses) {
      pauses_.emplace_back(samples_.back().time_ns, sample.time_ns);
    }
  }
  samples_.push_back(sample);
  unsure_ns_ = std::max(unsure_ns_, unsure_ns);
  if (samples_.size() < kMaximumSamples) return;
  size_t kept = 0;
  for (size_t i = 0; i < samples_.size(); i += 2) samples_[kept++] = samples_[i];
  if (samples_.size() % 2 == 0) samples_[kept++] = samples_.back();
  samples_.resize(kept);
}

double LinkCounters::At(size_t direction, uint64_t time_ns) const {
  const auto value = [direction](const LinkSample& sample) {
    return static_cast<double>(direction == 0 ? sample.received_bytes : sample.sent_bytes);
  };
  const auto next = std::upper_bound(samples_.begin(), samples_.end(), time_ns,
                                     [](uint64_t wanted, const LinkSample& sample) { return wanted < sample.time_ns; });
  if (next == samples_.begin()) return samples_.empty() ? 0 : value(samples_.front());
  const LinkSample& before = *std::prev(next);
  if (next == samples_.end()) return value(before);
  const uint64_t since_ns = std::max(before.time_ns, next->time_ns - std::min(next->time_ns, kPeriodNs));
  if (time_ns <= since_ns) return value(before);
  const double share = static_cast<double>(time_ns - since_ns) / static_cast<double>(next->time_ns - since_ns);
  return value(before) + share * (value(*next) - value(before));
}

double LinkCounters::Between(size_t direction, uint64_t from_ns, uint64_t to_ns) const {
  return At(direction, to_ns) - At(direction, from_ns);
}

}  // namespace uvmtrace::analyzer
