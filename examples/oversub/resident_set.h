// Which chunks are on the GPU, for whoever evicts by hand: at most k, and the least recently used leaves first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>

namespace oversub {

class ResidentSet {
 public:
  explicit ResidentSet(size_t capacity) : capacity_(capacity) {}

  struct Outcome {
    bool was_resident = false;
    std::optional<uint64_t> victim;  // must leave before `chunk` comes in
  };

  // `chunk` is about to be used.
  Outcome Use(uint64_t chunk) {
    Outcome outcome;
    for (auto it = order_.begin(); it != order_.end(); ++it) {
      if (*it != chunk) continue;
      order_.splice(order_.end(), order_, it);
      outcome.was_resident = true;
      return outcome;
    }
    if (order_.size() == capacity_) {
      outcome.victim = order_.front();
      order_.pop_front();
    }
    order_.push_back(chunk);
    return outcome;
  }

  // `chunk` has left, if it was here.
  void Remove(uint64_t chunk) { order_.remove(chunk); }

  // Least recently used first.
  const std::list<uint64_t>& chunks() const { return order_; }

 private:
  size_t capacity_;
  std::list<uint64_t>
      order_;  // k is at most a few thousand, and a chunk at least 2 MiB: a search costs nothing beside it
};

}  // namespace oversub
