// What one file may make us spend: one object for all limits on untrusted input.
//
// A trace comes from anywhere. Each kind of work that its bytes can ask for has an allowance here, far above what a
// recorder writes and far below what hurts. Who would go beyond takes less and goes on; refused() says how much was
// left out, and the report says so. What grows with the file's own size alone needs no allowance.
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
  kBlocks,          // 2 MiB blocks that migrations name
  kDevices,         // distinct device ordinals
  kCpuFaultSites,   // distinct (instruction, thread, allocation)
  kKernels,         // single kernel runs kept apart
  kRanges,          // single NVTX ranges kept apart
  kWindows,         // of a sample
  kSingleAccounts,  // allocations with an account of their own
};
inline constexpr size_t kSpendingCount = 11;

class ReadBudget {
 public:
  ReadBudget() = default;
  // Larger files may ask for more damage to be searched.
  explicit ReadBudget(uint64_t file_bytes) { Set(Spending::kChecksumBytes, (uint64_t{256} << 20) + 4 * file_bytes); }

  // Takes at most `amount`; returns what was granted.
  uint64_t Take(Spending spending, uint64_t amount = 1) {
    const auto index = static_cast<size_t>(spending);
    const uint64_t granted = amount < left_[index] ? amount : left_[index];
    left_[index] -= granted;
    refused_[index] += amount - granted;
    return granted;
  }
  void Set(Spending spending, uint64_t allowance) { left_[static_cast<size_t>(spending)] = allowance; }
  uint64_t left(Spending spending) const { return left_[static_cast<size_t>(spending)]; }
  uint64_t refused(Spending spending) const { return refused_[static_cast<size_t>(spending)]; }

 private:
  std::array<uint64_t, kSpendingCount> left_ = {
      uint64_t{256} << 20,  // kChecksumBytes
      8192,                 // kFunctions: a Histogram each
      1 << 20,              // kDefinitions
      1 << 21,              // kRows
      1 << 22,              // kBlocks, beside one for each row
      1024,                 // kDevices
      1 << 17,              // kCpuFaultSites
      4 << 20,              // kKernels
      1 << 20,              // kRanges
      1 << 18,              // kWindows
      16384,                // kSingleAccounts
  };
  std::array<uint64_t, kSpendingCount> refused_{};
};

}  // namespace uvmtrace::analyzer
