// Which pages were on a GPU, which left it, and why: so that bytes which come back can be told from bytes that come
// first.
//
// The driver's thrashing events never tell that a working set does not fit: they mean ping-pong between processors, and
// evictions are ignored there. Here each page of each allocation has a state for each GPU. One that arrives after it
// had left came back, for the reason that it had left for. One that arrives while it is there came back too: copies of
// read-mostly pages are dropped without a record.
// Memory: 216 bytes for each 2 MiB block of an allocation that ever moved. Beyond kMaximumBlocks a block is not
// followed, and untracked() counts its bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/accounts/activity.h"

namespace uvmtrace::analyzer {

inline constexpr uint64_t kBlockBytes = uint64_t{2} << 20;

class BlockTable {
 public:
  static constexpr uint64_t kPageBytes = 4096;
  static constexpr size_t kMaximumBlocks = size_t{1} << 20;
  static constexpr uint64_t kBytesOfBlock = 224;  // with its slots

  explicit BlockTable(size_t maximum_blocks = kMaximumBlocks) : maximum_blocks_(maximum_blocks) {}

  using CameBack = std::array<uint64_t, kLeftBecauseCount>;  // bytes, by why they had left

  // [address, address + bytes) lies in one block. `memory` tells allocations apart that lived at one address.
  CameBack Arrive(int32_t device, uint32_t memory, uint64_t address, uint64_t bytes);
  void Leave(int32_t device, uint32_t memory, uint64_t address, uint64_t bytes, LeftBecause because);

  size_t blocks() const { return blocks_.size(); }
  uint64_t untracked() const { return untracked_; }

 private:
  static constexpr size_t kPages = kBlockBytes / kPageBytes;
  static constexpr size_t kWords = kPages / 64;
  using Mask = std::array<uint64_t, kWords>;

  struct Block {
    uint64_t number;
    uint32_t memory;
    int32_t device;
    Mask present{};
    // Two bits of LeftBecause; both 0: has not left.
    Mask left_low{};
    Mask left_high{};
  };

  Block* Find(int32_t device, uint32_t memory, uint64_t address, uint64_t bytes);
  void Grow();
  static size_t Hash(uint64_t number, uint32_t memory, int32_t device);

  size_t maximum_blocks_;
  std::vector<Block> blocks_;
  std::vector<uint32_t> slots_;  // index + 1
  size_t last_ = ~size_t{0};
  uint64_t untracked_ = 0;
};

}  // namespace uvmtrace::analyzer
