#include "analyzer/model/allocation_table.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

// Records that arrive later than this after their memory was freed find nothing.
constexpr uint64_t kForgetAfterNs = 10'000'000'000;
// A large allocation may lie where many small ones were.
constexpr int kMaximumBasesSearched = 1024;

uint64_t SaturatingAdd(uint64_t a, uint64_t b) { return a + b < a ? std::numeric_limits<uint64_t>::max() : a + b; }

uint64_t RoundUp(uint64_t value, uint64_t granule) {
  const uint64_t rounded = SaturatingAdd(value, granule - 1);
  return std::max(value, rounded - rounded % granule);
}

}  // namespace

AllocationTable::AddOutcome AllocationTable::Add(uint64_t base, uint64_t bytes, uint64_t time_ns, MemoryKind kind,
                                                 uint32_t stack) {
  auto [entry, is_new] = by_base_.try_emplace(base);
  Versions& versions = entry->second;
  if (is_new) {
    new_bases_.push_back(base);
    ordered_.emplace(base, &versions);
  }
  AddOutcome outcome{nullptr, nullptr};
  if (!versions.list.empty() && versions.list.back()->live()) {
    outcome.superseded = versions.list.back().get();
    outcome.superseded->freed_ns = std::max(time_ns, outcome.superseded->allocated_ns);
    outcome.superseded->superseded = true;
    outcome.superseded->ended_by = EndedBy::kSuccessor;
  }
  if (versions.list.size() >= versions.forget_at) Forget(&versions, time_ns);
  auto allocation = std::make_unique<Allocation>();
  allocation->id = next_id_++;
  allocation->base = base;
  allocation->bytes = bytes;
  allocation->end = SaturatingAdd(base, bytes);
  allocation->bytes = allocation->end - base;
  largest_bytes_ = std::max(largest_bytes_, allocation->bytes);
  // Only unified memory is moved by pages; other kinds keep to their bytes.
  allocation->reach = kind == MemoryKind::kManaged ? RoundUp(allocation->end, kGranuleBytes) : allocation->end;
  allocation->allocated_ns = time_ns;
  allocation->kind = kind;
  allocation->stack = stack;
  outcome.allocation = allocation.get();
  versions.end = std::max(versions.end, allocation->end);
  if (is_new || allocation->reach > versions.reach) reach_is_stale_ = true;
  versions.reach = std::max(versions.reach, allocation->reach);
  versions.list.push_back(std::move(allocation));
  ++versions.open;
  last_hit_ = outcome.allocation;
  return outcome;
}

AllocationTable::FreeOutcome AllocationTable::Free(uint64_t base, uint64_t start_ns, uint64_t end_ns) {
  const auto entry = by_base_.find(base);
  if (entry == by_base_.end()) return {};
  const auto& versions = entry->second.list;
  if (entry->second.open == 0) return {};  // the allocation was not recorded
  // The newest that existed when the free began; a free that another thread recorded late belongs to an older one.
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    ++steps_;
    Allocation* allocation = version->get();
    if (allocation->superseded) {
      if (allocation->allocated_ns > SaturatingAdd(start_ns, kClockErrorNs)) continue;
      allocation->superseded = false;
      --entry->second.open;
      return {allocation, true};
    }
    if (!allocation->live()) continue;
    const bool older_waits = version + 1 != versions.rend() && version[1]->superseded;
    if (older_waits && allocation->allocated_ns > start_ns) continue;
    allocation->freed_ns = std::max(end_ns, allocation->allocated_ns);
    allocation->ended_by = EndedBy::kFree;
    --entry->second.open;
    return {allocation, false};
  }
  return {};
}

void AllocationTable::Forget(Versions* versions, uint64_t time_ns) {
  last_hit_ = nullptr;
  steps_ += versions->list.size();
  std::erase_if(versions->list, [time_ns](const std::unique_ptr<Allocation>& allocation) {
    return !allocation->live() && !allocation->superseded && !allocation->activity.any() &&
           time_ns > SaturatingAdd(allocation->freed_ns, kForgetAfterNs);
  });
  versions->forget_at = std::max(versions->forget_at, 2 * versions->list.size());
}

