// What one file may make us spend: one object for all limits on untrusted input.
//
// A trace comes from anywhere. Each kind of work that its bytes can ask for has an allowance here, far above what a
// recorder writes and far below what hurts. Who would go beyond takes less and goes on; refused() says how much was
// left out, and the report says so. What grows with the file's own size alone needs no allowance.
//
// Memory is one pool that --max-memory sets. The first reading takes from it what it keeps of each allocation and each
// kernel; what is then left, a third of it at least, bounds the tables of the second reading.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace uvmtrace::analyzer {

enum class Spending : uint8_t {
  kChecksumBytes,   // read to look for the next intact chunk after damage
  kFunctions,       // distinct functions that calls name
  kDefinitions,     // mappings, devices, kernel threads, source states, parameters, losses, detail changes
  kRows,            // in one chunk: absent columns cost the file nothing
  kBlocks,          // 2 MiB blocks whose pages are followed
  kDevices,         // distinct device ordinals
  kCpuFaultSites,   // distinct (instruction, thread, allocation)
  kKernels,         // single kernel runs kept apart
  kRanges,          // single NVTX ranges kept apart
  kWindows,         // of a sample
  kSingleAccounts,  // allocations with an account of their own
  kAllocations,     // lives of allocations that events can be on
  kCells,           // sums for one memory, set of kernels and set of phases
  kTouchedBlocks,   // 2 MiB blocks that ever faulted or moved
};
inline constexpr size_t kSpendingCount = 14;

inline constexpr uint64_t kDefaultMemoryBytes = uint64_t{512} << 20;

class ReadBudget {
 public:
  ReadBudget() = default;
  // Larger files may ask for more damage to be searched.
  explicit ReadBudget(uint64_t file_bytes, uint64_t memory_bytes = kDefaultMemoryBytes)
      : memory_bytes_(memory_bytes),
        memory_left_(memory_bytes > kFixedBytes + kSmallestPool ? memory_bytes - kFixedBytes : kSmallestPool),
        memory_reserve_(memory_left_ / 3) {
    Set(Spending::kChecksumBytes, (uint64_t{256} << 20) + 4 * file_bytes);
  }

  // Takes at most `amount`; returns what was granted.
  uint64_t Take(Spending spending, uint64_t amount = 1) {
    const auto index = static_cast<size_t>(spending);
    const uint64_t granted = amount < left_[index] ? amount : left_[index];
    left_[index] -= granted;
    refused_[index] += amount - granted;
    return granted;
  }
  // One more of these, that takes so many bytes. False, and counted, if the pool has no more.
  bool TakeMemory(Spending spending, uint64_t bytes) {
    if (memory_left_ < memory_reserve_ + bytes) {
      ++refused_[static_cast<size_t>(spending)];
      return false;
    }
    memory_left_ -= bytes;
    return true;
  }
  // How many of them so many percent of what is left hold.
  uint64_t Room(uint64_t percent, uint64_t bytes_each) const { return memory_left_ / 100 * percent / bytes_each; }
  uint64_t memory_bytes() const { return memory_bytes_; }
  uint64_t memory_left() const { return memory_left_; }

  // Left out elsewhere, by a table whose bound came from here.
  void Refuse(Spending spending, uint64_t amount) { refused_[static_cast<size_t>(spending)] += amount; }
  void Set(Spending spending, uint64_t allowance) { left_[static_cast<size_t>(spending)] = allowance; }
  uint64_t left(Spending spending) const { return left_[static_cast<size_t>(spending)]; }
  uint64_t refused(Spending spending) const { return refused_[static_cast<size_t>(spending)]; }

 private:
  // The program itself, buffers of chunks, and what every trace has.
  static constexpr uint64_t kFixedBytes = uint64_t{64} << 20;
  static constexpr uint64_t kSmallestPool = uint64_t{8} << 20;
  static constexpr uint64_t kNoLimit = ~uint64_t{0};

  uint64_t memory_bytes_ = kDefaultMemoryBytes;
  uint64_t memory_left_ = kDefaultMemoryBytes - kFixedBytes;
  uint64_t memory_reserve_ = (kDefaultMemoryBytes - kFixedBytes) / 3;
  std::array<uint64_t, kSpendingCount> left_ = {
      uint64_t{256} << 20,  // kChecksumBytes
      8192,                 // kFunctions: a Histogram each
      1 << 20,              // kDefinitions
      1 << 21,              // kRows
      kNoLimit,             // kBlocks: by memory
      1024,                 // kDevices
      1 << 17,              // kCpuFaultSites
      kNoLimit,             // kKernels: by memory
      1 << 20,              // kRanges
      1 << 18,              // kWindows
      16384,                // kSingleAccounts
      kNoLimit,             // kAllocations: by memory
      kNoLimit,             // kCells: by memory
      kNoLimit,             // kTouchedBlocks: by memory
  };
  std::array<uint64_t, kSpendingCount> refused_{};
};

}  // namespace uvmtrace::analyzer
