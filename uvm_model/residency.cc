// How pages become resident on a processor, what that moves, maps and unmaps, and which block has to leave for it.
#include "uvm_model/recorder.h"

namespace uvm_model {

// Makes the pages resident and mapped on `destination`: uvm_va_block_make_resident, and the mapping that follows it.
// With `duplicate` other processors keep their copies, and everybody can only read. False if device memory ran out.
bool Model::MakeResident(Block* block, int destination, const PageMask& faulted, const PageMask& prefetched,
                         MigrationCause faulted_cause, bool duplicate, Recorder* recorder) {
  const PageMask pages = faulted | prefetched;
  if (pages.Empty()) return true;
  const CostModel& cost = recorder->cost();
  if (destination != kCpu) {
    DeviceState& state = block->devices[destination];
    if (!EnsureChunk(block, destination, recorder)) return false;
    recorder->ChargeArrival(state.evicted, !state.dma_mapped && !block->cpu_resident.Empty());
    state.dma_mapped = true;
    state.evicted = false;
  }
  PageMask& resident = destination == kCpu ? block->cpu_resident : block->devices[destination].resident;
  const PageMask missing = pages - resident;
  const PageMask duplicated = Duplicated(*block);
  const PageMask was_mapped = missing & block->cpu_readable;
  recorder->ChargePages(was_mapped.Count(), (missing - was_mapped).Count());
  recorder->time().copy_ns +=
      static_cast<double>(static_cast<uint64_t>((missing - block->populated).Count()) * kPageBytes) /
      cost.zero_bytes_per_ns;

  // The faulted pages first, then what the prefetcher added: two transfers, as the driver's tools show them.
  PageMask to_move = missing & block->populated;
  for (int source = kCpu; source < static_cast<int>(devices_.size()) && !to_move.Empty(); ++source) {
    if (source == destination) continue;
    const PageMask here = to_move & (source == kCpu ? block->cpu_resident : block->devices[source].resident);
    Copy(block, source, destination, here & faulted, faulted_cause, recorder);
    Copy(block, source, destination, here - faulted, MigrationCause::kPrefetch, recorder);
    to_move -= here;
  }
  resident |= pages;
  block->populated |= pages;

  // Who keeps what.
  PageMask exclusive = pages;
  if (duplicate) {
    PageMask elsewhere = destination == kCpu ? PageMask() : block->cpu_resident;
    for (size_t i = 0; i < devices_.size(); ++i) {
      if (static_cast<int>(i) != destination) elsewhere |= block->devices[i].resident;
    }
    exclusive -= elsewhere;
    const PageMask shared = pages & elsewhere;
    block->cpu_writable -= shared;
    for (size_t i = 0; i < devices_.size(); ++i) block->devices[i].writable -= shared;
  }
  if (destination != kCpu) {
    block->cpu_resident -= exclusive;
    block->cpu_readable -= exclusive;
    block->cpu_writable -= exclusive;
  }
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    if (i == destination) continue;
    DeviceState& state = block->devices[i];
    // A GPU's mapping of memory on the CPU outlives a service that leaves the memory there.
    const PageMask revoked = destination == kCpu ? exclusive & (missing | state.resident) : exclusive;
    state.resident -= exclusive;
    state.readable -= revoked;
    state.writable -= revoked;
    MarkUnusedIfEmpty(block, i);
  }
  if (destination == kCpu) {
    block->cpu_readable |= pages;
    block->cpu_writable |= exclusive;
    MapAccessedBy(block, exclusive, RemoteMapCause::kPolicy, recorder);
  } else {
    block->devices[destination].readable |= pages;
    block->devices[destination].writable |= exclusive;
    MarkUsed(block, destination);
  }
  ReportDuplication(*block, duplicated, recorder);
  return true;
}

// The pages that more than one processor has. There are none unless somebody asked for read duplication.
PageMask Model::Duplicated(const Block& block) const {
  PageMask duplicated;
  if (!block.policy.read_mostly) return duplicated;
  PageMask somewhere = block.cpu_resident;
  for (size_t i = 0; i < devices_.size(); ++i) {
    duplicated |= somewhere & block.devices[i].resident;
    somewhere |= block.devices[i].resident;
  }
  return duplicated;
}