void AllocationTable::MergeNewBases() {
  std::sort(new_bases_.begin(), new_bases_.end());
  const size_t old_size = bases_.size();
  for (const uint64_t base : new_bases_) bases_.push_back({base, 0, &by_base_.find(base)->second});
  new_bases_.clear();
  std::inplace_merge(bases_.begin(), bases_.begin() + static_cast<std::ptrdiff_t>(old_size), bases_.end(),
                     [](const Base& a, const Base& b) { return a.address < b.address; });
  uint64_t reach = 0;
  for (Base& base : bases_) {
    reach = std::max(reach, base.versions->reach);
    base.reach = reach;
  }
  reach_is_stale_ = false;
}

Allocation* AllocationTable::Search(uint64_t address, uint64_t time_ns) {
  if (reach_is_stale_) MergeNewBases();
  auto base = std::upper_bound(bases_.begin(), bases_.end(), address,
                               [](uint64_t wanted, const Base& candidate) { return wanted < candidate.address; });
  Allocation* nearest = nullptr;
  uint64_t nearest_distance = kClockErrorNs + 1;
  for (int searched = 0; base != bases_.begin() && searched < kMaximumBasesSearched; ++searched) {
    --base;
    if (base->reach <= address) break;
    const auto& versions = base->versions->list;
    int left = kVersionsOutOfOrder;
    for (auto version = versions.rbegin(); version != versions.rend() && left > 0; ++version) {
      ++steps_;
      Allocation* allocation = version->get();
      if (address >= allocation->reach) continue;
      // What was allocated before this one had gone by then.
      if (time_ns >= allocation->freed_ns) --left;
      uint64_t distance = 0;
      if (time_ns < allocation->allocated_ns) {
        distance = allocation->allocated_ns - time_ns;
      } else if (time_ns >= allocation->freed_ns) {
        // After the free is more likely than before the allocation: records arrive late, never early.
        distance = time_ns - allocation->freed_ns;
      } else {
        last_hit_ = allocation;
        return allocation;
      }
      if (distance < nearest_distance) {
        nearest_distance = distance;
        nearest = allocation;
      }
    }
  }
  return nearest;
}

AllocationTable::Occupants AllocationTable::At(uint64_t address, uint64_t time_ns) {
  Occupants occupants;
  auto base = ordered_.upper_bound(address);
  for (int searched = 0; base != ordered_.begin(); ++searched) {
    // Whether it is alive cannot be told, and so not that it is dead.
    if (searched == kMaximumBasesSearched) return {};
    --base;
    if (address - base->first >= largest_bytes_) break;
    if (address >= base->second->end) continue;
    const auto& versions = base->second->list;
    int left = kVersionsOutOfOrder;
    for (auto version = versions.rbegin(); version != versions.rend() && left > 0; ++version) {
      ++steps_;
      Allocation* allocation = version->get();
      if (address >= allocation->end || time_ns < allocation->allocated_ns) continue;
      if (time_ns >= allocation->freed_ns) --left;
      if (time_ns < allocation->freed_ns) {
        occupants.live = allocation;
      } else if (occupants.freed == nullptr || allocation->freed_ns > occupants.freed->freed_ns) {
        occupants.freed = allocation;
      }
    }
    if (occupants.live != nullptr) break;
  }
  return occupants;
}

Allocation* AllocationTable::NextAfter(uint64_t address, uint64_t time_ns) {
  if (reach_is_stale_) MergeNewBases();
  auto base = std::upper_bound(bases_.begin(), bases_.end(), address,
                               [](uint64_t wanted, const Base& candidate) { return wanted < candidate.address; });
  for (int searched = 0; base != bases_.end() && searched < kMaximumBasesSearched; ++base, ++searched) {
    const auto& versions = base->versions->list;
    Allocation* oldest = nullptr;
    int left = kVersionsOutOfOrder;
    for (auto version = versions.rbegin(); version != versions.rend() && left > 0; ++version) {
      ++steps_;
      Allocation* allocation = version->get();
      if (time_ns + kClockErrorNs < allocation->allocated_ns) continue;
      if (allocation->live() || time_ns <= SaturatingAdd(allocation->freed_ns, kClockErrorNs)) {
        oldest = allocation;
      } else {
        --left;
      }
    }
    if (oldest != nullptr) return oldest;
  }
  return nullptr;
}

}  // namespace uvmtrace::analyzer
