// From arguments and machine to numbers, and the refusals: everything that can be decided before memory is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/common/machine.h"
#include "examples/oversub/arguments.h"

namespace oversub {

// Who sends a chunk away when a new one needs its room.
enum class Eviction {
  kDriver,   // nobody asks: managed memory is larger than the GPU
  kProgram,  // the program, by a copy or a prefetch to the CPU
};

struct Plan {
  uint64_t chunks = 0;           // m
  uint64_t resident_chunks = 0;  // k
  uint64_t chunk_bytes = 0;      // a multiple of 2 MiB
  uint64_t capacity_bytes = 0;
  Eviction managed_eviction = Eviction::kDriver;  // of the managed modes; the manual ones evict by themselves anyway
  int cycles = 0;
  uint64_t seed = 0;
  bool readonly = false;
  bool verify_host = false;
  Pattern pattern = Pattern::kSequential;
  bool initialise_in_prefill = false;
  bool optimised_host = true;
  double time_limit_seconds = 0;

  uint64_t total_bytes() const { return chunks * chunk_bytes; }
  uint64_t words_per_chunk() const { return chunk_bytes / sizeof(uint64_t); }
};

// Throws examples::Refused for what cannot or should not run on this machine. `machine.free_bytes` is what is left
// after the experiment's own small device allocations. Looks at the host's memory too.
Plan MakePlan(const Arguments& arguments, const examples::Machine& machine);

}  // namespace oversub
