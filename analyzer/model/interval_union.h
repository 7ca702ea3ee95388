// The length of the union of a stream of intervals that arrive nearly in order.
//
// Copies overlap, and faults of one batch overlap by definition: adding up their durations would count the same time
// twice. The last kOpenIntervals disjoint intervals are kept open and merged with what arrives; the oldest is closed
// when there are more. An interval that arrives after everything near it was closed is clipped to what is newer, so the
// result is never too long; clipped() counts how often that happened.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace uvmtrace::analyzer {

class IntervalUnion {
 public:
  static constexpr size_t kOpenIntervals = 1024;

  void Add(uint64_t start, uint64_t end) {
    if (end <= start) return;
    if (start < closed_until_) {
      ++clipped_;
      if (end <= closed_until_) return;
      start = closed_until_;
    }
    if (first_ == open_.size() || start > open_.back().end) {
      open_.push_back({start, end});
      if (open_.size() - first_ > kOpenIntervals) CloseOldest();
      return;
    }
    if (start >= open_.back().start) {
      open_.back().end = std::max(open_.back().end, end);
      return;
    }
    InsertInside(start, end);
  }

  uint64_t length() const {
    uint64_t length = closed_length_;
    for (size_t i = first_; i < open_.size(); ++i) length += open_[i].end - open_[i].start;
    return length;
  }

  uint64_t clipped() const { return clipped_; }

 private:
  struct Interval {
    uint64_t start;
    uint64_t end;
  };

  void InsertInside(uint64_t start, uint64_t end) {
    // [begin, finish) are the open intervals that touch the new one.
    size_t finish = open_.size();
    while (finish > first_ && open_[finish - 1].start > end) --finish;
    size_t begin = finish;
    while (begin > first_ && open_[begin - 1].end >= start) --begin;
    const auto position = open_.begin() + static_cast<std::ptrdiff_t>(begin);
    if (begin == finish) {
      open_.insert(position, {start, end});
      if (open_.size() - first_ > kOpenIntervals) CloseOldest();
      return;
    }
    open_[begin].start = std::min(open_[begin].start, start);
    open_[begin].end = std::max(open_[finish - 1].end, end);
    open_.erase(position + 1, open_.begin() + static_cast<std::ptrdiff_t>(finish));
  }

  void CloseOldest() {
    closed_length_ += open_[first_].end - open_[first_].start;
    closed_until_ = open_[first_].end;
    ++first_;
    if (first_ >= kOpenIntervals) {
      open_.erase(open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
  }

  std::vector<Interval> open_;  // disjoint, sorted; those before first_ are closed
  size_t first_ = 0;
  uint64_t closed_length_ = 0;
  uint64_t closed_until_ = 0;
  uint64_t clipped_ = 0;
};

}  // namespace uvmtrace::analyzer
