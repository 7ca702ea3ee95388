// Bytes of one process: what moved in all and who says so, and what was recorded only in windows scaled up to that.
//
// At the detail "sampled" migrations are recorded in windows, while the driver's own byte counters run on. So the total
// of a direction is exact, and what was recorded before sampling began (detail "auto") is too; the rest is shared out
// as the windows show. Every part is rounded so that the parts add up to the whole.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "analyzer/model/process_model.h"

namespace uvmtrace::analyzer {

// To the nearest; what damage made too large or negative becomes the nearest that there is.
inline uint64_t RoundToBytes(long double value) {
  if (!(value > 0)) return 0;
  return value < 18e18L ? static_cast<uint64_t>(value + 0.5L) : uint64_t{18'000'000'000'000'000'000u};
}

// Rounds parts so that their sum is the rounded sum.
class Rounder {
 public:
  uint64_t Next(long double part) {
    sum_ += part;
    const uint64_t whole = RoundToBytes(sum_);
    const uint64_t rounded = whole - given_;
    given_ = whole;
    return rounded;
  }

 private:
  long double sum_ = 0;
  uint64_t given_ = 0;
};

enum class BytesFrom : uint8_t { kUnknown, kCupti, kDriverQueue, kExactCounters, kReconstructed };

struct DirectionBytes {
  std::optional<uint64_t> total;
  BytesFrom from = BytesFrom::kUnknown;
  bool recorded = false;          // by events: all of them, or a sample
  uint64_t captured = 0;          // by events
  uint64_t captured_sampled = 0;  // the part of it in windows
  long double scale = 1;          // what a byte in a window stands for
  uint64_t unsampled = 0;         // moved while sampling, and no window caught anything of this direction
};

struct ProcessBytes {
  std::array<DirectionBytes, kDirectionCount> directions;
  bool estimated = false;

  const DirectionBytes& of(Direction direction) const { return directions[static_cast<size_t>(direction)]; }
};

ProcessBytes BytesOfProcess(const ProcessModel& process);

// Scales the activities of one process's allocations, one after the other.
class ActivityScaler {
 public:
  explicit ActivityScaler(const ProcessBytes& bytes) : bytes_(bytes) {}
  MemoryActivity Scale(const MemoryActivity& recorded);

 private:
  ProcessBytes bytes_;
  std::array<Rounder, 4> rounders_;
};

}  // namespace uvmtrace::analyzer
