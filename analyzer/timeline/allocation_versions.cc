#include "analyzer/timeline/allocation_versions.h"

#include <numeric>
#include <tuple>

namespace uvmtrace::analyzer {
namespace {

// A large allocation may lie where many small ones were.
constexpr int kMaximumBasesSearched = 1024;
// Versions of one base overlap only where a free was not seen: so many before an instant are looked at.
constexpr int kVersionsSearched = 4;

}  // namespace

void AllocationVersions::Seal() {
  order_.resize(versions_.size());
  std::iota(order_.begin(), order_.end(), 0u);
  std::sort(order_.begin(), order_.end(), [this](uint32_t a, uint32_t b) {
    const AllocationVersion& left = versions_[a];
    const AllocationVersion& right = versions_[b];
    return std::tie(left.base, left.allocated_ns, left.number) < std::tie(right.base, right.allocated_ns, right.number);
  });
  uint64_t reach = 0;
  for (uint32_t i = 0; i < order_.size(); ++i) {
    const AllocationVersion& version = versions_[order_[i]];
    reach = std::max(reach, version.reach());
    if (bases_.empty() || bases_.back().address != version.base) bases_.push_back({version.base, 0, i, 0});
    bases_.back().reach = reach;
    ++bases_.back().count;
  }
}

void AllocationVersions::Finder::Remember(uint32_t version) {
  const AllocationVersion& hit = all_->versions_[version];
  last_ = version;
  base_ = hit.base;
  bytes_ = hit.end - hit.base;
  since_ns_ = hit.allocated_ns;
  lived_ns_ = hit.freed_ns - hit.allocated_ns;
}

uint32_t AllocationVersions::Finder::Search(uint64_t address, uint64_t time_ns) {
  const auto& bases = all_->bases_;
  const auto& order = all_->order_;
  auto base = std::upper_bound(bases.begin(), bases.end(), address,
                               [](uint64_t wanted, const Base& candidate) { return wanted < candidate.address; });
  uint32_t nearest = kNone;
  uint64_t nearest_distance = kClockErrorNs + 1;
  for (int searched = 0; base != bases.begin() && searched < kMaximumBasesSearched; ++searched) {
    --base;
    if (base->reach <= address) break;
    const auto begin = order.begin() + base->first;
    const auto end = begin + base->count;
    // The first that began later, and a few before it.
    auto version = std::upper_bound(begin, end, time_ns, [this](uint64_t wanted, uint32_t candidate) {
      return wanted < all_->versions_[candidate].allocated_ns;
    });
    if (version != end) ++version;
    for (int left = kVersionsSearched; version != begin && left > 0; --left) {
      const uint32_t index = *--version;
      const AllocationVersion& candidate = all_->versions_[index];
      if (address >= candidate.reach()) continue;
      uint64_t distance = 0;
      if (time_ns < candidate.allocated_ns) {
        distance = candidate.allocated_ns - time_ns;
      } else if (time_ns >= candidate.freed_ns) {
        distance = time_ns - candidate.freed_ns;
      } else {
        Remember(index);
        return index;
      }
      // Clocks of events and calls differ a little. After the free is more likely than before the allocation.
      if (distance < nearest_distance || (distance == nearest_distance && time_ns >= candidate.freed_ns)) {
        nearest_distance = distance;
        nearest = index;
      }
    }
  }
  return nearest;
}

uint32_t AllocationVersions::Finder::NextAfter(uint64_t address, uint64_t time_ns) {
  const auto& bases = all_->bases_;
  auto base = std::upper_bound(bases.begin(), bases.end(), address,
                               [](uint64_t wanted, const Base& candidate) { return wanted < candidate.address; });
  for (int searched = 0; base != bases.end() && searched < kMaximumBasesSearched; ++base, ++searched) {
    const auto begin = all_->order_.begin() + base->first;
    const auto end = begin + base->count;
    const uint64_t latest_ns = time_ns + std::min(kClockErrorNs, ~time_ns);
    auto version = std::upper_bound(begin, end, latest_ns, [this](uint64_t wanted, uint32_t candidate) {
      return wanted < all_->versions_[candidate].allocated_ns;
    });
    uint32_t oldest = kNone;
    for (int left = kVersionsSearched; version != begin && left > 0; --left) {
      const uint32_t index = *--version;
      const uint64_t freed_ns = all_->versions_[index].freed_ns;
      if (time_ns <= freed_ns + std::min(kClockErrorNs, ~freed_ns)) oldest = index;
    }
    if (oldest != kNone) return oldest;
  }
  return kNone;
}

}  // namespace uvmtrace::analyzer
