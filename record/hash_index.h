// From a hash to an id: the open-addressing table beneath the interners. It holds no values; the caller compares.
#pragma once

#include <cstdint>

#include "record/memory.h"

namespace uvmtrace {

class HashIndex {
 public:
  // The id for which hash is equal and equals(id) holds, or 0.
  template <typename Equals>
  uint32_t Find(uint64_t hash, Equals&& equals) const {
    if (capacity_ == 0) return 0;
    for (size_t i = Start(hash);; i = (i + 1) & (capacity_ - 1)) {
      const Slot& slot = slots_[i];
      if (slot.id == 0) return 0;
      if (slot.hash == static_cast<uint32_t>(hash) && equals(slot.id)) return slot.id;
    }
  }

  // `id` is not 0 and not in the table. False: no memory; nothing changed.
  bool Insert(uint64_t hash, uint32_t id) {
    if ((count_ + 1) * 2 > capacity_ && !Grow()) return false;
    Place(slots_, capacity_, {static_cast<uint32_t>(hash), id});
    ++count_;
    return true;
  }

 private:
  struct Slot {
    uint32_t hash;
    uint32_t id;
  };

  size_t Start(uint64_t hash) const { return static_cast<uint32_t>(hash) & (capacity_ - 1); }

  static void Place(Slot* slots, size_t capacity, Slot value) {
    size_t i = value.hash & (capacity - 1);
    while (slots[i].id != 0) i = (i + 1) & (capacity - 1);
    slots[i] = value;
  }

  bool Grow() {
    const size_t capacity = capacity_ == 0 ? 1024 : 2 * capacity_;
    Slot* slots = static_cast<Slot*>(MapPages(capacity * sizeof(Slot)));
    if (slots == nullptr) return false;
    for (size_t i = 0; i < capacity_; ++i) {
      if (slots_[i].id != 0) Place(slots, capacity, slots_[i]);
    }
    if (slots_ != nullptr) UnmapPages(slots_, capacity_ * sizeof(Slot));
    slots_ = slots;
    capacity_ = capacity;
    return true;
  }

  Slot* slots_ = nullptr;
  size_t capacity_ = 0;
  size_t count_ = 0;
};

inline constexpr uint64_t MixHash(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 32);
}

}  // namespace uvmtrace
