// The paging policy of the nvidia-uvm driver as a pure library: no CUDA, no threads, no clock, no I/O.
//
// Source: NVIDIA/open-gpu-kernel-modules, kernel-open/nvidia-uvm (tags 515 to 595 agree in what is modelled here):
// 2 MiB blocks of 4 KiB pages, the tree prefetcher, residency by advice, read duplication, and eviction of the block
// whose last *migration* is the oldest: the driver does not see GPU accesses that hit. It keeps no dirty bit, so that
// clean pages are written back.
//
// Not modelled: when pages thrash (whoever has a clock pins them), access counters, HMM and ATS, peer mappings between
// GPUs, µTLB limits, and the order in which faults of parallel warps arrive. Faults that one call touches together are
// one batch.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "uvm_model/block.h"
#include "uvm_model/outcome.h"

namespace uvm_model {

enum class EvictionOrder : uint8_t {
  kLastMigration,  // the driver's
  kLastAccess,     // true LRU, for comparison
};

enum class Advice : uint8_t {
  kSetReadMostly,
  kUnsetReadMostly,
  kSetPreferredLocation,
  kUnsetPreferredLocation,
  kSetAccessedBy,
  kUnsetAccessedBy,
};

struct ModelOptions {
  int device_count = 1;
  uint64_t device_bytes = 0;  // usable memory of each GPU
  // Module parameters of nvidia-uvm.
  bool prefetch_enable = true;  // uvm_perf_prefetch_enable
  int prefetch_threshold = 51;  // uvm_perf_prefetch_threshold
  int prefetch_min_faults = 1;  // uvm_perf_prefetch_min_faults
  int fault_batch_count = 256;  // uvm_perf_fault_batch_count
  EvictionOrder eviction_order = EvictionOrder::kLastMigration;
  CostModel cost;
};

class Model {
 public:
  explicit Model(const ModelOptions& options);

  // Makes [address, address + bytes) managed memory, unpopulated. The address is on a 2 MiB boundary; bytes are rounded
  // up to pages. False if the range is empty or overlaps another.
  bool AddRange(uint64_t address, uint64_t bytes);
  // Forgets all blocks inside of it.
  void RemoveRange(uint64_t address, uint64_t bytes);
  // Whether all of it lies in ranges.
  bool Contains(uint64_t address, uint64_t bytes) const;

  // All functions below append to `outcome`.

  // A kernel or copy engine on `device` touches the bytes; those pages that are not mapped fault in batches.
  void GpuAccess(int device, uint64_t address, uint64_t bytes, Access access, Outcome* outcome);

  // A CPU thread touches one page. Allocates no memory if the outcome has room.
  void CpuAccess(uint64_t address, Access access, Outcome* outcome);

  // cudaMemPrefetchAsync when its turn in the stream has come. `destination` is a device or kCpu.
  void Prefetch(uint64_t address, uint64_t bytes, int destination, Outcome* outcome);

  // cudaMemAdvise. `processor` is a device or kCpu, ignored by the advices that take none.
  void Advise(uint64_t address, uint64_t bytes, Advice advice, int processor, Outcome* outcome);

  // Pages that thrash: GPUs map them on the host instead of taking them, until they are unpinned. Who decides that
  // keeps time, and is not the model.
  void PinOnHost(uint64_t block_address, const PageMask& pages);
  void UnpinFromHost(uint64_t block_address);

  // Memory that cudaMalloc takes from managed memory's room: evicts until it fits. False, with nothing reserved, if not
  // all of it can be had.
  bool ReserveDeviceMemory(int device, uint64_t bytes, Outcome* outcome);
  void ReleaseDeviceMemory(int device, uint64_t bytes);

  // Bytes of device memory in use, by reservations and by blocks.
  uint64_t UsedBytes(int device) const { return devices_[device].reserved_bytes + devices_[device].chunk_bytes; }
  uint64_t CapacityBytes() const { return options_.device_bytes; }
  // Bytes resident on a processor in [address, address + bytes).
  uint64_t ResidentBytes(int processor, uint64_t address, uint64_t bytes) const;
  // The policy of the block at an address inside a range.
  Policy PolicyAt(uint64_t address) const;
  const ModelOptions& options() const { return options_; }

 private:
  struct Device {
    explicit Device(int index) : used(index, ChunkList::kUsed), unused(index, ChunkList::kUnused) {}
    uint64_t reserved_bytes = 0;
    uint64_t chunk_bytes = 0;
    BlockList used;
    BlockList unused;
  };
  using BlockMap = std::map<uint64_t, std::unique_ptr<Block>>;  // by Begin()

  class Recorder;

  BlockMap::const_iterator FindBlock(uint64_t address) const;
  Block* BlockAt(uint64_t address) const;
  void SplitAt(uint64_t address);
  PageMask PinnedOnHost(const Block& block) const;
  PageMask PagesIn(const Block& block, uint64_t address, uint64_t end) const;

  void ServiceFaults(Block* block, int processor, const PageMask& faulted, Access access, Recorder* recorder);
  PageMask PagesToPrefetch(Block* block, int processor, const PageMask& faulted);
  bool MakeResident(Block* block, int destination, const PageMask& faulted, const PageMask& prefetched,
                    MigrationCause faulted_cause, bool duplicate, Recorder* recorder);
  void Copy(Block* block, int source, int destination, const PageMask& pages, MigrationCause cause, Recorder* recorder);
  void MapRemotely(Block* block, int device, const PageMask& pages, RemoteMapCause cause, Recorder* recorder);
  void MapAccessedBy(Block* block, const PageMask& pages, RemoteMapCause cause, Recorder* recorder);
  bool EnsureChunk(Block* block, int device, Recorder* recorder);
  bool MakeRoom(int device, uint64_t bytes, const Block* keep, Recorder* recorder);
  void Evict(Block* block, int device, Recorder* recorder);
  void MarkUsed(Block* block, int device);
  void MarkUnusedIfEmpty(Block* block, int device);
  void FreeChunk(Block* block, int device);
  void UnsetReadMostly(Block* block, Recorder* recorder);
  PageMask Duplicated(const Block& block) const;
  void ReportDuplication(const Block& block, const PageMask& before, Recorder* recorder) const;
  void ReportProtection(Block* block, Recorder* recorder);

  ModelOptions options_;
  BlockMap blocks_;
  std::map<uint64_t, PageMask> pinned_on_host_;  // by Block::base
  std::vector<Device> devices_;
};

}  // namespace uvm_model
