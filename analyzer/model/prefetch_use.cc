#include "analyzer/model/prefetch_use.h"

#include <algorithm>

namespace uvmtrace::analyzer {

void PrefetchUse::Use(uint64_t allocation_id, uint64_t time_ns) {
  const auto memory = memory_.find(allocation_id);
  if (memory == memory_.end()) return;
  memory->second.last_use_ns = std::max(memory->second.last_use_ns, time_ns);
}

void PrefetchUse::Learn(const std::vector<uint64_t>& last_use_ns, const PrefetchMoved& moved) {
  for (auto& [id, memory] : memory_) {
    if (memory.number < last_use_ns.size())
      memory.last_use_ns = std::max(memory.last_use_ns, last_use_ns[memory.number]);
    for (Prefetch& prefetch : memory.prefetches) {
      if (prefetch.number >= moved.bytes.size()) continue;
      prefetch.moved_bytes = moved.bytes[prefetch.number];
      prefetch.moved_ns = moved.ns[prefetch.number];
    }
  }
}

bool PrefetchUse::Free(uint64_t allocation_id, uint64_t start_ns) {
  const auto memory = memory_.find(allocation_id);
  if (memory == memory_.end()) return false;
  memory->second.freed_ns = std::max<uint64_t>(start_ns, 1);
  memory->second.last_use_ns = std::max(memory->second.last_use_ns, used_any_ns_);
  ++freed_;
  return true;
}

void PrefetchUse::Lay(const KernelWindow& window, uint64_t forgotten_until_ns) {
  for (auto& [id, memory] : memory_) {
    if (memory.freed_ns == 0 || memory.prefetches.empty()) continue;
    memory.last_use_ns = std::max(memory.last_use_ns, forgotten_until_ns);
    // In doubt about the clocks it was a use.
    const uint64_t latest = window.LatestEndOfThoseBefore(memory.freed_ns + Release::kClockErrorNs);
    if (latest > 0) memory.last_use_ns = std::max(memory.last_use_ns, latest + Release::kClockErrorNs);
  }
}

void PrefetchUse::Shorten() {
  if (!full()) return;
  std::vector<uint64_t> ends;
  for (const auto& [id, memory] : memory_) {
    if (memory.freed_ns != 0) ends.push_back(memory.freed_ns);
  }
  const auto middle = ends.begin() + static_cast<std::ptrdiff_t>(ends.size() / 2);
  std::nth_element(ends.begin(), middle, ends.end());
  freed_ -= std::erase_if(memory_, [until_ns = *middle](const auto& entry) {
    return entry.second.freed_ns != 0 && entry.second.freed_ns <= until_ns;
  });
}

std::vector<PrefetchUse::Memory> PrefetchUse::Take() {
  std::vector<Memory> taken;
  for (auto& [id, memory] : memory_) {
    if (memory.freed_ns == 0) continue;
    std::erase_if(memory.prefetches,
                  [&memory](const Prefetch& prefetch) { return prefetch.start_ns <= memory.last_use_ns; });
    if (!memory.prefetches.empty()) taken.push_back(std::move(memory));
  }
  memory_.clear();
  freed_ = 0;
  // By time, not by hash.
  std::sort(taken.begin(), taken.end(), [](const Memory& a, const Memory& b) {
    return std::pair(a.prefetches.front().start_ns, a.base) < std::pair(b.prefetches.front().start_ns, b.base);
  });
  return taken;
}

}  // namespace uvmtrace::analyzer
