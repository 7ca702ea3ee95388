// What the three simulated libraries say to each other behind the CUDA interfaces.
//
// libcudart gets RuntimeTable from cuGetExportTable, as the real one gets its private tables; libcupti finds CuptiTable
// by dlsym("uvmsim_cupti_table") in libcuda.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "sim/include/uvmsim.h"

namespace uvmsim {

inline constexpr CUuuid kRuntimeTableId = {
    {'u', 'v', 'm', 's', 'i', 'm', '-', 'r', 'u', 'n', 't', 'i', 'm', 'e', 0, 1}};

struct RuntimeTable {
  // A kernel that cuLaunchKernel accepts. `model` may be null: its launch then fails. The name is kept.
  CUfunction (*create_function)(const char* name, UvmsimKernelModel model);
  void* (*access)(const UvmsimLaunch* launch, const void* address, size_t bytes, int access);
  // For __managed__ and __device__ variables, which no exported call allocates. Null if there is no room.
  void* (*allocate_variable)(size_t bytes, bool managed);
  void (*compute)(const UvmsimLaunch* launch, double ns);
  double (*now_ns)();
};

// A unified-memory event as CUPTI shows it; the fields are those of CUpti_ActivityUnifiedMemoryCounter3.
struct CuptiMemoryRecord {
  uint32_t counter_kind;
  uint32_t flags;
  uint64_t value;
  uint64_t start_ns;
  uint64_t end_ns;
  uint64_t address;
  uint32_t source;
  uint32_t destination;
};

struct CuptiKernelRecord {
  const char* name;  // good until the process ends
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t device;
  uint32_t stream;
  UvmsimDim grid;
  UvmsimDim block;
  uint32_t correlation;
};

struct CuptiTable {
  uint32_t version;       // 1
  bool (*initialized)();  // cuInit has succeeded in this process
  // Bit n: counter kind n is delivered. 0: nothing is.
  void (*enable_memory)(uint32_t counter_kinds);
  void (*enable_kernels)(bool enabled);
  // Waits until all that happened so far is in the driver's queue, or was dropped because that was full.
  void (*flush_memory)();
  size_t (*read_memory)(CuptiMemoryRecord* records, size_t capacity);
  size_t (*read_kernels)(CuptiKernelRecord* records, size_t capacity);
  uint64_t (*dropped_memory)();  // the real CUPTI does not tell
  // Totals of the model since cuInit, whether CUPTI is on or not: what a trace is compared with in tests.
  void (*totals)(struct EngineTotals* totals);
};

struct EngineTotals {
  uint64_t host_to_device_bytes;
  uint64_t device_to_host_bytes;
  uint64_t evicted_bytes;
  uint64_t remote_bytes;
  uint64_t gpu_faults;  // distinct pages of each batch
  uint64_t gpu_fault_batches;
  uint64_t cpu_faults;
  uint64_t migrations;
  double bottom_half_ns;  // modelled, after the time scale
  int bottom_half_tid;
  // Over the link with packet headers, as NVML counts.
  uint64_t link_received_bytes;  // by the GPU
  uint64_t link_sent_bytes;
  uint64_t memory_bytes;  // of the GPU
  uint64_t memory_used_bytes;
};

}  // namespace uvmsim
