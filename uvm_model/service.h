// What the driver does to one block in one service: where the pages go, what is copied for it, who can access them
// after.
//
// These functions hold the policy and nothing else. They know neither time nor memory: who calls them keeps the order
// of the blocks (for eviction), finds room, and adds up costs. Source: NVIDIA/open-gpu-kernel-modules at 580.142,
// kernel-open/nvidia-uvm/uvm_va_block.c; the driver's function is named at each of ours.
#pragma once

#include <cstdint>
#include <vector>

#include "uvm_model/block.h"
#include "uvm_model/outcome.h"

namespace uvm_model {

// Module parameters of nvidia-uvm, and what the machine can do.
struct ServiceOptions {
  bool prefetch_enable = true;       // uvm_perf_prefetch_enable
  uint32_t prefetch_threshold = 51;  // uvm_perf_prefetch_threshold
  uint32_t prefetch_min_faults = 1;  // uvm_perf_prefetch_min_faults
  bool peer_access = true;           // GPUs map and copy each other's memory
};

// Pages that are copied from one processor to another.
struct Transfer {
  int8_t source;
  int8_t destination;
  MigrationCause cause;
  PageMask pages;
};

// The distinct pages of a block that one batch of faults names, each under its strongest access.
struct FaultedPages {
  PageMask read;   // and prefetch
  PageMask write;  // and atomic
};

// What the thrashing heuristic says about a block's pages; uvm_model/thrashing.h keeps it up to date.
struct ThrashingView {
  PageMask pages;   // not widened, not prefetched
  PageMask pinned;  // mapped where they are pinned, whoever faults
  int8_t pinned_at = kNoProcessor;
};

// The pages of a batch that are not served, because the GPU can access them already: stale entries of the fault buffer.
PageMask AuthorizedPages(const Block& block, int device, const FaultedPages& faults);

// Serves what one batch of one GPU's faults says about a block (service_fault_batch_block_locked): appends the copies
// and returns the pages that the service was about, prefetched ones included.
PageMask ServeGpuFaults(Block* block, int device, const FaultedPages& faults, const ThrashingView& thrashing,
                        const ServiceOptions& options, std::vector<Transfer>* transfers);

// Serves the fault of one CPU thread (block_cpu_fault_locked). The page must not be accessible already.
PageMask ServeCpuFault(Block* block, int page, bool write, const ThrashingView& thrashing,
                       const ServiceOptions& options, std::vector<Transfer>* transfers);

// Makes the pages resident on `destination`, as a prefetch call does (uvm_va_block_migrate_locked).
void MigratePages(Block* block, int destination, const PageMask& pages, std::vector<Transfer>* transfers);

// Takes a block's pages off a GPU to the host (uvm_va_block_evict_chunks). There is no dirty bit: all pages that live
// only there are copied, written or not.
void EvictPages(Block* block, int device, std::vector<Transfer>* transfers);

// What an advice does to a block beside its policy, which the caller has set: uvm_policy.c.
void EnterReadMostly(Block* block);
void LeaveReadMostly(Block* block);
// Before `processor` becomes the preferred location: what it maps elsewhere is to fault, and come.
void UnmapRemotePages(Block* block, int processor);
void MapAccessedByDevice(Block* block, int device);

}  // namespace uvm_model
