// A set of the 4 KiB pages of one 2 MiB block: residency, mapping and fault masks are all of this type.
//
// Page numbers count from the 2 MiB boundary, whatever part of the block an allocation owns, so that masks of blocks
// that were split by an advice stay comparable.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace uvm_model {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kBigPageBytes = uint64_t{64} * 1024;
inline constexpr uint64_t kBlockBytes = uint64_t{2} * 1024 * 1024;
inline constexpr int kPagesPerBlock = static_cast<int>(kBlockBytes / kPageBytes);
inline constexpr int kPagesPerBigPage = static_cast<int>(kBigPageBytes / kPageBytes);

class PageMask {
 public:
  // The pages [first, first + count).
  static PageMask Range(int first, int count) {
    PageMask mask;
    for (int word = first / 64; word * 64 < first + count; ++word)
      mask.words_[word] = Within(word, first, first + count);
    return mask;
  }

  bool Test(int page) const { return (words_[page / 64] >> (page % 64)) & 1; }
  void Clear(int page) { words_[page / 64] &= ~(uint64_t{1} << (page % 64)); }
  void Set(int page) { words_[page / 64] |= uint64_t{1} << (page % 64); }

  int Count() const {
    int count = 0;
    for (uint64_t word : words_) count += std::popcount(word);
    return count;
  }
  bool Empty() const {
    uint64_t any = 0;
    for (uint64_t word : words_) any |= word;
    return any == 0;
  }

  // Both count pages in [first, end).
  int CountRange(int first, int end) const {
    int count = 0;
    for (int word = first / 64; word * 64 < end; ++word)
      count += std::popcount(words_[word] & Within(word, first, end));
    return count;
  }
  bool IntersectsRange(int first, int end) const {
    for (int word = first / 64; word * 64 < end; ++word) {
      if ((words_[word] & Within(word, first, end)) != 0) return true;
    }
    return false;
  }

  // The first page in the set at or after `page`; kPagesPerBlock if there is none.
  int FindNext(int page) const { return Find(page, 0); }
  // The first page that is not in the set at or after `page`; kPagesPerBlock if there is none.
  int FindNextMissing(int page) const { return Find(page, ~uint64_t{0}); }

  // Calls visit(first, count) for every run of neighbouring pages, in address order.
  template <typename Visit>
  void ForEachRun(Visit visit) const {
    for (int first = FindNext(0); first < kPagesPerBlock;) {
      const int end = FindNextMissing(first);
      visit(first, end - first);
      first = FindNext(end);
    }
  }

  PageMask& operator&=(const PageMask& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
    return *this;
  }
  PageMask& operator|=(const PageMask& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
    return *this;
  }
  // Takes the pages of `other` out.
  PageMask& operator-=(const PageMask& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
    return *this;
  }
  bool Intersects(const PageMask& other) const {
    uint64_t any = 0;
    for (std::size_t i = 0; i < words_.size(); ++i) any |= words_[i] & other.words_[i];
    return any != 0;
  }
  friend PageMask operator&(PageMask a, const PageMask& b) { return a &= b; }
  friend PageMask operator|(PageMask a, const PageMask& b) { return a |= b; }
  friend PageMask operator-(PageMask a, const PageMask& b) { return a -= b; }
  friend bool operator==(const PageMask& a, const PageMask& b) = default;

 private:
  // The bits of a word that stand for pages in [first, end). The word has at least one.
  static uint64_t Within(int word, int first, int end) {
    const int low = first > word * 64 ? first - word * 64 : 0;
    const int high = end < word * 64 + 64 ? end - word * 64 : 64;
    return (~uint64_t{0} >> (64 - high)) & (~uint64_t{0} << low);
  }

  int Find(int page, uint64_t flip) const {
    while (page < kPagesPerBlock) {
      const uint64_t rest = (words_[page / 64] ^ flip) >> (page % 64);
      if (rest != 0) return page + std::countr_zero(rest);
      page = (page / 64 + 1) * 64;
    }
    return kPagesPerBlock;
  }

  std::array<uint64_t, kPagesPerBlock / 64> words_ = {};
};

}  // namespace uvm_model