// Which pages came to more than one processor since `before`, and which have one left.
void Model::ReportDuplication(const Block& block, const PageMask& before, Recorder* recorder) const {
  const PageMask now = Duplicated(block);
  if (before == now) return;
  const auto holders = [&](int page) {
    unsigned mask = block.cpu_resident.Test(page) ? 1 : 0;
    for (size_t i = 0; i < devices_.size(); ++i) mask |= block.devices[i].resident.Test(page) ? 2u << i : 0u;
    return mask;
  };
  const auto each_run = [&](const PageMask& pages, auto report) {
    pages.ForEachRun([&](int first, int count) {
      for (int page = first; page < first + count;) {
        const unsigned mask = holders(page);
        int end = page + 1;
        while (end < first + count && holders(end) == mask) ++end;
        report(mask, block.Address(page), static_cast<uint64_t>(end - page) * kPageBytes);
        page = end;
      }
    });
  };
  each_run(now - before, [&](unsigned mask, uint64_t address, uint64_t bytes) {
    recorder->ReadDuplicate(static_cast<uint8_t>(mask), address, bytes);
  });
  each_run(before - now, [&](unsigned mask, uint64_t address, uint64_t bytes) {
    if (mask != 0) recorder->ReadDuplicateInvalidate(std::countr_zero(mask) - 1, address, bytes);
  });
}

void Model::Copy(Block* block, int source, int destination, const PageMask& pages, MigrationCause cause,
                 Recorder* recorder) {
  pages.ForEachRun([&](int first, int count) {
    recorder->Migration(source, destination, block->Address(first), static_cast<uint64_t>(count) * kPageBytes, cause);
  });
}

void Model::MapRemotely(Block* block, int device, const PageMask& pages, RemoteMapCause cause, Recorder* recorder) {
  DeviceState& state = block->devices[device];
  const PageMask fresh = pages - state.readable;
  state.readable |= pages;
  state.writable |= pages;
  fresh.ForEachRun([&](int first, int count) {
    recorder->RemoteMap(kCpu, device, block->Address(first), static_cast<uint64_t>(count) * kPageBytes, cause);
  });
}

// Whoever is in accessed_by keeps a mapping of what lies on the CPU, so that it does not fault.
void Model::MapAccessedBy(Block* block, const PageMask& pages, RemoteMapCause cause, Recorder* recorder) {
  if (block->policy.read_mostly) return;
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    if (block->policy.AccessedBy(i)) MapRemotely(block, i, pages & block->cpu_resident, cause, recorder);
  }
}

// A whole block takes a 2 MiB chunk at once, whatever part of it is touched.
bool Model::EnsureChunk(Block* block, int device, Recorder* recorder) {
  DeviceState& state = block->devices[device];
  if (state.chunk_bytes != 0) return true;
  const uint64_t bytes = static_cast<uint64_t>(block->page_count) * kPageBytes;
  if (!MakeRoom(device, bytes, block, recorder)) return false;
  state.chunk_bytes = bytes;
  devices_[device].chunk_bytes += bytes;
  devices_[device].unused.Append(block);  // MarkUsed follows when something is resident
  return true;
}

// pick_root_chunk_to_evict: what nobody uses first, then the used list from its head.
bool Model::MakeRoom(int device, uint64_t bytes, const Block* keep, Recorder* recorder) {
  Device& memory = devices_[device];
  const uint64_t evictable = memory.chunk_bytes - (keep == nullptr ? 0 : keep->devices[device].chunk_bytes);
  if (bytes > options_.device_bytes || UsedBytes(device) - evictable > options_.device_bytes - bytes) {
    recorder->outcome()->out_of_memory = true;
    return false;
  }
  while (UsedBytes(device) > options_.device_bytes - bytes) {
    Block* victim = memory.unused.head();
    if (victim == keep && victim != nullptr) victim = victim->devices[device].next;
    if (victim == nullptr) victim = memory.used.head();
    if (victim == keep && victim != nullptr) victim = victim->devices[device].next;
    // There is one: UsedBytes is more than what cannot be evicted.
    if (victim != nullptr) Evict(victim, device, recorder);
  }
  return true;
}

