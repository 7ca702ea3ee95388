// Values that recur, kept once and known by a number from 1 up.
//
// Memory is bounded: a value that does not fit gets id 0, which the caller counts as a loss.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "record/hash_index.h"
#include "record/memory.h"
#include "record/os/futex.h"

namespace uvmtrace {

// Any thread interns, the writer reads: a published string never moves.
class StringInterner {
 public:
  static constexpr size_t kLimitBytes = 32 * 1024 * 1024;  // of the strings

  uint32_t Intern(std::string_view value);

  // Strings 1 ... count() are there.
  uint32_t count() const { return count_.load(std::memory_order_acquire); }
  std::string_view Get(uint32_t id) const {
    const Entry& entry = *At(id);
    return {entry.data, entry.size};
  }

 private:
  struct Entry {
    const char* data;
    size_t size;
  };
  // Segment k has kFirstSegment << k entries, so that growth never moves an entry.
  static constexpr uint32_t kFirstSegment = 1024;
  static constexpr int kSegments = 16;

  const Entry* At(uint32_t id) const;
  Entry* MakeEntry(uint32_t id);
  char* Store(std::string_view value);

  ShortLock lock_;
  HashIndex index_;
  char* block_ = nullptr;
  size_t block_left_ = 0;
  size_t stored_bytes_ = 0;
  Entry* segments_[kSegments] = {};
  std::atomic<uint32_t> count_{0};
};

// The writer's own.
class StackInterner {
 public:
  static constexpr size_t kLimitBytes = 32 * 1024 * 1024;  // of the return addresses

  // `frames` ends with `python_frames` words that are no return addresses. 0 for an empty stack, and when there is no
  // memory.
  uint32_t Intern(std::span<const uint64_t> frames, uint32_t python_frames = 0);
  uint32_t count() const { return static_cast<uint32_t>(entries_.size()); }
  // The return addresses.
  std::span<const uint64_t> Get(uint32_t id) const {
    const Entry& entry = entries_[id - 1];
    return {pcs_.data() + entry.offset, entry.depth - entry.python_frames};
  }
  std::span<const uint64_t> GetPython(uint32_t id) const {
    const Entry& entry = entries_[id - 1];
    return {pcs_.data() + entry.offset + entry.depth - entry.python_frames, entry.python_frames};
  }

 private:
  struct Entry {
    uint32_t offset;
    uint32_t depth;
    uint32_t python_frames;
  };
  HashIndex index_;
  GrowableArray<Entry> entries_;
  GrowableArray<uint64_t> pcs_{kLimitBytes};
};

}  // namespace uvmtrace
