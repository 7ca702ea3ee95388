// From rows to the order in which the driver held each block's lock.
//
// The unit of work is one block in one batch: all fault entries of (device, batch, 2 MiB) are served together, and all
// are recorded before anything moves. So entries become services here, as they come: per entry a compare and a bit set.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "analyzer/reconstruct/rows.h"
#include "uvm_model/service.h"

namespace uvmtrace::reconstruct {

struct Service {
  uint64_t base = 0;  // of the 2 MiB
  uint64_t first_ns = 0;
  uint64_t last_ns = 0;
  uint32_t batch = 0;
  int32_t device = 0;
  uvm_model::FaultedPages faults;
};

// Fault entries to services. Entries of one batch and block need not be neighbours.
class ServiceBuilder {
 public:
  void Add(const GpuFault& fault) {
    const uint64_t base = fault.address & ~(uvm_model::kBlockBytes - 1);
    if (services_.empty() || services_[current_].base != base || services_[current_].batch != fault.batch ||
        services_[current_].device != fault.device) {
      Select(fault, base);
    }
    Service& service = services_[current_];
    if (fault.time_ns < service.first_ns) service.first_ns = fault.time_ns;
    if (fault.time_ns > service.last_ns) service.last_ns = fault.time_ns;
    const int page = static_cast<int>((fault.address - base) / uvm_model::kPageBytes);
    // An entry that writes also counts as one that reads: the strongest access decides when all are there.
    (fault.write ? service.faults.write : service.faults.read).Set(page);
  }

  // The services in the order in which they were begun; the builder is empty after.
  std::vector<Service> Take();

 private:
  void Select(const GpuFault& fault, uint64_t base);
  void ForgetRecent();

  std::vector<Service> services_;
  size_t current_ = 0;
  // The services of the last batches of each device: an open hash table of places in services_, counted from 1, by
  // device, batch and block. Half full at most.
  static constexpr size_t kRecentSlots = size_t{1} << 16;
  std::vector<uint32_t> recent_ = std::vector<uint32_t>(kRecentSlots);
  size_t recent_count_ = 0;
};

// Faults that the driver makes wait because their page thrashes.
class Throttles {
 public:
  void Add(const RareEvent& event);
  void Sort();
  // Whether a batch that ends then leaves this GPU's faults on the page for a later one.
  uvm_model::PageMask Waiting(uint64_t base, int32_t device, uint64_t batch_end_ns) const;
  // When the driver looked last at a throttled page of this block before `time_ns`; 0: it has none.
  uint64_t LastLook(uint64_t base, uint64_t time_ns) const;
  // When a CPU fault of `time_ns` on the page is served: at once, or when its throttling ends.
  uint64_t CpuServed(uint64_t address, uint64_t time_ns) const;

 private:
  struct Span {
    uint64_t page = 0;
    uint64_t start_ns = 0;
    uint64_t end_ns = 0;
    int32_t processor = 0;
  };
  std::unordered_map<uint64_t, std::vector<Span>> by_block_;
};

}  // namespace uvmtrace::reconstruct
