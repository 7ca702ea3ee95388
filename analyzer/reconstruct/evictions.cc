// Evictions, which no event tells: which block leaves follows from the driver's order, how many leave from the room
// that the GPU has. The driver's counters of bytes to the host bound that room from both sides: see room.h.
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

uint64_t Excess(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

// uvm_pmm_gpu_mark_root_chunk_used: to the tail, but only whole blocks. Others stay where they were allocated.
void Reconstructor::MarkUsed(TrackedBlock* block, int32_t device) {
  uvm_model::DeviceState& state = block->devices[device];
  if (state.resident.Empty()) return;
  DeviceMemory& memory = memory_[device];
  if (state.chunk_bytes == 0) {
    // A whole block takes a chunk at once, whatever part of it is touched.
    state.chunk_bytes = static_cast<uint64_t>(block->page_count) * kPageBytes;
    memory.chunk_bytes += state.chunk_bytes;
    peak_chunk_bytes_ = std::max(peak_chunk_bytes_, memory.chunk_bytes);
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

void Reconstructor::Evict(TrackedBlock* block, int32_t device, uint64_t time_ns, uint64_t done_ns) {
  if (!block->devices[device].resident.Empty()) {
    ++statistics_.evicted_blocks;
    memory_[device].room.Evicted();
    uvm_model::EvictPages(block, device, &transfers_);
    Moved(block, time_ns, done_ns, 0);
  }
  FreeChunk(block, device);
}

void Reconstructor::MakeRoom(const TrackedBlock* keep, int32_t device, uint64_t time_ns, uint64_t done_ns) {
  DeviceMemory& memory = memory_[device];
  while (memory.chunk_bytes > memory.room.bytes()) {
    uvm_model::Block* victim = memory.unused.head() != nullptr ? memory.unused.head() : memory.used.head();
    if (victim == keep) victim = victim->devices[device].next;
    if (victim == nullptr) return;
    Evict(static_cast<TrackedBlock*>(victim), device, time_ns, done_ns);
  }
}

// The counters tell how much of the deferred prefetches was done by then.
void Reconstructor::CatchUp(const CounterSample& sample) {
  while (!pending_.empty()) {
    const bool behind = pending_.front().destination == kCpu ? sample.to_host_bytes > told_[0].to_host()
                                                             : sample.to_device_bytes > told_[0].to_device();
    if (!behind) return;
    DoPending(1, sample.time_ns);
  }
}

// Samples of the process and of each GPU are taken together. Those of GPUs say whose room it is, where there are any.
void Reconstructor::Apply(const CounterSample& sample, bool in_call) {
  const bool of_process = sample.device == -1;
  if ((!of_process && !IsDevice(sample.device)) || options_.hypothetical) return;
  if (of_process && !in_call) CatchUp(sample);
  ToldBytes& told = told_[static_cast<size_t>(sample.device + 1)];
  if (of_process != counters_by_device_) HoldRoomAgainst(sample, in_call, &told);
  told.last_sample_to_host = sample.to_host_bytes;
  if (in_call) return;
  if (std::any_of(pending_.begin(), pending_.end(), [](const Pending& call) { return call.destination == kCpu; }))
    return;
  told.to_device_check.Add(sample.time_ns, sample.to_device_bytes, told.to_device());
  told.to_host_check.Add(sample.time_ns, sample.to_host_bytes, told.to_host());
}

void Reconstructor::HoldRoomAgainst(const CounterSample& sample, bool in_call, ToldBytes* told) {
  const int32_t device = sample.device == -1 ? FullestDevice() : sample.device;
  Room& room = memory_[device].room;
  const uint64_t over = told->OverToHost(sample.time_ns);
  told->over_at_last_sample = over;
  const uint64_t too_much = told->TooMuch(sample.to_host_bytes, Excess(over, sample.to_host_bytes));
  if (over > sample.to_host_bytes) {
    run_again_ |= may_correct_ && too_much > 0 && room.GiveMore(too_much);
    return;
  }
  if (!in_call && told->last_sample_to_host > told->to_host()) {
    EvictWhatIsMissing(sample, device, told->last_sample_to_host - told->to_host(), *told);
  }
  room.AgreedAt(sample.time_ns);
  const bool quiet = over == told->to_host() && sample.to_host_bytes == told->last_sample_to_host;
  if (quiet && sample.to_host_bytes == over) room.Confirm();
}

// More bytes went to the host than faults, calls and the want of room explain: there was less room.
void Reconstructor::EvictWhatIsMissing(const CounterSample& sample, int32_t device, uint64_t missing,
                                       const ToldBytes& told) {
  DeviceMemory& memory = memory_[device];
  if (may_correct_ && !memory.room.known() && missing >= kBlockBytes) {
    // Since the GPU is full, each block that comes takes the room of one that leaves. What came back in the meantime
    // is missing among the told bytes to the GPU.
    const uint64_t left = Excess(sample.to_host_bytes, told.to_host());
    const uint64_t gone = Excess(left, Excess(sample.to_device_bytes, told.to_device()));
    if (gone < memory.chunk_bytes && memory.room.StartWith(memory.chunk_bytes - gone)) {
      run_again_ = true;
      return;
    }
  }
  if (may_correct_ && memory.room.known() && !memory.room.confirmed() && memory.room.StartWithLess(missing)) {
    run_again_ = true;
    return;
  }
  // Other memory on the GPU has grown. What left for it left in the usual order, and from now on there is less room.
  while (missing > 0 && memory.used.head() != nullptr) {
    while (memory.unused.head() != nullptr) FreeChunk(static_cast<TrackedBlock*>(memory.unused.head()), device);
    auto* const block = static_cast<TrackedBlock*>(memory.used.head());
    const uint64_t bytes = BytesToEvict(*block, device);
    if (bytes > missing) break;
    missing -= bytes;
    Evict(block, device, sample.time_ns, 0);
    memory.room.Shrink(memory.chunk_bytes);
  }
  // The blocks that went are no more: they left earlier.
  if (missing >= kBlockBytes && may_correct_) run_again_ |= memory.room.GiveLess(missing);
}

int32_t Reconstructor::FullestDevice() const {
  int32_t fullest = 0;
  for (int32_t device = 1; device < kMaxDevices; ++device) {
    if (memory_[static_cast<size_t>(device)].chunk_bytes > memory_[static_cast<size_t>(fullest)].chunk_bytes) {
      fullest = device;
    }
  }
  return fullest;
}

// All has been told. What the last samples have beyond it is missing; what they lack of what was over by then was too
// much.
void Reconstructor::FinishCounters() {
  if (options_.hypothetical) return;
  std::array<const CounterSample*, kMaxDevices + 1> last{};
  for (const CounterSample& sample : counters_) {
    if (sample.device == -1 || IsDevice(sample.device)) last[static_cast<size_t>(sample.device + 1)] = &sample;
  }
  for (const CounterSample* sample : last) {
    if (sample == nullptr) continue;
    ToldBytes& told = told_[static_cast<size_t>(sample->device + 1)];
    if ((sample->device == -1) == counters_by_device_) continue;
    const int32_t device = sample->device == -1 ? FullestDevice() : sample->device;
    if (sample->to_host_bytes > told.to_host()) {
      EvictWhatIsMissing(*sample, device, sample->to_host_bytes - told.to_host(), told);
    } else if (told.over_at_last_sample > sample->to_host_bytes && may_correct_) {
      run_again_ |= memory_[device].room.GiveMore(told.over_at_last_sample - sample->to_host_bytes);
    }
  }
  for (const CounterSample* sample : last) {
    if (sample == nullptr) continue;
    ToldBytes& told = told_[static_cast<size_t>(sample->device + 1)];
    told.to_device_check.Finish(sample->to_device_bytes, told.to_device());
    told.to_host_check.Finish(sample->to_host_bytes, told.to_host());
  }
}

// This block was evicted, so those that were moved before it were too. False: it cannot have been.
bool Reconstructor::EvictUntil(TrackedBlock* block, int32_t device, uint64_t time_ns) {
  DeviceMemory& memory = memory_[device];
  if (block->devices[device].list != ChunkList::kUsed) {
    ++statistics_.unexplained_faults;
    return false;
  }
  uint64_t bytes = 0;
  for (const uvm_model::Block* older = memory.used.head();; older = older->devices[device].next) {
    bytes += BytesToEvict(*older, device);
    if (older == block) break;
  }
  // The driver's counter must have room for it, at the next sample.
  const int32_t counted = counters_by_device_ ? device : -1;
  auto sample = std::upper_bound(counters_.begin(), counters_.end(), time_ns,
                                 [](uint64_t time, const CounterSample& row) { return time < row.time_ns; });
  while (sample != counters_.end() && sample->device != counted) ++sample;
  ToldBytes& told = told_[static_cast<size_t>(counted + 1)];
  if (sample != counters_.end() && sample->to_host_bytes < told.OverToHost(time_ns) + bytes) {
    ++statistics_.unexplained_faults;
    return false;
  }
  while (block->devices[device].list == ChunkList::kUsed) {
    Evict(static_cast<TrackedBlock*>(memory.used.head()), device, time_ns, time_ns);
  }
  if (may_correct_ && memory.room.known() && !memory.room.confirmed() && memory.chunk_bytes < memory.room.bytes()) {
    run_again_ |= memory.room.StartWith(memory.chunk_bytes);
  }
  memory.room.Shrink(memory.chunk_bytes);
  return true;
}

}  // namespace uvmtrace::reconstruct
