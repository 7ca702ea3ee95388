#include "analyzer/model/prefetch_use.h"

#include <algorithm>

namespace uvmtrace::analyzer {

void PrefetchUse::Use(uint64_t allocation_id, uint64_t time_ns) {
  const auto memory = memory_.find(allocation_id);
  if (memory == memory_.end()) return;
  memory->second.last_use_ns = std::max(memory->second.last_use_ns, time_ns);
}

void PrefetchUse::Moved(uint64_t allocation_id, uint64_t time_ns, uint64_t bytes, uint64_t duration_ns) {
  const auto memory = memory_.find(allocation_id);
  if (memory == memory_.end()) return;
  std::vector<Prefetch>& prefetches = memory->second.prefetches;
  for (auto prefetch = prefetches.rbegin(); prefetch != prefetches.rend(); ++prefetch) {
    if (prefetch->start_ns > time_ns + Release::kClockErrorNs) continue;
    prefetch->moved_bytes += bytes;
    prefetch->moved_ns += duration_ns;
    return;
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

std::vector<PrefetchUse::Memory> PrefetchUse::Take(bool all, uint64_t newest_ns) {
  std::vector<Memory> taken;
  const bool overflow = full();
  for (auto entry = memory_.begin(); entry != memory_.end();) {
    Memory& memory = entry->second;
    const bool decided = memory.freed_ns != 0 && (all || memory.freed_ns + KernelOverlaps::kLatestKernelNs < newest_ns);
    // Too much waits for its kernels: what is freed counts as used.
    if (!decided && !(overflow && memory.freed_ns != 0)) {
      ++entry;
      continue;
    }
    --freed_;
    std::erase_if(memory.prefetches,
                  [&memory](const Prefetch& prefetch) { return prefetch.start_ns <= memory.last_use_ns; });
    if (decided && !memory.prefetches.empty()) taken.push_back(std::move(memory));
    entry = memory_.erase(entry);
  }
  // By time, not by hash.
  std::sort(taken.begin(), taken.end(), [](const Memory& a, const Memory& b) {
    return std::pair(a.prefetches.front().start_ns, a.base) < std::pair(b.prefetches.front().start_ns, b.base);
  });
  return taken;
}

}  // namespace uvmtrace::analyzer
