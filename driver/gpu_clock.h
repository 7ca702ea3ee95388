// When a copy ran on the GPU, on the CPU's clock.
//
// Of a migration the driver tells the instant at which it was queued and the one at which somebody noticed that it was
// over. The latter may come milliseconds late, and all copies of a 2 MiB block share both. It also tells when each copy
// began and ended by the GPU's own clock, which nobody relates to the CPU's. But each copy bounds the difference:
//
//   queued <= GPU begin + offset          GPU end + offset <= noticed
//
// The tightest bounds of the last tenth of a second are a few microseconds apart while faults are serviced. Older
// ones are forgotten: the clocks drift against each other, by up to some tens of microseconds in a second.
#pragma once

#include <algorithm>
#include <cstdint>

namespace uvmtrace {

class GpuClock {
 public:
  void Add(uint64_t queued_ns, uint64_t noticed_ns, uint64_t gpu_begin_ns, uint64_t gpu_end_ns) {
    if (gpu_begin_ns == 0 || gpu_end_ns < gpu_begin_ns) return;
    // Copies are told in the order in which they ended: an older one adds to the present bucket.
    if (static_cast<int64_t>(queued_ns - bucket_start_ns_) > kBucketNs) {
      previous_ = static_cast<int64_t>(queued_ns - bucket_start_ns_) > 2 * kBucketNs ? Bounds() : current_;
      current_ = Bounds();
      bucket_start_ns_ = queued_ns;
    }
    current_.low = std::max(current_.low, static_cast<int64_t>(queued_ns - gpu_begin_ns));
    if (noticed_ns >= queued_ns) {
      current_.high = std::min(current_.high, static_cast<int64_t>(noticed_ns - gpu_end_ns));
    }
    if (current_.low > current_.high) {  // no offset satisfies both: the GPU's clock was set anew
      current_ = Bounds();
      current_.low = static_cast<int64_t>(queued_ns - gpu_begin_ns);
      previous_ = Bounds();
    }
  }

  // Moves [*start_ns, *end_ns], the instants at which a copy was queued and noticed, to those at which it ran. The
  // result lies within what it was, except that an end of 0, not noticed, becomes known.
  void Refine(uint64_t gpu_begin_ns, uint64_t gpu_end_ns, uint64_t* start_ns, uint64_t* end_ns) const {
    if (gpu_begin_ns == 0 || gpu_end_ns < gpu_begin_ns) return;
    const Bounds bounds = Best();
    if (bounds.low == Bounds().low) return;
    // A copy that waited for nothing starts some microseconds after it was queued.
    const int64_t room = bounds.high == Bounds().high ? kStartDelayNs * 2 : bounds.high - bounds.low;
    const int64_t offset = bounds.low + std::min(room / 2, kStartDelayNs);
    const uint64_t latest_ns = *end_ns >= *start_ns ? *end_ns : UINT64_MAX;
    *start_ns = std::clamp(gpu_begin_ns + static_cast<uint64_t>(offset), *start_ns, latest_ns);
    *end_ns = std::clamp(gpu_end_ns + static_cast<uint64_t>(offset), *start_ns, latest_ns);
  }

 private:
  static constexpr int64_t kBucketNs = 50'000'000;
  static constexpr int64_t kStartDelayNs = 3'000;

  struct Bounds {
    int64_t low = INT64_MIN;
    int64_t high = INT64_MAX;
  };
  Bounds Best() const {
    Bounds best{std::max(current_.low, previous_.low), std::min(current_.high, previous_.high)};
    return best.low <= best.high ? best : current_;
  }

  Bounds current_;
  Bounds previous_;
  uint64_t bucket_start_ns_ = 0;
};

}  // namespace uvmtrace
