// Which 2 MiB blocks of which allocation ever faulted or moved: a set that two threads can fill apart.
//
// 16 bytes for each block, at most kMaximumBlocks of them; refused() counts further ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace uvmtrace::analyzer {

class TouchedBlocks {
 public:
  static constexpr size_t kMaximumBlocks = size_t{1} << 21;

  explicit TouchedBlocks(size_t maximum = kMaximumBlocks) : maximum_(maximum) {}

  void Touch(uint64_t address, uint32_t memory, uint32_t account) {
    const uint64_t block = address >> 21;
    if (block == last_block_ && memory == last_memory_) return;
    last_block_ = block;
    last_memory_ = memory;
    // 57 bits of address leave 36 for a block: different pairs have different keys as long as memory is below 2^28.
    Insert((block << 28 ^ memory) + 1, account);
  }

  void Add(const TouchedBlocks& other) {
    for (const Slot& slot : other.slots_) {
      if (slot.key != 0) Insert(slot.key, slot.account);
    }
    refused_ += other.refused_;
  }

  template <typename OnBlock>
  void ForEach(OnBlock on_block) const {
    for (const Slot& slot : slots_) {
      if (slot.key != 0) on_block(slot.account);
    }
  }
  size_t size() const { return size_; }
  uint64_t refused() const { return refused_; }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t account = 0;
  };

  void Insert(uint64_t key, uint32_t account) {
    if (key == 0) return;
    if (size_ * 2 >= slots_.size()) Grow();
    size_t slot = Hash(key) & (slots_.size() - 1);
    for (; slots_[slot].key != 0; slot = (slot + 1) & (slots_.size() - 1)) {
      if (slots_[slot].key == key) return;
    }
    if (size_ >= maximum_) {
      ++refused_;
      return;
    }
    slots_[slot] = {key, account};
    ++size_;
  }
  void Grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& from : old) {
      if (from.key == 0) continue;
      size_t slot = Hash(from.key) & (slots_.size() - 1);
      while (slots_[slot].key != 0) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = from;
    }
  }
  static size_t Hash(uint64_t key) {
    key *= 0x9e3779b97f4a7c15;
    return static_cast<size_t>(key ^ key >> 32);
  }

  size_t maximum_;
  std::vector<Slot> slots_;
  size_t size_ = 0;
  uint64_t refused_ = 0;
  uint64_t last_block_ = ~uint64_t{0};
  uint32_t last_memory_ = 0;
};

}  // namespace uvmtrace::analyzer
