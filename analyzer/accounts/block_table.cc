#include "analyzer/accounts/block_table.h"

#include <algorithm>
#include <bit>

namespace uvmtrace::analyzer {
namespace {

// Calls on_word(word, mask) for the pages of [first, last].
template <typename OnWord>
void ForEachWord(size_t first, size_t last, OnWord on_word) {
  for (size_t word = first / 64; word <= last / 64; ++word) {
    uint64_t mask = ~uint64_t{0};
    if (word == first / 64) mask &= ~uint64_t{0} << (first % 64);
    if (word == last / 64) mask &= ~uint64_t{0} >> (63 - last % 64);
    on_word(word, mask);
  }
}

}  // namespace

size_t BlockTable::Hash(uint64_t number, uint32_t memory, int32_t device) {
  uint64_t hash = (number ^ uint64_t{memory} << 36) * 0x9e3779b97f4a7c15;
  hash = (hash ^ hash >> 31 ^ static_cast<uint64_t>(static_cast<uint32_t>(device))) * 0xbf58476d1ce4e5b9;
  return static_cast<size_t>(hash ^ hash >> 32);
}

BlockTable::Block* BlockTable::Find(int32_t device, uint32_t memory, uint64_t address, uint64_t bytes) {
  const uint64_t number = address / kBlockBytes;
  const auto is = [&](const Block& block) {
    return block.number == number && block.memory == memory && block.device == device;
  };
  if (last_ < blocks_.size() && is(blocks_[last_])) return &blocks_[last_];
  if (blocks_.size() * 2 >= slots_.size()) Grow();
  size_t slot = Hash(number, memory, device) & (slots_.size() - 1);
  for (; slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
    if (!is(blocks_[slots_[slot] - 1])) continue;
    last_ = slots_[slot] - 1;
    return &blocks_[last_];
  }
  if (blocks_.size() >= maximum_blocks_) {
    untracked_ += bytes;
    return nullptr;
  }
  last_ = blocks_.size();
  blocks_.push_back({number, memory, device});
  slots_[slot] = static_cast<uint32_t>(blocks_.size());
  return &blocks_[last_];
}

void BlockTable::Grow() {
  slots_.assign(slots_.empty() ? 64 : slots_.size() * 2, 0);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    size_t slot = Hash(blocks_[i].number, blocks_[i].memory, blocks_[i].device) & (slots_.size() - 1);
    while (slots_[slot] != 0) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
}

BlockTable::CameBack BlockTable::Arrive(int32_t device, uint32_t memory, uint64_t address, uint64_t bytes) {
  CameBack came_back{};
  Block* block = bytes == 0 ? nullptr : Find(device, memory, address, bytes);
  if (block == nullptr) return came_back;
  const size_t first = address % kBlockBytes / kPageBytes;
  const size_t last = std::min<uint64_t>(address % kBlockBytes + bytes - 1, kBlockBytes - 1) / kPageBytes;
  ForEachWord(first, last, [&](size_t word, uint64_t mask) {
    const uint64_t low = block->left_low[word] & mask;
    const uint64_t high = block->left_high[word] & mask;
    const uint64_t there = block->present[word] & mask & ~low & ~high;
    const auto add = [&](LeftBecause because, uint64_t pages) {
      if (pages == 0) return;
      came_back[static_cast<size_t>(because)] += static_cast<uint64_t>(std::popcount(pages)) * kPageBytes;
    };
    add(LeftBecause::kUnknown, there);
    add(LeftBecause::kEviction, low & ~high);
    add(LeftBecause::kCall, high & ~low);
    add(LeftBecause::kTouch, low & high);
    block->present[word] |= mask;
    block->left_low[word] &= ~mask;
    block->left_high[word] &= ~mask;
  });
  // A record may hold a part of a page.
  uint64_t left = bytes;
  for (uint64_t& part : came_back) left -= part = std::min(part, left);
  return came_back;
}

void BlockTable::Leave(int32_t device, uint32_t memory, uint64_t address, uint64_t bytes, LeftBecause because) {
  Block* block = bytes == 0 ? nullptr : Find(device, memory, address, bytes);
  if (block == nullptr) return;
  const size_t first = address % kBlockBytes / kPageBytes;
  const size_t last = std::min<uint64_t>(address % kBlockBytes + bytes - 1, kBlockBytes - 1) / kPageBytes;
  const auto code = static_cast<unsigned>(because);
  ForEachWord(first, last, [&](size_t word, uint64_t mask) {
    block->present[word] &= ~mask;
    block->left_low[word] = (block->left_low[word] & ~mask) | ((code & 1) != 0 ? mask : 0);
    block->left_high[word] = (block->left_high[word] & ~mask) | ((code & 2) != 0 ? mask : 0);
  });
}

}  // namespace uvmtrace::analyzer
