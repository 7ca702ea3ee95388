#include "uvm_model/service.h"

#include "uvm_model/prefetch_tree.h"

namespace uvm_model {
namespace {

PageMask& Resident(Block* block, int processor) {
  return processor == kCpu ? block->cpu_resident : block->devices[processor].resident;
}
const PageMask& Resident(const Block& block, int processor) {
  return processor == kCpu ? block.cpu_resident : block.devices[processor].resident;
}

PageMask ResidentAnywhere(const Block& block) {
  PageMask somewhere = block.cpu_resident;
  for (const DeviceState& device : block.devices) somewhere |= device.resident;
  return somewhere;
}

// The pages that more than one processor has.
PageMask Duplicated(const Block& block) {
  PageMask duplicated;
  PageMask somewhere = block.cpu_resident;
  for (const DeviceState& device : block.devices) {
    duplicated |= somewhere & device.resident;
    somewhere |= device.resident;
  }
  return duplicated;
}

void Unmap(Block* block, int processor, const PageMask& pages) {
  PageMask& readable = processor == kCpu ? block->cpu_readable : block->devices[processor].readable;
  PageMask& writable = processor == kCpu ? block->cpu_writable : block->devices[processor].writable;
  readable -= pages;
  writable -= pages;
}

void UnmapAllBut(Block* block, int kept, const PageMask& pages) {
  for (int processor = kCpu; processor < kMaxDevices; ++processor) {
    if (processor != kept) Unmap(block, processor, pages);
  }
}

void Map(Block* block, int processor, const PageMask& readable, const PageMask& writable) {
  (processor == kCpu ? block->cpu_readable : block->devices[processor].readable) |= readable | writable;
  (processor == kCpu ? block->cpu_writable : block->devices[processor].writable) |= writable;
}

// block_copy_resident_pages: a GPU takes a page from another GPU before it takes it from the host.
void CopyTo(const Block& block, int destination, PageMask pages, MigrationCause cause,
            std::vector<Transfer>* transfers) {
  for (int source = 0; source <= kMaxDevices && !pages.Empty(); ++source) {
    const int processor = source == kMaxDevices ? kCpu : source;
    if (processor == destination) continue;
    const PageMask here = pages & Resident(block, processor);
    if (here.Empty()) continue;
    transfers->push_back({static_cast<int8_t>(processor), static_cast<int8_t>(destination), cause, here});
    pages -= here;
  }
}

struct Wanted {
  PageMask faulted;
  PageMask prefetched;
  MigrationCause cause = MigrationCause::kCoherence;  // of the faulted ones
  PageMask All() const { return faulted | prefetched; }
};

void Copy(const Block& block, int destination, const Wanted& wanted, std::vector<Transfer>* transfers) {
  const PageMask& here = Resident(block, destination);
  CopyTo(block, destination, wanted.faulted - here, wanted.cause, transfers);
  CopyTo(block, destination, wanted.prefetched - here, MigrationCause::kPrefetch, transfers);
}

// uvm_va_block_make_resident: the destination has the only copy.
void Move(Block* block, int destination, const Wanted& wanted, std::vector<Transfer>* transfers) {
  const PageMask pages = wanted.All();
  if (pages.Empty()) return;
  const PageMask missing = pages - Resident(*block, destination);
  UnmapAllBut(block, kNoProcessor, missing);
  UnmapAllBut(block, destination, pages & Duplicated(*block));
  Copy(*block, destination, wanted, transfers);
  for (int processor = kCpu; processor < kMaxDevices; ++processor) {
    if (processor != destination) Resident(block, processor) -= pages;
  }
  Resident(block, destination) |= pages;
}

// uvm_va_block_make_resident_read_duplicate: whoever has a page keeps it, and everybody can only read.
void Duplicate(Block* block, int destination, const Wanted& wanted, std::vector<Transfer>* transfers) {
  const PageMask pages = wanted.All();
  if (pages.Empty()) return;
  const PageMask single = pages - Duplicated(*block);
  for (int holder = kCpu; holder < kMaxDevices; ++holder) {
    const PageMask held = single & Resident(*block, holder);
    if (held.Empty()) continue;
    UnmapAllBut(block, holder, held);
    (holder == kCpu ? block->cpu_writable : block->devices[holder].writable) -= held;
  }
  Copy(*block, destination, wanted, transfers);
  Resident(block, destination) |= pages;
}

bool Accessible(int memory, int processor, const ServiceOptions& options) {
  if (memory == processor || memory == kCpu) return true;
  return processor != kCpu && options.peer_access;  // the host cannot map GPU memory over PCIe
}

// Where the faulted pages are to live: block_select_processor_residency, in its order. Index 0 is the host.
struct Placement {
  std::array<PageMask, kMaxDevices + 1> pages;
  PageMask& At(int processor) { return pages[processor + 1]; }
};

Placement Place(const Block& block, int processor, const PageMask& faulted, const ThrashingView& thrashing,
                const ServiceOptions& options) {
  Placement placement;
  const Policy& policy = block.policy;
  if (policy.read_mostly || policy.preferred == processor || processor == kCpu) {
    placement.At(processor) = faulted;
    return placement;
  }
  PageMask rest = faulted;
  if (thrashing.pinned_at != kNoProcessor) {
    placement.At(thrashing.pinned_at) |= rest & thrashing.pinned;
    rest -= thrashing.pinned;
  }
  const bool preferred = policy.preferred != kNoProcessor && Accessible(policy.preferred, processor, options);
  if (!preferred && !policy.AccessedBy(processor)) {
    placement.At(processor) |= rest;
    return placement;
  }
  const PageMask nowhere = rest - ResidentAnywhere(block);
  placement.At(preferred ? int{policy.preferred} : processor) |= nowhere;
  rest -= nowhere;
  placement.At(processor) |= rest & Resident(block, processor);
  rest -= Resident(block, processor);
  if (policy.AccessedBy(processor)) {
    for (int holder = kMaxDevices - 1; holder >= kCpu; --holder) {  // another GPU is closer than the host
      if (!Accessible(holder, processor, options)) continue;
      placement.At(holder) |= rest & Resident(block, holder);
      rest -= Resident(block, holder);
    }
  }
  placement.At(preferred ? int{policy.preferred} : processor) |= rest;
  return placement;
}

// uvm_perf_prefetch_prenotify_fault_migrations.
PageMask PagesAhead(Block* block, int destination, const PageMask& faulted, const PageMask& thrashing,
                    const ServiceOptions& options) {
  if (!options.prefetch_enable) return {};
  if (block->last_processor != destination) {
    block->last_processor = static_cast<int8_t>(destination);
    block->fault_migrations = 0;
  }
  block->fault_migrations += static_cast<uint32_t>(faulted.Count());
  if (block->fault_migrations < options.prefetch_min_faults) return {};
  PageMask ahead;
  if (block->policy.preferred == destination && ResidentAnywhere(*block).Empty()) {
    ahead = block->All() - faulted - thrashing;
  } else {
    ahead = PrefetchPages(block->first_page, block->page_count, Resident(*block, destination), faulted,
                          static_cast<int>(options.prefetch_threshold), thrashing);
  }
  if (destination == kCpu) ahead -= block->cpu_resident & block->cpu_readable;
  return ahead;
}

// Who has a mapping of its own of what lies on `memory`: uvm_va_block_add_mappings_after_migration.
void MapAccessedBy(Block* block, int memory, const PageMask& pages, const ServiceOptions& options) {
  if (block->policy.read_mostly || block->policy.accessed_by_devices == 0) return;
  for (int device = 0; device < kMaxDevices; ++device) {
    if (block->policy.AccessedBy(device) && Accessible(memory, device, options)) Map(block, device, pages, pages);
  }
}

PageMask Serve(Block* block, int processor, const PageMask& faulted, const PageMask& written,
               const ThrashingView& thrashing, const ServiceOptions& options, std::vector<Transfer>* transfers) {
  Placement placement = Place(*block, processor, faulted, thrashing, options);
  int destinations = 0;
  for (const PageMask& pages : placement.pages) destinations += pages.Empty() ? 0 : 1;
  PageMask served;
  for (int destination = kCpu; destination < kMaxDevices; ++destination) {
    Wanted wanted;
    wanted.faulted = placement.At(destination);
    if (wanted.faulted.Empty()) continue;
    // The driver prefetches only where all of a service goes to one place.
    if (destinations == 1) wanted.prefetched = PagesAhead(block, destination, wanted.faulted, thrashing.pages, options);
    const PageMask pages = wanted.All();
    PageMask writable = pages;
    if (block->policy.read_mostly) {
      Wanted shared = wanted;
      shared.faulted -= written;
      Duplicate(block, destination, shared, transfers);
      wanted.faulted &= written;
      wanted.prefetched = {};
      Move(block, destination, wanted, transfers);
      writable &= written;
    } else {
      Move(block, destination, wanted, transfers);
    }
    Map(block, processor, pages, writable);
    MapAccessedBy(block, destination, pages, options);
    served |= pages;
  }
  return served;
}

}  // namespace

PageMask AuthorizedPages(const Block& block, int device, const FaultedPages& faults) {
  const DeviceState& state = block.devices[device];
  return (faults.read & state.readable) | (faults.write & state.writable);
}

PageMask ServeGpuFaults(Block* block, int device, const FaultedPages& faults, const ThrashingView& thrashing,
                        const ServiceOptions& options, std::vector<Transfer>* transfers) {
  const PageMask faulted = (faults.read | faults.write) - AuthorizedPages(*block, device, faults);
  if (faulted.Empty()) return {};
  return Serve(block, device, faulted, faults.write & faulted, thrashing, options, transfers);
}

PageMask ServeCpuFault(Block* block, int page, bool write, const ThrashingView& thrashing,
                       const ServiceOptions& options, std::vector<Transfer>* transfers) {
  PageMask faulted;
  faulted.Set(page);
  return Serve(block, kCpu, faulted, write ? faulted : PageMask(), thrashing, options, transfers);
}

void MigratePages(Block* block, int destination, const PageMask& pages, std::vector<Transfer>* transfers) {
  Wanted wanted;
  wanted.faulted = pages & block->All();
  wanted.cause = MigrationCause::kUser;
  if (block->policy.read_mostly) {
    Duplicate(block, destination, wanted, transfers);
    Map(block, destination, wanted.faulted, wanted.faulted - Duplicated(*block) - block->cpu_readable);
  } else {
    Move(block, destination, wanted, transfers);
    Map(block, destination, wanted.faulted, wanted.faulted);
    MapAccessedBy(block, destination, wanted.faulted, {});
  }
}

void EvictPages(Block* block, int device, std::vector<Transfer>* transfers) {
  Wanted wanted;
  wanted.faulted = block->devices[device].resident;
  wanted.cause = MigrationCause::kEviction;
  const PageMask copied = wanted.faulted - block->cpu_resident;
  CopyTo(*block, kCpu, copied, MigrationCause::kEviction, transfers);
  UnmapAllBut(block, kCpu, wanted.faulted);
  Unmap(block, kCpu, copied);
  for (DeviceState& state : block->devices) state.resident -= wanted.faulted;
  block->cpu_resident |= wanted.faulted;
  MapAccessedBy(block, kCpu, wanted.faulted, {});
}

void EnterReadMostly(Block* block) {
  for (int holder = kCpu; holder < kMaxDevices; ++holder) {
    const PageMask held = Resident(*block, holder);
    UnmapAllBut(block, holder, held);
    (holder == kCpu ? block->cpu_writable : block->devices[holder].writable) -= held;
  }
}

// One copy of each page stays: the one at the preferred location, else that of the first processor that has one.
void LeaveReadMostly(Block* block) {
  std::vector<Transfer> none;  // what stays is there already
  const int preferred{block->policy.preferred};
  for (int turn = kNoProcessor; turn < kMaxDevices; ++turn) {
    const int keeper = turn == kNoProcessor ? preferred : turn;
    if (keeper == kNoProcessor) continue;
    Wanted wanted;
    wanted.faulted = Duplicated(*block) & Resident(*block, keeper);
    Move(block, keeper, wanted, &none);
  }
}

void UnmapRemotePages(Block* block, int processor) {
  if (!block->policy.read_mostly) Unmap(block, processor, block->All() - Resident(*block, processor));
}

void MapAccessedByDevice(Block* block, int device) {
  if (!block->policy.read_mostly) Map(block, device, block->cpu_resident, block->cpu_resident);
}

}  // namespace uvm_model
