// The live allocations that changes are meant for, by address. For one thread at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "preload/calls/cuda_api.h"

namespace uvmtrace {

struct TrackedAllocation {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t changes = 0;        // bit n is change n of the file
  bool on_gpu = false;         // it was brought there, and nothing is known to have moved it since
  bool refused = false;        // it does not fit, or the driver said no: it is left alone
  bool ahead = false;          // it was brought ahead, and no launch has waited for it yet
  uint64_t wait_epoch = 0;     // of when it was brought
  uint64_t brought_total = 0;  // bytes that had been brought in all by then
  uint64_t successor = 0;      // address of the allocation that was used after it last time
  CUevent arrived = nullptr;   // made when it is first brought ahead

  bool Holds(uint64_t at) const { return at - address < bytes; }
};

class TrackedMemory {
 public:
  static constexpr size_t kMost = 4096;

  // False: there are too many.
  bool Insert(const TrackedAllocation& allocation) {
    Remove(allocation.address);
    if (count_ == kMost) return false;
    TrackedAllocation* const at = FirstFrom(allocation.address);
    std::copy_backward(at, rows_ + count_, rows_ + count_ + 1);
    *at = allocation;
    ++count_;
    return true;
  }
  bool Remove(uint64_t address) {
    TrackedAllocation* const at = FirstFrom(address);
    if (at == rows_ + count_ || at->address != address) return false;
    std::copy(at + 1, rows_ + count_, at);
    --count_;
    return true;
  }
  // The one that an address lies in; null: none.
  TrackedAllocation* At(uint64_t address) {
    TrackedAllocation* const next = std::upper_bound(
        rows_, rows_ + count_, address, [](uint64_t a, const TrackedAllocation& row) { return a < row.address; });
    return next != rows_ && (next - 1)->Holds(address) ? next - 1 : nullptr;
  }
  void Clear() { count_ = 0; }

  TrackedAllocation* begin() { return rows_; }
  TrackedAllocation* end() { return rows_ + count_; }
  size_t size() const { return count_; }

 private:
  TrackedAllocation* FirstFrom(uint64_t address) {
    return std::lower_bound(rows_, rows_ + count_, address,
                            [](const TrackedAllocation& row, uint64_t a) { return row.address < a; });
  }

  TrackedAllocation rows_[kMost];
  size_t count_ = 0;
};

}  // namespace uvmtrace
