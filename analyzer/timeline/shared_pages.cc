#include "analyzer/timeline/shared_pages.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

constexpr size_t kMaximumCandidates = size_t{1} << 20;
// Objects of one page that are compared with each other.
constexpr size_t kMaximumObjects = 64;

}  // namespace

void SharedPages::Find(const AllocationVersions& versions) {
  // Only pages that an object fills in part can hold another.
  std::unordered_map<uint64_t, std::vector<uint32_t>> candidates;
  const auto add = [&](uint64_t page, uint32_t version) {
    if (candidates.size() >= kMaximumCandidates) return;
    std::vector<uint32_t>& objects = candidates[page];
    if (objects.size() < kMaximumObjects) objects.push_back(version);
  };
  for (uint32_t index = 0; index < versions.size(); ++index) {
    const AllocationVersion& version = versions[index];
    if (version.kind != MemoryKind::kManaged || version.end == version.base) continue;
    const uint64_t first = version.base / kPageBytes;
    const uint64_t last = (version.end - 1) / kPageBytes;
    const bool starts_inside = version.base % kPageBytes != 0;
    const bool ends_inside = version.end % kPageBytes != 0;
    if (starts_inside || (first == last && ends_inside)) add(first, index);
    if (ends_inside && last != first) add(last, index);
  }
  for (const auto& [page, objects] : candidates) {
    Page found;
    for (const uint32_t a : objects) {
      for (const uint32_t b : objects) {
        const AllocationVersion& one = versions[a];
        const AllocationVersion& other = versions[b];
        if (one.site == other.site || one.allocated_ns >= other.freed_ns || other.allocated_ns >= one.freed_ns)
          continue;
        found.sites.push_back(one.site);
        found.sites.push_back(other.site);
      }
    }
    if (found.sites.empty()) continue;
    std::sort(found.sites.begin(), found.sites.end());
    found.sites.erase(std::unique(found.sites.begin(), found.sites.end()), found.sites.end());
    found.address = page * kPageBytes;
    pages_.push_back(std::move(found));
  }
  std::sort(pages_.begin(), pages_.end(), [](const Page& a, const Page& b) { return a.address < b.address; });
  if (pages_.size() > kMaximumPages) pages_.resize(kMaximumPages);
  for (uint32_t index = 0; index < pages_.size(); ++index) by_address_[pages_[index].address / kPageBytes] = index;
}

}  // namespace uvmtrace::analyzer
