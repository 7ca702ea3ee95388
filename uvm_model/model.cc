// Ranges, accesses, prefetches and advice. How pages become resident, and what is evicted for them: residency.cc.
#include "uvm_model/model.h"

#include <algorithm>
#include <optional>

#include "uvm_model/prefetch_tree.h"
#include "uvm_model/recorder.h"

namespace uvm_model {
namespace {

uint64_t RoundDown(uint64_t value, uint64_t to) { return value / to * to; }
uint64_t RoundUp(uint64_t value, uint64_t to) { return RoundDown(value + to - 1, to); }

}  // namespace

Model::Model(const ModelOptions& options) : options_(options) {
  for (int i = 0; i < std::min(options.device_count, kMaxDevices); ++i) devices_.emplace_back(i);
}

bool Model::AddRange(uint64_t address, uint64_t bytes) {
  const uint64_t end = RoundUp(address + bytes, kPageBytes);
  if (bytes == 0 || address % kBlockBytes != 0 || end <= address) return false;
  const auto next = blocks_.lower_bound(address);
  if (next != blocks_.end() && next->first < end) return false;
  if (next != blocks_.begin() && std::prev(next)->second->End() > address) return false;
  for (uint64_t base = address; base < end; base += kBlockBytes) {
    auto block = std::make_unique<Block>();
    block->base = base;
    block->page_count = static_cast<int>((std::min(end, base + kBlockBytes) - base) / kPageBytes);
    blocks_.emplace_hint(next, base, std::move(block));
  }
  return true;
}

void Model::RemoveRange(uint64_t address, uint64_t bytes) {
  auto it = blocks_.lower_bound(address);
  while (it != blocks_.end() && it->first < address + bytes) {
    for (size_t device = 0; device < devices_.size(); ++device) FreeChunk(it->second.get(), static_cast<int>(device));
    pinned_on_host_.erase(it->second->base);
    it = blocks_.erase(it);
  }
}

Model::BlockMap::const_iterator Model::FindBlock(uint64_t address) const {
  auto it = blocks_.upper_bound(address);
  if (it == blocks_.begin()) return blocks_.end();
  --it;
  return address < it->second->End() ? it : blocks_.end();
}

Block* Model::BlockAt(uint64_t address) const {
  const auto it = FindBlock(address);
  return it == blocks_.end() ? nullptr : it->second.get();
}

bool Model::Contains(uint64_t address, uint64_t bytes) const {
  auto it = FindBlock(address);
  uint64_t covered = address;
  for (; it != blocks_.end() && it->first <= covered; ++it) {
    covered = it->second->End();
    if (covered >= address + bytes) return true;
  }
  return false;
}

PageMask Model::PagesIn(const Block& block, uint64_t address, uint64_t end) const {
  const uint64_t first = std::max(RoundDown(address, kPageBytes), block.Begin());
  const uint64_t last = std::min(RoundUp(end, kPageBytes), block.End());
  if (first >= last) return {};
  return PageMask::Range(static_cast<int>((first - block.base) / kPageBytes),
                         static_cast<int>((last - first) / kPageBytes));
}

// A block whose pages get different policies becomes two, as in uvm_va_block_split: both keep what they have, and
// neither counts as whole any more.
void Model::SplitAt(uint64_t address) {
  Block* low = BlockAt(address);
  if (low == nullptr || low->Begin() == address) return;
  const int page = static_cast<int>((address - low->base) / kPageBytes);
  auto owner = std::make_unique<Block>(*low);
  Block* high = owner.get();
  high->first_page = page;
  high->page_count = low->first_page + low->page_count - page;
  low->page_count = page - low->first_page;
  for (Block* block : {low, high}) {
    const PageMask pages = block->All();
    block->populated &= pages;
    block->cpu_resident &= pages;
    block->cpu_readable &= pages;
    block->cpu_writable &= pages;
    block->shown_readable &= pages;
    block->shown_writable &= pages;
    for (size_t i = 0; i < devices_.size(); ++i) {
      DeviceState& state = block->devices[i];
      state.resident &= pages;
      state.readable &= pages;
      state.writable &= pages;
      if (state.chunk_bytes != 0) state.chunk_bytes = static_cast<uint64_t>(block->page_count) * kPageBytes;
    }
  }
  for (size_t i = 0; i < devices_.size(); ++i) {
    DeviceState& state = high->devices[i];
    state.previous = state.next = nullptr;
    if (state.list == ChunkList::kUsed) devices_[i].used.Append(high);
    if (state.list == ChunkList::kUnused) devices_[i].unused.Append(high);
    MarkUnusedIfEmpty(low, static_cast<int>(i));
    MarkUnusedIfEmpty(high, static_cast<int>(i));
  }
  blocks_.emplace(high->Begin(), std::move(owner));
}

void Model::GpuAccess(int device, uint64_t address, uint64_t bytes, Access access, Outcome* outcome) {
  const uint64_t end = address + bytes;
  if (!Contains(address, bytes)) {
    outcome->invalid = true;
    return;
  }
  const auto first = FindBlock(address);
  // A batch takes up to fault_batch_count faults, in address order; what its prefetches bring does not fault again.
  for (bool missing = true; missing && !outcome->out_of_memory;) {
    missing = false;
    int room = options_.fault_batch_count;
    std::optional<Recorder> recorder;
    for (auto it = first; it != blocks_.end() && it->first < end && room > 0 && !outcome->out_of_memory; ++it) {
      Block* block = it->second.get();
      const DeviceState& state = block->devices[device];
      PageMask faulted = PagesIn(*block, address, end) - (access == Access::kRead ? state.readable : state.writable);
      if (faulted.Empty()) continue;
      missing = true;
      for (int count = faulted.Count(); count > room; --count) {  // keep the first `room` of them
        int last = kPagesPerBlock - 1;
        while (!faulted.Test(last)) --last;
        faulted -= PageMask::Range(last, 1);
      }
      room -= faulted.Count();
      if (!recorder) {
        recorder.emplace(BatchKind::kGpuFaults, device, options_.cost, outcome);
        recorder->time().batch_ns += options_.cost.batch_ns;
      } else {
        recorder->time().block_ns += options_.cost.block_ns;
      }
      ServiceFaults(block, device, faulted, access, &*recorder);
    }
  }
  for (auto it = first; it != blocks_.end() && it->first < end; ++it) {
    Block* block = it->second.get();
    const PageMask touched = PagesIn(*block, address, end);
    const DeviceState& state = block->devices[device];
    outcome->remote_bytes += static_cast<uint64_t>(((touched & state.readable) - state.resident).Count()) * kPageBytes;
    if (options_.eviction_order == EvictionOrder::kLastAccess) MarkUsed(block, device);
  }
}

void Model::CpuAccess(uint64_t address, Access access, Outcome* outcome) {
  Block* block = BlockAt(address);
  if (block == nullptr) {
    outcome->invalid = true;
    return;
  }
  const PageMask faulted =
      PagesIn(*block, address, address + 1) - (access == Access::kRead ? block->cpu_readable : block->cpu_writable);
  if (faulted.Empty()) return;
  Recorder recorder(BatchKind::kCpuFault, kCpu, options_.cost, outcome);
  recorder.time().batch_ns += options_.cost.cpu_fault_ns;
  ServiceFaults(block, kCpu, faulted, access, &recorder);
}

// Where the faulted pages are to live: block_select_processor_residency, in its order.
void Model::ServiceFaults(Block* block, int processor, const PageMask& faulted, Access access, Recorder* recorder) {
  const Policy& policy = block->policy;
  ++recorder->batch().blocks;
  faulted.ForEachRun([&](int first, int count) {
    for (int page = first; page < first + count; ++page) {
      const EventKind kind = processor == kCpu ? EventKind::kCpuFault : EventKind::kGpuFault;
      recorder->Fault(kind, processor, block->Address(page), access);
    }
  });

  const bool duplicate = policy.read_mostly && access == Access::kRead;
  PageMask remote;  // pages that a GPU maps where they are
  PageMask to_cpu;  // pages that come to the CPU, and are mapped there
  if (processor != kCpu && !policy.read_mostly && policy.preferred != processor) {
    if (policy.preferred == kCpu) to_cpu = faulted - block->populated;
    if (policy.AccessedBy(processor)) {
      remote = faulted & block->cpu_resident;
    } else if (policy.preferred == kCpu) {
      // What is resident on this GPU already stays, and needs its mapping only.
      to_cpu |= faulted & block->populated & (block->All() - block->devices[processor].resident);
    }
  }
  PageMask pinned;
  if (processor != kCpu && !policy.read_mostly && policy.preferred != processor) {
    pinned = (faulted & PinnedOnHost(*block) & block->cpu_resident) - remote;
  }
  if (!pinned.Empty()) MapRemotely(block, processor, pinned, RemoteMapCause::kThrashing, recorder);
  if (!to_cpu.Empty()) {
    MakeResident(block, kCpu, to_cpu, {}, MigrationCause::kCoherence, false, recorder);
    remote |= to_cpu;
  }
  if (!remote.Empty()) MapRemotely(block, processor, remote, RemoteMapCause::kPolicy, recorder);

  const PageMask local = faulted - remote - pinned;
  if (!local.Empty()) {
    const PageMask prefetched = PagesToPrefetch(block, processor, local);
    if (policy.read_mostly && access != Access::kRead) {
      // The written pages become this processor's alone; what comes along is only duplicated.
      if (MakeResident(block, processor, local, {}, MigrationCause::kCoherence, false, recorder)) {
        MakeResident(block, processor, {}, prefetched, MigrationCause::kCoherence, true, recorder);
      }
    } else {
      MakeResident(block, processor, local, prefetched, MigrationCause::kCoherence, duplicate, recorder);
    }
  }
  ReportProtection(block, recorder);
}

PageMask Model::PagesToPrefetch(Block* block, int processor, const PageMask& faulted) {
  if (block->last_processor != processor) {
    block->last_processor = static_cast<int8_t>(processor);
    block->fault_migrations = 0;
  }
  block->fault_migrations += static_cast<uint32_t>(faulted.Count());
  if (!options_.prefetch_enable) return {};
  const int preferred{block->policy.preferred};
  if (preferred != kNoProcessor && preferred != processor) return {};
  if (preferred == processor && block->populated.Empty()) return block->All() - faulted;
  if (block->fault_migrations < static_cast<uint32_t>(options_.prefetch_min_faults)) return {};

  const PageMask& resident = processor == kCpu ? block->cpu_resident : block->devices[processor].resident;
  const PageMask& mapped = processor == kCpu ? block->cpu_readable : block->devices[processor].readable;
  return PrefetchPages(block->first_page, block->page_count, resident, faulted, options_.prefetch_threshold) -
         (resident & mapped) - PinnedOnHost(*block);
}

void Model::Prefetch(uint64_t address, uint64_t bytes, int destination, Outcome* outcome) {
  if (!Contains(address, bytes)) {
    outcome->invalid = true;
    return;
  }
  Recorder recorder(BatchKind::kPrefetch, destination, options_.cost, outcome);
  for (auto it = FindBlock(address); it != blocks_.end() && it->first < address + bytes; ++it) {
    Block* block = it->second.get();
    ++recorder.batch().blocks;
    const bool fits = MakeResident(block, destination, PagesIn(*block, address, address + bytes), {},
                                   MigrationCause::kUser, block->policy.read_mostly, &recorder);
    ReportProtection(block, &recorder);
    if (!fits) return;
  }
}

void Model::Advise(uint64_t address, uint64_t bytes, Advice advice, int processor, Outcome* outcome) {
  if (!Contains(address, bytes)) {
    outcome->invalid = true;
    return;
  }
  const uint64_t begin = RoundDown(address, kPageBytes);
  const uint64_t end = RoundUp(address + bytes, kPageBytes);
  SplitAt(begin);
  SplitAt(end);
  Recorder recorder(BatchKind::kAdvice, processor, options_.cost, outcome);
  for (auto it = FindBlock(begin); it != blocks_.end() && it->first < end; ++it) {
    Block* block = it->second.get();
    Policy& policy = block->policy;
    const uint8_t bit = processor >= 0 ? static_cast<uint8_t>(1u << processor) : uint8_t{0};
    switch (advice) {
      case Advice::kSetReadMostly:
        policy.read_mostly = true;
        break;
      case Advice::kUnsetReadMostly:
        if (policy.read_mostly) UnsetReadMostly(block, &recorder);
        policy.read_mostly = false;
        break;
      case Advice::kSetPreferredLocation:
        policy.preferred = static_cast<int8_t>(processor);
        break;
      case Advice::kUnsetPreferredLocation:
        policy.preferred = kNoProcessor;
        break;
      case Advice::kSetAccessedBy:
        policy.accessed_by_devices |= bit;
        MapAccessedBy(block, block->cpu_resident, RemoteMapCause::kPolicy, &recorder);
        break;
      case Advice::kUnsetAccessedBy:
        policy.accessed_by_devices &= static_cast<uint8_t>(~bit);
        break;
    }
    ReportProtection(block, &recorder);
  }
}

void Model::PinOnHost(uint64_t block_address, const PageMask& pages) { pinned_on_host_[block_address] |= pages; }

void Model::UnpinFromHost(uint64_t block_address) {
  const auto pinned = pinned_on_host_.find(block_address);
  if (pinned == pinned_on_host_.end()) return;
  for (auto it = blocks_.lower_bound(block_address); it != blocks_.end() && it->second->base == block_address; ++it) {
    for (int device = 0; device < static_cast<int>(devices_.size()); ++device) {
      if (it->second->policy.AccessedBy(device)) continue;
      DeviceState& state = it->second->devices[device];
      state.readable -= pinned->second - state.resident;
      state.writable -= pinned->second - state.resident;
    }
  }
  pinned_on_host_.erase(pinned);
}

PageMask Model::PinnedOnHost(const Block& block) const {
  const auto it = pinned_on_host_.find(block.base);
  return it == pinned_on_host_.end() ? PageMask() : it->second;
}

uint64_t Model::ResidentBytes(int processor, uint64_t address, uint64_t bytes) const {
  int pages = 0;
  for (auto it = FindBlock(address); it != blocks_.end() && it->first < address + bytes; ++it) {
    const Block& block = *it->second;
    const PageMask& resident = processor == kCpu ? block.cpu_resident : block.devices[processor].resident;
    pages += (resident & PagesIn(block, address, address + bytes)).Count();
  }
  return static_cast<uint64_t>(pages) * kPageBytes;
}

Policy Model::PolicyAt(uint64_t address) const {
  const Block* block = BlockAt(address);
  return block == nullptr ? Policy() : block->policy;
}

}  // namespace uvm_model
