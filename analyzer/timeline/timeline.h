// What is read before the first event: who owned which memory when, which kernels ran, which phases there were, how the
// clocks compare. Events are attributed by look-up in it, so their order in the file does not matter.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "analyzer/model/clock.h"
#include "analyzer/model/kernel_overlaps.h"
#include "analyzer/model/kinds.h"
#include "analyzer/timeline/allocation_versions.h"
#include "analyzer/timeline/interval_index.h"
#include "analyzer/timeline/prefetch_calls.h"
#include "analyzer/timeline/shared_pages.h"

namespace uvmtrace::analyzer {

// The instants that a report is about: all of them, unless a phase or a span was asked for.
class TimeFilter {
 public:
  void Keep(uint64_t from_ns, uint64_t until_ns) {
    if (until_ns > from_ns) spans_.emplace_back(from_ns, until_ns);
    everything_ = false;
  }
  void Seal() {
    std::sort(spans_.begin(), spans_.end());
    size_t kept = 0;
    for (size_t i = 1; i < spans_.size(); ++i) {
      if (spans_[i].first <= spans_[kept].second) {
        spans_[kept].second = std::max(spans_[kept].second, spans_[i].second);
      } else {
        spans_[++kept] = spans_[i];
      }
    }
    if (!spans_.empty()) spans_.resize(kept + 1);
  }
  bool everything() const { return everything_; }
  bool Has(uint64_t time_ns) const {
    if (everything_) return true;
    const auto after = std::upper_bound(spans_.begin(), spans_.end(), std::pair(time_ns, ~uint64_t{0}));
    return after != spans_.begin() && time_ns < (after - 1)->second;
  }
  // How much of [from, until) is kept.
  uint64_t Overlap(uint64_t from_ns, uint64_t until_ns) const {
    if (everything_) return until_ns - from_ns;
    uint64_t sum = 0;
    for (const auto& [from, until] : spans_) {
      const uint64_t first = std::max(from, from_ns);
      const uint64_t last = std::min(until, until_ns);
      if (last > first) sum += last - first;
    }
    return sum;
  }
  const std::vector<std::pair<uint64_t, uint64_t>>& spans() const { return spans_; }

 private:
  std::vector<std::pair<uint64_t, uint64_t>> spans_;
  bool everything_ = true;
};

// Where migrations were recorded in windows only.
struct DetailOverTime {
  bool starts_sampled = false;
  std::vector<std::pair<uint64_t, bool>> changes;  // when, to "sampled" or not; in the order of time

  bool IsSampled(uint64_t time_ns) const {
    bool sampled = starts_sampled;
    for (const auto& [when_ns, to_sampled] : changes) {
      if (when_ns > time_ns) break;
      sampled = to_sampled;
    }
    return sampled;
  }
};

struct Timeline {
  AllocationVersions* versions = nullptr;
  NameSets kernel_sets;
  NameSets phase_sets;
  std::map<int32_t, IntervalIndex> kernels;     // by device
  std::map<int32_t, KernelWindow> kernel_runs;  // by device, where the trace has faults of the CPU
  IntervalIndex phases;
  PrefetchCalls prefetches;
  SharedPages shared_pages;
  ClockConverter clocks;
  DetailOverTime detail;
  bool migrations_reconstructed = false;  // those that the file has are left out
  TimeFilter filter;
};

}  // namespace uvmtrace::analyzer
