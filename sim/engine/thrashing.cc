#include "sim/engine/thrashing.h"

#include <algorithm>

namespace uvmsim {
namespace {

uint64_t BlockOf(uint64_t address) { return address / kBlockBytes * kBlockBytes; }
int PageOf(uint64_t address) { return static_cast<int>(address % kBlockBytes / kPageBytes); }
int PagesFrom(uint64_t address, uint64_t bytes) {
  const uint64_t end = std::min(address + bytes, BlockOf(address) + kBlockBytes);
  return static_cast<int>((end - 1) / kPageBytes - address / kPageBytes) + 1;
}

}  // namespace

ThrashingDetector::Found ThrashingDetector::Moved(uint64_t address, uint64_t bytes, int processor, double now_ns) {
  Found found;
  auto it = blocks_.find(BlockOf(address));
  if (it == blocks_.end()) {
    if (processor == kCpu) return found;
    it = blocks_.emplace(BlockOf(address), std::make_unique<BlockState>()).first;
  }
  BlockState& block = *it->second;
  const int first = PageOf(address);
  for (int index = first; index < first + PagesFrom(address, bytes); ++index) {
    Page& page = block.pages[static_cast<size_t>(index)];
    // A processor that had to wait does not make the page a quiet one.
    const double nap_ns = page.moves >= limits_.threshold ? limits_.nap_lapses * limits_.lapse_ns : 0;
    const bool quick = page.processor != kNoProcessor && now_ns - page.last_ns <= limits_.lapse_ns + nap_ns;
    if (!quick) {
      page.moves = 0;
    } else if (page.processor != processor && page.moves < limits_.pin_threshold) {
      ++page.moves;
      if (page.moves == limits_.threshold) found.detected.Set(index);
      if (page.moves == limits_.pin_threshold) found.pinned.Set(index);
    }
    page.last_ns = now_ns;
    page.processor = static_cast<int8_t>(processor);
  }
  if (!found.pinned.Empty()) {
    block.pinned |= found.pinned;
    block.pinned_until_ns = now_ns + limits_.pin_lapses * limits_.lapse_ns;
  }
  return found;
}

double ThrashingDetector::ThrottleNs(uint64_t address, uint64_t bytes, int processor, double now_ns) const {
  double wait_ns = 0;
  const uint64_t end = address + bytes;
  for (auto it = blocks_.lower_bound(BlockOf(address)); it != blocks_.end() && it->first < end; ++it) {
    const uint64_t begin = std::max(address, it->first);
    const int first = PageOf(begin);
    for (int index = first; index < first + PagesFrom(begin, end - begin); ++index) {
      const Page& page = it->second->pages[static_cast<size_t>(index)];
      if (page.moves < limits_.threshold || page.processor == processor || it->second->pinned.Test(index)) continue;
      wait_ns = std::max(wait_ns, page.last_ns + limits_.nap_lapses * limits_.lapse_ns - now_ns);
    }
  }
  // Longer than a nap where the other processor's time is ahead of this one's.
  return std::min(wait_ns, limits_.nap_lapses * limits_.lapse_ns);
}

bool ThrashingDetector::TakeUnpinned(uint64_t address, double now_ns) {
  const auto it = blocks_.find(BlockOf(address));
  if (it == blocks_.end() || it->second->pinned.Empty() || now_ns <= it->second->pinned_until_ns) return false;
  BlockState& block = *it->second;
  block.pinned.ForEachRun([&](int first, int count) { std::fill_n(block.pages.begin() + first, count, Page()); });
  block.pinned = {};
  return true;
}

void ThrashingDetector::Forget(uint64_t address, uint64_t bytes) {
  blocks_.erase(blocks_.lower_bound(BlockOf(address)), blocks_.lower_bound(address + bytes));
}

}  // namespace uvmsim
