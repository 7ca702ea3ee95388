// See interner.h.
#include "record/interner.h"

#include <bit>

namespace uvmtrace {
namespace {

uint64_t HashBytes(std::string_view value) {
  uint64_t hash = value.size();
  const char* data = value.data();
  size_t left = value.size();
  for (; left >= 8; left -= 8, data += 8) {
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    hash = MixHash(hash, word);
  }
  uint64_t last = 0;
  if (left != 0) memcpy(&last, data, left);
  return MixHash(hash, last);
}

struct SegmentPosition {
  int segment;
  uint32_t index;
};

// Ids 1 ... 1024 are in segment 0, the next 2048 in segment 1, and so on.
SegmentPosition Locate(uint32_t id, uint32_t first_segment) {
  const uint32_t scaled = (id - 1) / first_segment + 1;
  const int segment = std::bit_width(scaled) - 1;
  return {segment, (id - 1) - first_segment * ((1u << segment) - 1)};
}

}  // namespace

const StringInterner::Entry* StringInterner::At(uint32_t id) const {
  const SegmentPosition position = Locate(id, kFirstSegment);
  return &segments_[position.segment][position.index];
}

StringInterner::Entry* StringInterner::MakeEntry(uint32_t id) {
  const SegmentPosition position = Locate(id, kFirstSegment);
  if (position.segment >= kSegments) return nullptr;
  Entry*& segment = segments_[position.segment];
  if (segment == nullptr) {
    segment = static_cast<Entry*>(MapPages(sizeof(Entry) * (size_t{kFirstSegment} << position.segment)));
    if (segment == nullptr) return nullptr;
  }
  return &segment[position.index];
}

char* StringInterner::Store(std::string_view value) {
  if (value.size() > kLimitBytes - stored_bytes_) return nullptr;
  if (block_ == nullptr || value.size() > block_left_) {
    constexpr size_t kBlockBytes = 256 * 1024;
    const size_t bytes = value.size() > kBlockBytes ? value.size() : kBlockBytes;
    char* block = static_cast<char*>(MapPages(bytes));
    if (block == nullptr) return nullptr;
    block_ = block;
    block_left_ = bytes;
  }
  char* stored = block_;
  if (!value.empty()) memcpy(stored, value.data(), value.size());
  block_ += value.size();
  block_left_ -= value.size();
  stored_bytes_ += value.size();
  return stored;
}

uint32_t StringInterner::Intern(std::string_view value) {
  const uint64_t hash = HashBytes(value);
  ShortLockGuard guard(lock_);
  if (!guard) return 0;
  const uint32_t known = index_.Find(hash, [&](uint32_t id) { return Get(id) == value; });
  if (known != 0) return known;
  const uint32_t id = count_.load(std::memory_order_relaxed) + 1;
  Entry* entry = MakeEntry(id);
  if (entry == nullptr) return 0;
  char* stored = Store(value);
  if (stored == nullptr) return 0;
  *entry = {stored, value.size()};
  if (!index_.Insert(hash, id)) return 0;
  count_.store(id, std::memory_order_release);
  return id;
}

uint32_t StackInterner::Intern(std::span<const uint64_t> frames, uint32_t python_frames) {
  if (frames.empty() || python_frames > frames.size()) return 0;
  uint64_t hash = MixHash(frames.size(), python_frames);
  for (const uint64_t frame : frames) hash = MixHash(hash, frame);
  const uint32_t known = index_.Find(hash, [&](uint32_t id) {
    const Entry& entry = entries_[id - 1];
    return entry.depth == frames.size() && entry.python_frames == python_frames &&
           memcmp(pcs_.data() + entry.offset, frames.data(), frames.size_bytes()) == 0;
  });
  if (known != 0) return known;
  const size_t offset = pcs_.size();
  if (!entries_.Reserve(1) || !pcs_.Reserve(frames.size())) return 0;
  const uint32_t id = count() + 1;
  if (!index_.Insert(hash, id)) return 0;
  pcs_.Append(frames.data(), frames.size());
  entries_.Append({static_cast<uint32_t>(offset), static_cast<uint32_t>(frames.size()), python_frames});
  return id;
}

}  // namespace uvmtrace
