// The driver's fault batches, put together again from CUPTI's fault records.
//
// The driver services the faults of a GPU in batches of up to 256 and then queues one replay; CUPTI gives that moment
// as the end of every record of the batch. So records of one device whose ends agree are one batch, which lasted from
// its earliest start to that end. Ends are compared in the records' own clock, with a tolerance for CUPTI's conversion.
// The last kOpenBatches are kept open, because records arrive a little out of order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/model/interval_union.h"

namespace uvmtrace::analyzer {

class FaultBatches {
 public:
  static constexpr uint64_t kToleranceNs = 16;  // a batch lasts at least some microseconds
  static constexpr size_t kOpenBatches = 128;

  // A fault record; its end is known.
  void Add(uint64_t start, uint64_t end) {
    for (size_t i = open_.size(); i-- > first_;) {
      if (end - open_[i].end + kToleranceNs <= 2 * kToleranceNs) {
        open_[i].start = std::min(open_[i].start, start);
        return;
      }
    }
    open_.push_back({start, end});
    ++batches_;
    if (open_.size() - first_ <= kOpenBatches) return;
    service_.Add(open_[first_].start, open_[first_].end);
    ++first_;
    if (first_ >= kOpenBatches) {
      open_.erase(open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
  }

  uint64_t batches() const { return batches_; }

  // Time in which at least one batch was being serviced.
  uint64_t ServiceNs() const {
    IntervalUnion all = service_;
    for (size_t i = first_; i < open_.size(); ++i) all.Add(open_[i].start, open_[i].end);
    return all.length();
  }

 private:
  struct Batch {
    uint64_t start;
    uint64_t end;
  };
  std::vector<Batch> open_;
  size_t first_ = 0;
  uint64_t batches_ = 0;
  IntervalUnion service_;
};

}  // namespace uvmtrace::analyzer
