// Evictions, which no event tells: which block leaves follows from the driver's order, how many leave from the size of
// the GPU's memory. That is not known either, because other memory and other programs have their part of it. The
// counter of bytes to the host gives it away: when it first shows more than faults and calls explain, the GPU was full.
#include <algorithm>

#include "analyzer/reconstruct/reconstructor.h"

namespace uvmtrace::reconstruct {

using uvm_model::ChunkList;
using uvm_model::kBlockBytes;
using uvm_model::kMaxDevices;
using uvm_model::kPageBytes;
using uvm_model::PageMask;

namespace {

uint64_t Bytes(const PageMask& pages) { return static_cast<uint64_t>(pages.Count()) * kPageBytes; }

// What eviction of the block copies.
uint64_t BytesToEvict(const uvm_model::Block& block, int32_t device) {
  return Bytes(block.devices[device].resident - block.cpu_resident);
}

}  // namespace

bool Reconstructor::FindCapacity(const std::vector<Event>& events) {
  for (const Event& event : events) {
    if (event.kind != EventKind::kCounter) {
      Apply(event);
      continue;
    }
    const CounterSample& sample = counters_[event.index];
    if (sample.device != -1) continue;
    CatchUp(sample);
    if (sample.to_host_bytes < to_host_bytes_ + kBlockBytes) continue;
    if (!pending_.empty() && sample.to_device_bytes > to_device_bytes_) continue;
    // Since it is full, each block that comes takes the room of one that leaves. What came back in the meantime is
    // missing among the model's bytes to the GPU.
    const uint64_t left = sample.to_host_bytes - to_host_bytes_;
    const uint64_t came_back =
        sample.to_device_bytes > to_device_bytes_ ? sample.to_device_bytes - to_device_bytes_ : 0;
    int32_t fullest = 0;
    for (int32_t device = 1; device < kMaxDevices; ++device) {
      if (memory_[device].chunk_bytes > memory_[fullest].chunk_bytes) fullest = device;
    }
    DeviceMemory& memory = memory_[fullest];
    const uint64_t gone = left > came_back ? left - came_back : 0;
    if (gone >= memory.chunk_bytes) return false;
    memory.capacity_bytes = memory.chunk_bytes - gone;
    return true;
  }
  return false;
}

// uvm_pmm_gpu_mark_root_chunk_used: to the tail, but only whole blocks. Others stay where they were allocated.
void Reconstructor::MarkUsed(TrackedBlock* block, int32_t device) {
  uvm_model::DeviceState& state = block->devices[device];
  if (state.resident.Empty()) return;
  DeviceMemory& memory = memory_[device];
  if (state.chunk_bytes == 0) {
    // A whole block takes a chunk at once, whatever part of it is touched.
    state.chunk_bytes = static_cast<uint64_t>(block->page_count) * kPageBytes;
    memory.chunk_bytes += state.chunk_bytes;
  } else if (state.list == ChunkList::kUnused) {
    memory.unused.Remove(block);
  } else if (state.list == ChunkList::kUsed) {
    if (!block->Whole()) return;
    memory.used.Remove(block);
  }
  memory.used.Append(block);
}

void Reconstructor::MarkUnusedIfEmpty(TrackedBlock* block, int32_t device) {
  uvm_model::DeviceState& state = block->devices[device];
  if (state.list != ChunkList::kUsed || !state.resident.Empty()) return;
  memory_[device].used.Remove(block);
  memory_[device].unused.Append(block);
}

void Reconstructor::FreeChunk(TrackedBlock* block, int32_t device) {
  uvm_model::DeviceState& state = block->devices[device];
  DeviceMemory& memory = memory_[device];
  if (state.list == ChunkList::kUsed) memory.used.Remove(block);
  if (state.list == ChunkList::kUnused) memory.unused.Remove(block);
  memory.chunk_bytes -= state.chunk_bytes;
  state.chunk_bytes = 0;
}

void Reconstructor::Evict(TrackedBlock* block, int32_t device, uint64_t time_ns) {
  if (!block->devices[device].resident.Empty()) {
    ++statistics_.evicted_blocks;
    uvm_model::EvictPages(block, device, &transfers_);
    Moved(block, time_ns, 0);
  }
  FreeChunk(block, device);
}

void Reconstructor::MakeRoom(const TrackedBlock* keep, int32_t device, uint64_t time_ns) {
  DeviceMemory& memory = memory_[device];
  while (memory.chunk_bytes > memory.capacity_bytes) {
    uvm_model::Block* victim = memory.unused.head() != nullptr ? memory.unused.head() : memory.used.head();
    if (victim == keep) victim = victim->devices[device].next;
    if (victim == nullptr) return;
    Evict(static_cast<TrackedBlock*>(victim), device, time_ns);
  }
}

// The counters tell how much of the deferred prefetches was done by then.
void Reconstructor::CatchUp(const CounterSample& sample) {
  while (!pending_.empty()) {
    const bool behind = pending_.front().destination == kCpu ? sample.to_host_bytes > to_host_bytes_
                                                             : sample.to_device_bytes > to_device_bytes_;
    if (!behind) return;
    DoPending(1, sample.time_ns);
  }
}

// More bytes went to the host than faults, calls and the want of room explain: other memory on the GPU has grown. What
// left for it left in the usual order, and from now on there is less room.
void Reconstructor::Apply(const CounterSample& sample) {
  if (sample.device != -1) return;
  CatchUp(sample);
  if (std::any_of(pending_.begin(), pending_.end(), [](const Pending& call) { return call.destination == kCpu; }))
    return;
  for (int32_t device = 0; device < kMaxDevices; ++device) {
    DeviceMemory& memory = memory_[device];
    bool evicted = false;
    while (sample.to_host_bytes > to_host_bytes_ && memory.used.head() != nullptr) {
      auto* const block = static_cast<TrackedBlock*>(memory.used.head());
      if (BytesToEvict(*block, device) > sample.to_host_bytes - to_host_bytes_) break;
      Evict(block, device, sample.time_ns);
      evicted = true;
    }
    if (evicted) memory.capacity_bytes = memory.chunk_bytes;
  }
  to_device_check_.Add(sample.time_ns, sample.to_device_bytes, to_device_bytes_);
  to_host_check_.Add(sample.time_ns, sample.to_host_bytes, to_host_bytes_);
}

// This block was evicted, so those that were moved before it were too. False: it cannot have been.
bool Reconstructor::EvictUntil(TrackedBlock* block, int32_t device, uint64_t time_ns) {
  if (calibrating_) return false;
  if (block->devices[device].list != ChunkList::kUsed) {
    ++statistics_.unexplained_faults;
    return false;
  }
  DeviceMemory& memory = memory_[device];
  uint64_t bytes = 0;
  for (const uvm_model::Block* older = memory.used.head();; older = older->devices[device].next) {
    bytes += BytesToEvict(*older, device);
    if (older == block) break;
  }
  // The driver's counter must have room for it, at the next sample.
  auto sample = std::upper_bound(counters_.begin(), counters_.end(), time_ns,
                                 [](uint64_t time, const CounterSample& row) { return time < row.time_ns; });
  while (sample != counters_.end() && sample->device != -1) ++sample;
  if (sample != counters_.end() && sample->to_host_bytes < to_host_bytes_ + bytes) {
    ++statistics_.unexplained_faults;
    return false;
  }
  while (block->devices[device].list == ChunkList::kUsed) {
    Evict(static_cast<TrackedBlock*>(memory.used.head()), device, time_ns);
  }
  return true;
}

}  // namespace uvmtrace::reconstruct
