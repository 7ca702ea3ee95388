#include "examples/oversub/plan.h"

#include <algorithm>

#include "examples/common/host_memory.h"
#include "examples/common/program.h"
#include "examples/oversub/mode.h"

namespace oversub {

using examples::FormatBytes;
using examples::Refused;

namespace {

// The driver pages managed memory in blocks of this size; a chunk that shares none with its neighbour can be counted.
constexpr uint64_t kBlockBytes = 2ull << 20;

}  // namespace

Plan MakePlan(const Arguments& arguments, const examples::Machine& machine) {
  Plan plan;
  plan.chunks = arguments.chunks;
  plan.resident_chunks = arguments.resident_chunks;
  plan.cycles = arguments.cycles;
  plan.seed = arguments.seed;
  plan.readonly = arguments.readonly;
  plan.verify_host = arguments.verify_host;
  plan.pattern = arguments.pattern;
  plan.initialise_in_prefill = arguments.initialise_in_prefill;
  plan.optimised_host = arguments.optimised_host;
  plan.time_limit_seconds = arguments.time_limit_seconds;
  plan.managed_eviction = arguments.capacity_bytes == 0 ? Eviction::kDriver : Eviction::kProgram;
  plan.capacity_bytes = arguments.capacity_bytes == 0 ? machine.free_bytes : arguments.capacity_bytes;
  if (plan.capacity_bytes > machine.free_bytes) {
    throw Refused("--capacity " + FormatBytes(plan.capacity_bytes) + " is more than the " +
                  FormatBytes(machine.free_bytes) + " of free device memory");
  }

  const uint64_t most_bytes = plan.capacity_bytes / plan.resident_chunks;
  plan.chunk_bytes = (arguments.chunk_bytes == 0 ? most_bytes : arguments.chunk_bytes) / kBlockBytes * kBlockBytes;
  if (plan.chunk_bytes == 0) {
    throw Refused("a chunk would be smaller than 2 MiB, the driver's block: use a smaller -k or a larger --chunk");
  }
  if (plan.chunk_bytes > most_bytes) {
    throw Refused("k = " + std::to_string(plan.resident_chunks) + " chunks of " + FormatBytes(plan.chunk_bytes) +
                  " do not fit into " + FormatBytes(plan.capacity_bytes));
  }
  if (plan.chunks > UINT64_MAX / plan.chunk_bytes)
    throw Refused("m chunks of this size are more than 64 bits can count");

  const bool any_managed = std::any_of(arguments.modes.begin(), arguments.modes.end(), IsManagedMode);
  if (any_managed) {
    examples::RefuseOversubscription(plan.total_bytes(), machine.free_bytes, machine.simulated, arguments);
    examples::RequireDemandPaging();
  }
  // What is on a simulated GPU lies in host memory too.
  const uint64_t simulated_bytes = machine.simulated ? plan.resident_chunks * plan.chunk_bytes : 0;
  examples::RequireHostMemory(
      plan.total_bytes() + simulated_bytes,
      "an experiment of m = " + std::to_string(plan.chunks) + " chunks of " + FormatBytes(plan.chunk_bytes));
  return plan;
}

}  // namespace oversub
