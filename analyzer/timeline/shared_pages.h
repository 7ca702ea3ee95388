// Pages that hold managed objects of more than one call site at a time.
//
// The driver moves pages, not objects: a fault on such a page is about any of them, and its address is the page's. So
// these pages have counts of their own, beside the account of the object at the page's start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "analyzer/timeline/allocation_versions.h"

namespace uvmtrace::analyzer {

class SharedPages {
 public:
  static constexpr uint64_t kPageBytes = 4096;
  static constexpr size_t kMaximumPages = 4096;
  static constexpr uint32_t kNone = ~uint32_t{0};

  struct Page {
    uint64_t address = 0;
    std::vector<uint32_t> sites;
  };

  // After the last allocation.
  void Find(const AllocationVersions& versions);

  bool empty() const { return pages_.empty(); }
  const std::vector<Page>& pages() const { return pages_; }
  uint32_t At(uint64_t address) const {
    const auto known = by_address_.find(address / kPageBytes);
    return known == by_address_.end() ? kNone : known->second;
  }

 private:
  std::vector<Page> pages_;
  std::unordered_map<uint64_t, uint32_t> by_address_;  // page number -> index
};

// What happened on each of them.
struct SharedPageSums {
  uint64_t gpu_faults = 0;  // entries, or CUPTI's records
  uint64_t cpu_faults = 0;
  uint64_t bytes = 0;  // moved, both ways
};

}  // namespace uvmtrace::analyzer
