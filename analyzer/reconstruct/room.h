// How much memory the managed blocks of one GPU have together. No event tells it, because other memory and other
// programs have their part of the GPU. It is found from the counters, which contradict what was told where it is wrong;
// then the rows are replayed with the corrected room. Where it did change on the way, it has steps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace uvmtrace::reconstruct {

class Room {
 public:
  static constexpr uint64_t kUnknown = ~uint64_t{0};  // nothing is evicted for want of room

  // Of this replay, at the time that was reached.
  uint64_t bytes() const { return bytes_; }
  bool known() const { return bytes_ != kUnknown; }
  // The counters agreed while nothing was under way, after something was evicted: the room at the start is right.
  bool confirmed() const { return confirmed_; }

  void Restart() {
    bytes_ = start_bytes_;
    next_step_ = 0;
    confirmed_ = false;
    evictions_ = 0;
    agreed_ns_ = 0;
  }
  void Reach(uint64_t time_ns) {
    for (; next_step_ < steps_.size() && steps_[next_step_].from_ns <= time_ns; ++next_step_) {
      if (!known()) continue;
      const int64_t step = steps_[next_step_].bytes;
      bytes_ = step < 0 && bytes_ < static_cast<uint64_t>(-step) ? 0 : bytes_ + static_cast<uint64_t>(step);
    }
  }
  void Evicted() { ++evictions_; }
  void Confirm() { confirmed_ = confirmed_ || evictions_ > 0; }
  void AgreedAt(uint64_t time_ns) { agreed_ns_ = time_ns; }
  // From now on there is no more than this.
  void Shrink(uint64_t bytes) {
    if (known()) bytes_ = std::min(bytes_, bytes);
  }

  // For the next replay. False: there is nothing to correct.
  bool StartWith(uint64_t bytes) {
    if (bytes == 0 || bytes == start_bytes_) return false;
    start_bytes_ = bytes;
    return true;
  }
  bool StartWithLess(uint64_t bytes) { return bytes < start_bytes_ && StartWith(start_bytes_ - bytes); }
  // More was evicted than the counters have.
  bool GiveMore(uint64_t bytes) {
    if (!known() || evictions_ == 0) return false;
    if (!confirmed_) return StartWith(start_bytes_ + bytes);
    AddStep(static_cast<int64_t>(bytes));
    return true;
  }
  // Less was evicted, and what should have gone is there no more.
  bool GiveLess(uint64_t bytes) {
    if (!known() || bytes >= bytes_) return false;
    if (!confirmed_) return StartWithLess(bytes);
    AddStep(-static_cast<int64_t>(bytes));
    return true;
  }

 private:
  struct Step {
    uint64_t from_ns = 0;
    int64_t bytes = 0;  // that it grew by
  };
  // Since the last time when the counters agreed.
  void AddStep(int64_t bytes) {
    const Step step = {agreed_ns_, bytes};
    const auto earlier = [](const Step& a, const Step& b) { return a.from_ns < b.from_ns; };
    steps_.insert(std::upper_bound(steps_.begin(), steps_.end(), step, earlier), step);
  }
  uint64_t start_bytes_ = kUnknown;
  std::vector<Step> steps_;
  uint64_t bytes_ = kUnknown;
  size_t next_step_ = 0;
  uint64_t evictions_ = 0;
  uint64_t agreed_ns_ = 0;
  bool confirmed_ = false;
};

}  // namespace uvmtrace::reconstruct
