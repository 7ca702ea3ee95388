// The memory of each call site: what allocations of one kind with one stack added up to, while they lived and after.
//
// An allocation is folded in here when it ends, so ten thousand allocations of two lines are two entries.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "analyzer/model/kinds.h"

namespace uvmtrace::analyzer {

struct SiteMemory {
  MemoryKind kind = MemoryKind::kUnknown;
  uint32_t stack = 0;
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t total_bytes = 0;
  uint64_t live_bytes = 0;
  uint64_t peak_bytes = 0;
  uint64_t live_allocations = 0;
  uint64_t blocks = 0;  // 2 MiB blocks that its allocations reach into
  uint64_t first_base = 0;
  uint64_t call_ns = 0;  // inside the calls that allocated and freed it

  void Grow(uint64_t base, uint64_t bytes) {
    if (allocations++ == 0) first_base = base;
    ++live_allocations;
    total_bytes += bytes;
    live_bytes += bytes;
    peak_bytes = std::max(peak_bytes, live_bytes);
    if (bytes > 0) blocks += ((base + bytes - 1) >> 21) - (base >> 21) + 1;
  }
  void Shrink(uint64_t bytes) {
    ++frees;
    live_allocations -= live_allocations > 0 ? 1 : 0;
    live_bytes -= std::min(live_bytes, bytes);
  }
};

class SiteMemories {
 public:
  uint32_t Of(MemoryKind kind, uint32_t stack) {
    const auto [known, is_new] =
        by_key_.try_emplace(uint64_t{stack} << 8 | static_cast<uint64_t>(kind), static_cast<uint32_t>(sites_.size()));
    if (is_new) {
      sites_.emplace_back();
      sites_.back().kind = kind;
      sites_.back().stack = stack;
    }
    return known->second;
  }
  SiteMemory& operator[](uint32_t site) { return sites_[site]; }
  const SiteMemory& operator[](uint32_t site) const { return sites_[site]; }
  size_t size() const { return sites_.size(); }

 private:
  std::unordered_map<uint64_t, uint32_t> by_key_;
  std::vector<SiteMemory> sites_;
};

}  // namespace uvmtrace::analyzer
