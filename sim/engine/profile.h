// The machine that is simulated: how much memory its GPU has, and how fast things are.
#pragma once

#include <cstdint>

#include "sim/engine/paging_model.h"

namespace uvmsim {

struct Profile {
  const char* name;
  const char* gpu_name;
  uint64_t memory_bytes;  // usable: what cudaMemGetInfo shows as free in an idle process
  int compute_major;
  int compute_minor;
  int multiprocessors;
  CostModel cost;
  double time_scale = 1;  // modelled time is burnt times this; 0: not at all
  uint32_t tools_queue_entries = 8192;
};

// UVMTRACE_SIM_PROFILE (tiny, a100-80g, h200) and its overrides UVMTRACE_SIM_MEMORY, UVMTRACE_SIM_H2D_GBPS,
// UVMTRACE_SIM_D2H_GBPS, UVMTRACE_SIM_TIME_SCALE, UVMTRACE_SIM_QUEUE_ENTRIES. A malformed value is one line on stderr,
// and the default.
Profile LoadProfile();

}  // namespace uvmsim
