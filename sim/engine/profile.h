// The machine that is simulated: how much memory its GPU has, and how fast things are.
#pragma once

#include <cstdint>

#include "sim/engine/paging_model.h"

namespace uvmsim {

// What reaches memory without the driver: copies, and reads and writes in place. Bytes per nanosecond, but for the
// last.
struct LinkModel {
  double pinned_to_device = 55;  // a copy from or to page-locked memory
  double pinned_to_host = 55;
  double pageable_to_device = 9.3;  // staged through the driver's own page-locked memory
  double pageable_to_host = 16.5;
  double in_place = 51;         // a kernel reads or writes host memory, page-locked or managed
  double host_memory = 10;      // from host memory to host memory
  double device_memory = 4000;  // what kernels and copies read and write of device memory
  double peer = 200;            // the memory of another GPU
  double pin_ns_per_byte = 0.26;
};

struct Profile {
  const char* name;
  const char* gpu_name;
  uint64_t memory_bytes;  // usable: what cudaMemGetInfo shows as free in an idle process
  int compute_major;
  int compute_minor;
  int multiprocessors;
  CostModel cost;
  LinkModel link;
  double time_scale = 1;  // modelled time is burnt times this; 0: not at all
  uint32_t tools_queue_entries = 8192;
  int gpus = 1;
  // The GPU reaches memory that CUDA did not allocate, and the driver migrates it (HMM).
  bool system_memory = false;
};

// Null if there is none of that name.
const Profile* FindProfile(const char* name);

// UVMTRACE_SIM_PROFILE (tiny, hmm, a100-80g, h200) and its overrides UVMTRACE_SIM_MEMORY, UVMTRACE_SIM_H2D_GBPS,
// UVMTRACE_SIM_D2H_GBPS, UVMTRACE_SIM_TIME_SCALE, UVMTRACE_SIM_QUEUE_ENTRIES, UVMTRACE_SIM_GPUS. A malformed value is
// one line on stderr, and the default.
Profile LoadProfile();

}  // namespace uvmsim
