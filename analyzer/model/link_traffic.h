// What crossed the links between the host and the GPUs, besides migrations: copies, and the links' own counters.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "analyzer/model/interval_union.h"
#include "analyzer/read/columns.h"

namespace uvmtrace::analyzer {

// Bytes over time: 10 ms wide, twice as wide whenever there would be too many.
class ByteSeries {
 public:
  // Spread evenly over the time.
  void Add(uint64_t from_ns, uint64_t to_ns, uint64_t bytes);
  // A bucket that lies partly in the time gives its share.
  double Between(uint64_t from_ns, uint64_t to_ns) const;
  // Times of what it holds are known to this.
  uint64_t width_ns() const { return width_ns_; }

 private:
  static constexpr size_t kMaximumBuckets = size_t{1} << 17;
  static constexpr uint64_t kMaximumSpread = 4096;  // buckets of one addition

  std::map<uint64_t, double> buckets_;
  uint64_t width_ns_ = 10'000'000;
};

enum class CopyWay : uint8_t { kPageable, kPinned, kOther };
inline constexpr size_t kCopyWayCount = 3;
// Host to device, device to host.
inline constexpr size_t kLinkDirections = 2;

struct CopySums {
  uint64_t bytes = 0;
  IntervalUnion busy;
};

// Copies across one link.
struct LinkCopies {
  std::array<std::array<CopySums, kCopyWayCount>, kLinkDirections> sums;  // by direction and way
  std::array<ByteSeries, kLinkDirections> over_time;

  void Add(size_t direction, CopyWay way, uint64_t start_ns, uint64_t end_ns, uint64_t bytes);
};

// A link's own counters, cumulative.
struct LinkSample {
  uint64_t time_ns = 0;
  uint64_t received_bytes = 0;
  uint64_t sent_bytes = 0;
};

class LinkCounters {
 public:
  // From and to.
  using Span = std::pair<uint64_t, uint64_t>;

  void Add(const LinkSample& sample, uint64_t unsure_ns);
  const std::vector<LinkSample>& samples() const { return samples_; }  // in the order of time
  uint64_t unsure_ns() const { return unsure_ns_; }
  // Where nothing was counted: the recorder reads a link only while something may be read in place over it.
  const std::vector<Span>& pauses() const { return pauses_; }
  // What was counted between two instants. What a sample adds came in the last 10 ms before it, because nothing is
  // sampled while nothing changes.
  double Between(size_t direction, uint64_t from_ns, uint64_t to_ns) const;

 private:
  static constexpr size_t kMaximumSamples = size_t{1} << 17;  // then every second one goes
  static constexpr size_t kMaximumPauses = 4096;
  static constexpr uint64_t kPeriodNs = 10'000'000;

  double At(size_t direction, uint64_t time_ns) const;

  std::vector<LinkSample> samples_;
  std::vector<Span> pauses_;
  uint64_t unsure_ns_ = 0;
};

struct LinkTraffic {
  std::map<int32_t, LinkCopies> copies;  // by CUDA device: as CUPTI saw them
  LinkCopies called;                     // by the calls' arguments, of all devices
  uint64_t unclear_bytes = 0;            // by calls between memory of which it is not known whether a link is between
  std::map<int32_t, LinkCounters> counters;  // by CUDA device
  std::map<int32_t, LinkCounters> migrated;  // by CUDA device, kCpu for all: as the driver counted it
};

}  // namespace uvmtrace::analyzer
