// What the driver's work costs: a handful of constants, fitted to published and measured runs, by path.
//
// Counts and bytes of the model follow from the driver's source; times do not, and are good to +-30 % at best on a host
// they were not fitted on.
//   fault     batch + block * (blocks - 1) + page * pages + sum(copy + bytes / bandwidth) + evict + what a block costs
//             on its first use on a GPU, or on its return after an eviction
//   prefetch  sum(copy + bytes / bandwidth), evicted bytes included, + refetch for each block that was evicted before:
//             the driver's own work runs ahead of the copy engine, and is hidden behind it
#pragma once

#include <algorithm>

namespace uvm_model {

struct CostModel {
  double batch_ns = 12'600;         // fetch, preprocess and replay one batch of GPU faults
  double block_ns = 4'000;          // every further block in the batch
  double cpu_fault_ns = 12'600;     // enter, service and leave one CPU fault
  double mapped_page_ns = 224;      // move one page that the CPU had mapped
  double page_ns = 112;             // move or zero one page that it had not
  double copy_ns = 1'000;           // start one copy
  double first_touch_ns = 168'000;  // first use on a GPU of a block with CPU pages: DMA mapping, unmap_mapping_range
  double refault_ns = 168'000;      // a fault brings a block back that was evicted
  double refetch_ns = 50'000;       // a prefetch brings one back
  double evict_ns = 25'000;         // choose and free one block, without its copy
  double host_to_device_bytes_per_ns = 22.9;
  double device_to_host_bytes_per_ns = 22.9;
  double device_to_device_bytes_per_ns = 22.9;
  double zero_bytes_per_ns = 500;
};

// Where the time of one batch went, in nanoseconds.
struct ServiceTime {
  double batch_ns = 0;
  double block_ns = 0;
  double page_ns = 0;
  double copy_ns = 0;
  double first_touch_ns = 0;
  double return_ns = 0;  // of blocks that were evicted before
  double evict_ns = 0;
  double evict_copy_ns = 0;

  // An eviction's copy is started before the host unmaps the block that needs the room, and runs beside that.
  double Total() const {
    return batch_ns + block_ns + page_ns + copy_ns + return_ns + evict_ns + std::max(first_touch_ns, evict_copy_ns);
  }
  ServiceTime& operator+=(const ServiceTime& other) {
    batch_ns += other.batch_ns;
    block_ns += other.block_ns;
    page_ns += other.page_ns;
    copy_ns += other.copy_ns;
    first_touch_ns += other.first_touch_ns;
    return_ns += other.return_ns;
    evict_ns += other.evict_ns;
    evict_copy_ns += other.evict_copy_ns;
    return *this;
  }
};

}  // namespace uvm_model
