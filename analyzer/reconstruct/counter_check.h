// Holds what was reconstructed against the driver's exact counters, sample by sample, one direction each.
//
// A sample is taken while copies are under way, so for a moment the two differ by what a batch moves. A difference
// counts once it has outlasted such moments, or is there at the end. Differences of either sign add up: too much at one
// time makes up for no lack at another.
#pragma once

#include <cstdint>

namespace uvmtrace::reconstruct {

class CounterCheck {
 public:
  void Add(uint64_t time_ns, uint64_t exact_bytes, uint64_t told_bytes) {
    ++samples_;
    exact_bytes_ = exact_bytes;
    const auto difference = static_cast<int64_t>(exact_bytes - told_bytes);
    if (difference == level_) {
      equal_ns_ = time_ns;
      streak_ = 0;
      return;
    }
    if (Distance(difference) <= kUnderWayBytes) {
      streak_ = 0;
      return;
    }
    if (streak_++ == 0) streak_ns_ = time_ns;
    if (streak_ >= kSamplesToCount) Count(difference, streak_ns_);
  }

  // The last sample, when all has been told.
  void Finish(uint64_t exact_bytes, uint64_t told_bytes) {
    exact_bytes_ = exact_bytes;
    const auto difference = static_cast<int64_t>(exact_bytes - told_bytes);
    if (difference != level_) Count(difference, equal_ns_);
  }

  uint64_t samples() const { return samples_; }
  uint64_t exact_bytes() const { return exact_bytes_; }
  uint64_t unexplained_bytes() const { return unexplained_bytes_; }
  // When the first difference that counts began; 0: there is none.
  uint64_t since_ns() const { return since_ns_; }

 private:
  static constexpr uint64_t kUnderWayBytes = uint64_t{32} << 20;
  static constexpr uint32_t kSamplesToCount = 3;

  uint64_t Distance(int64_t difference) const {
    return static_cast<uint64_t>(difference > level_ ? difference - level_ : level_ - difference);
  }
  void Count(int64_t difference, uint64_t since_ns) {
    unexplained_bytes_ += Distance(difference);
    level_ = difference;
    streak_ = 0;
    if (since_ns_ == 0) since_ns_ = since_ns == 0 ? 1 : since_ns;
  }

  int64_t level_ = 0;
  uint64_t samples_ = 0;
  uint64_t exact_bytes_ = 0;
  uint64_t unexplained_bytes_ = 0;
  uint64_t equal_ns_ = 0;
  uint64_t streak_ns_ = 0;
  uint32_t streak_ = 0;
  uint64_t since_ns_ = 0;
};

}  // namespace uvmtrace::reconstruct