// There is no dirty bit: all pages that live only here are copied back, written or not.
void Model::Evict(Block* block, int device, Recorder* recorder) {
  DeviceState& state = block->devices[device];
  if (!state.resident.Empty()) {
    const PageMask duplicated = Duplicated(*block);
    recorder->ChargeEviction();
    state.evicted = true;
    ++recorder->outcome()->evicted_blocks;
    Copy(block, device, kCpu, state.resident - block->cpu_resident, MigrationCause::kEviction, recorder);
    const PageMask evicted = state.resident;
    block->cpu_resident |= evicted;
    state.readable -= evicted;
    state.writable -= evicted;
    state.resident = {};
    MapAccessedBy(block, evicted, RemoteMapCause::kEviction, recorder);
    ReportDuplication(*block, duplicated, recorder);
  }
  FreeChunk(block, device);
}

// uvm_pmm_gpu_mark_root_chunk_used: to the tail, but only whole blocks. Others stay where they were allocated.
void Model::MarkUsed(Block* block, int device) {
  DeviceState& state = block->devices[device];
  if (state.resident.Empty()) return;
  if (state.list == ChunkList::kUnused) {
    devices_[device].unused.Remove(block);
  } else if (state.list == ChunkList::kUsed) {
    if (!block->Whole()) return;
    devices_[device].used.Remove(block);
  }
  devices_[device].used.Append(block);
}

void Model::MarkUnusedIfEmpty(Block* block, int device) {
  DeviceState& state = block->devices[device];
  if (state.list != ChunkList::kUsed || !state.resident.Empty()) return;
  devices_[device].used.Remove(block);
  devices_[device].unused.Append(block);
}

void Model::FreeChunk(Block* block, int device) {
  DeviceState& state = block->devices[device];
  if (state.list == ChunkList::kUsed) devices_[device].used.Remove(block);
  if (state.list == ChunkList::kUnused) devices_[device].unused.Remove(block);
  devices_[device].chunk_bytes -= state.chunk_bytes;
  state.chunk_bytes = 0;
}

bool Model::ReserveDeviceMemory(int device, uint64_t bytes, Outcome* outcome) {
  Recorder recorder(BatchKind::kDeviceAllocation, device, options_.cost, outcome);
  if (!MakeRoom(device, bytes, nullptr, &recorder)) return false;
  devices_[device].reserved_bytes += bytes;
  return true;
}

void Model::ReleaseDeviceMemory(int device, uint64_t bytes) { devices_[device].reserved_bytes -= bytes; }

// One copy of each page stays: the one at the preferred location, else the CPU's.
void Model::UnsetReadMostly(Block* block, Recorder* recorder) {
  const PageMask duplicated = Duplicated(*block);
  const int preferred{block->policy.preferred};
  if (preferred >= 0) {
    const PageMask& kept = block->devices[preferred].resident;
    block->cpu_resident -= kept;
    block->cpu_readable -= kept;
  }
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    DeviceState& state = block->devices[i];
    state.resident -= block->cpu_resident;
    state.readable &= state.resident;
    MarkUnusedIfEmpty(block, i);
  }
  ReportDuplication(*block, duplicated, recorder);
}

void Model::ReportProtection(Block* block, Recorder* recorder) {
  const PageMask changed =
      (block->cpu_readable | block->shown_readable) -
      ((block->cpu_readable & block->shown_readable) -
       ((block->cpu_writable | block->shown_writable) - (block->cpu_writable & block->shown_writable)));
  const auto report = [&](const PageMask& pages, CpuProtection protection) {
    pages.ForEachRun([&](int first, int count) {
      recorder->outcome()->protections.push_back(
          {block->Address(first), static_cast<uint64_t>(count) * kPageBytes, protection});
    });
  };
  report(changed - block->cpu_readable, CpuProtection::kNone);
  report((changed & block->cpu_readable) - block->cpu_writable, CpuProtection::kRead);
  report(changed & block->cpu_writable, CpuProtection::kReadWrite);
  block->shown_readable = block->cpu_readable;
  block->shown_writable = block->cpu_writable;
}

}  // namespace uvm_model
