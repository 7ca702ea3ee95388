#include "analyzer/model/allocation_table.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

// Records that arrive later than this after their memory was freed find nothing.
constexpr uint64_t kForgetAfterNs = 10'000'000'000;
// A large allocation may lie where many small ones were.
constexpr int kMaximumBasesSearched = 1024;

uint64_t SaturatingAdd(uint64_t a, uint64_t b) { return a + b < a ? std::numeric_limits<uint64_t>::max() : a + b; }

// Kinds whose pages stay where they are: no event asks for them.
bool IsFixed(MemoryKind kind) { return kind == MemoryKind::kDevice || kind == MemoryKind::kPool; }

}  // namespace

bool AllocationTable::KeepsVersion(MemoryKind kind) {
  if (IsFixed(kind) && fixed_versions_ >= kMaximumFixedVersions) return false;
  if (budget_ != nullptr && !budget_->TakeMemory(Spending::kAllocations, kBytesOfVersion)) return false;
  if (IsFixed(kind)) ++fixed_versions_;
  return true;
}

AllocationTable::AddOutcome AllocationTable::Add(uint64_t base, uint64_t bytes, uint64_t time_ns, MemoryKind kind,
                                                 uint32_t stack) {
  if (known_ - live_ >= forget_freed_at_) ForgetFreed(time_ns);
  auto [entry, is_new] = by_base_.try_emplace(base);
  Versions& versions = entry->second;
  if (is_new) ordered_.emplace(base, &versions);
  AddOutcome outcome{nullptr, nullptr};
  if (!versions.list.empty() && versions.list.back()->live()) {
    outcome.superseded = versions.list.back().get();
    End(outcome.superseded, std::max(time_ns, outcome.superseded->allocated_ns));
    outcome.superseded->superseded = true;
    outcome.superseded->ended_by = EndedBy::kSuccessor;
  }
  if (versions.list.size() >= versions.forget_at) Forget(&versions, time_ns);
  auto allocation = std::make_unique<Allocation>();
  allocation->id = next_id_++;
  allocation->base = base;
  allocation->end = SaturatingAdd(base, bytes);
  allocation->bytes = allocation->end - base;
  largest_bytes_ = std::max(largest_bytes_, allocation->bytes);
  allocation->allocated_ns = time_ns;
  allocation->kind = kind;
  allocation->stack = stack;
  allocation->site = sites_.Of(kind, stack);
  sites_[allocation->site].Grow(base, allocation->bytes);
  allocation->version = AllocationVersions::kNone;
  if (KeepsVersion(kind)) {
    AllocationVersion version;
    version.base = base;
    version.end = allocation->end;
    version.allocated_ns = time_ns;
    version.site = allocation->site;
    version.number = static_cast<uint32_t>(allocation->id);
    version.kind = kind;
    allocation->version = versions_.Add(version);
  }
  outcome.allocation = allocation.get();
  versions.end = std::max(versions.end, allocation->end);
  versions.list.push_back(std::move(allocation));
  ++versions.open;
  ++known_;
  ++live_;
  return outcome;
}

void AllocationTable::AddSystemMemory(uint64_t base, uint64_t end, uint64_t from_ns, uint64_t until_ns,
                                      uint32_t stack) {
  if (!KeepsVersion(MemoryKind::kSystem)) return;
  AllocationVersion version;
  version.base = base;
  version.end = end;
  version.allocated_ns = from_ns;
  version.freed_ns = until_ns;
  version.site = sites_.Of(MemoryKind::kSystem, stack);
  version.number = static_cast<uint32_t>(next_id_++);
  version.kind = MemoryKind::kSystem;
  SiteMemory& site = sites_[version.site];
  site.Grow(base, end - base);
  if (until_ns != AllocationVersion::kNever) site.Shrink(end - base);
  versions_.Add(version);
}

void AllocationTable::End(Allocation* allocation, uint64_t freed_ns) {
  allocation->freed_ns = freed_ns;
  sites_[allocation->site].Shrink(allocation->bytes);
  if (allocation->version != AllocationVersions::kNone) versions_[allocation->version].freed_ns = freed_ns;
  --live_;
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
    End(allocation, std::max(end_ns, allocation->allocated_ns));
    allocation->ended_by = EndedBy::kFree;
    --entry->second.open;
    return {allocation, false};
  }
  return {};
}

void AllocationTable::Forget(Versions* versions, uint64_t time_ns) {
  steps_ += versions->list.size();
  known_ -= std::erase_if(versions->list, [time_ns](const std::unique_ptr<Allocation>& allocation) {
    return !allocation->live() && !allocation->superseded &&
           time_ns > SaturatingAdd(allocation->freed_ns, kForgetAfterNs);
  });
  versions->forget_at = std::max(versions->forget_at, 2 * versions->list.size());
}

// Of addresses that are not used again. Those that ended last stay, however long ago.
void AllocationTable::ForgetFreed(uint64_t time_ns) {
  std::vector<uint64_t> ends;
  for (const auto& [base, versions] : by_base_) {
    for (const auto& allocation : versions.list) {
      if (!allocation->live()) ends.push_back(allocation->freed_ns);
    }
  }
  steps_ += ends.size();
  if (ends.empty()) return;
  const auto middle = ends.begin() + static_cast<std::ptrdiff_t>(ends.size() / 2);
  std::nth_element(ends.begin(), middle, ends.end());
  const uint64_t until_ns = std::max(*middle, time_ns > kForgetAfterNs ? time_ns - kForgetAfterNs : 0);
  for (auto entry = by_base_.begin(); entry != by_base_.end();) {
    std::vector<std::unique_ptr<Allocation>>& list = entry->second.list;
    known_ -= std::erase_if(list, [&](const std::unique_ptr<Allocation>& allocation) {
      if (allocation->live() || allocation->freed_ns > until_ns) return false;
      if (allocation->superseded) --entry->second.open;
      return true;
    });
    if (list.empty()) {
      ordered_.erase(entry->first);
      entry = by_base_.erase(entry);
    } else {
      ++entry;
    }
  }
  forget_freed_at_ = kMaximumFreed;
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

}  // namespace uvmtrace::analyzer
