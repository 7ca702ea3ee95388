// A table of cells that two threads can fill apart and add up afterwards.
//
// Open addressing over indexes, with the last key remembered: events of one kind on one allocation follow each other.
// Damage can make every event a cell of its own, so the number is bounded: further cells lose their phases, then their
// kernels, and coarsened() counts that. Totals stay whole.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/accounts/activity.h"

namespace uvmtrace::analyzer {

class Cells {
 public:
  static constexpr size_t kMaximumCells = size_t{1} << 18;

  explicit Cells(size_t maximum = kMaximumCells) : maximum_(maximum) {}

  struct Entry {
    CellKey key;
    MemoryActivity activity;
  };

  MemoryActivity& At(const CellKey& key) {
    if (last_ < entries_.size() && entries_[last_].key == key) return entries_[last_].activity;
    return Look(key);
  }

  void Add(const Cells& other) {
    for (const Entry& entry : other.entries_) At(entry.key).Add(entry.activity);
    coarsened_ += other.coarsened_;
  }

  const std::vector<Entry>& entries() const { return entries_; }
  // By key: whichever worker filled which.
  std::vector<const Entry*> Sorted() const {
    std::vector<const Entry*> sorted;
    sorted.reserve(entries_.size());
    for (const Entry& entry : entries_) sorted.push_back(&entry);
    std::sort(sorted.begin(), sorted.end(), [](const Entry* a, const Entry* b) { return a->key < b->key; });
    return sorted;
  }
  uint64_t coarsened() const { return coarsened_; }

 private:
  MemoryActivity& Look(CellKey key) {
    if (entries_.size() >= maximum_ && !Known(key)) {
      ++coarsened_;
      key.phases = 0;
      if (!Known(key)) key.kernels = 0;
      // Accounts are bounded by themselves.
    }
    if (entries_.size() * 2 >= slots_.size()) Grow();
    size_t slot = Hash(key) & (slots_.size() - 1);
    while (slots_[slot] != 0) {
      if (entries_[slots_[slot] - 1].key == key) {
        last_ = slots_[slot] - 1;
        return entries_[last_].activity;
      }
      slot = (slot + 1) & (slots_.size() - 1);
    }
    entries_.push_back({key, {}});
    slots_[slot] = static_cast<uint32_t>(entries_.size());
    last_ = entries_.size() - 1;
    return entries_[last_].activity;
  }

  bool Known(const CellKey& key) const {
    if (slots_.empty()) return false;
    size_t slot = Hash(key) & (slots_.size() - 1);
    while (slots_[slot] != 0) {
      if (entries_[slots_[slot] - 1].key == key) return true;
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return false;
  }

  void Grow() {
    slots_.assign(slots_.empty() ? 64 : slots_.size() * 2, 0);
    for (size_t i = 0; i < entries_.size(); ++i) {
      size_t slot = Hash(entries_[i].key) & (slots_.size() - 1);
      while (slots_[slot] != 0) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = static_cast<uint32_t>(i + 1);
    }
  }

  static size_t Hash(const CellKey& key) {
    uint64_t hash = (uint64_t{key.account} << 32 | key.kernels) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
    hash = (hash + key.phases) * 0xbf58476d1ce4e5b9;
    return static_cast<size_t>(hash ^ hash >> 32);
  }

  size_t maximum_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // index + 1; a power of two of them
  size_t last_ = ~size_t{0};
  uint64_t coarsened_ = 0;
};

}  // namespace uvmtrace::analyzer
