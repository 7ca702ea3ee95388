// The blog's experiment, "Oversubscription performance", on the model alone: m chunks take turns on a GPU with room for
// k. No thread waits and no byte moves, so that 80 GB take about a second.
#pragma once

#include <cstdint>

#include "sim/engine/profile.h"

namespace uvmsim {

enum class Mode : uint8_t { kNaive, kPrefetch };

struct ExperimentResult {
  double prefill_seconds = 0;
  double first_cycle_seconds = 0;  // with the prefill, as the blog counts
  double second_cycle_seconds = 0;
  uint64_t chunk_bytes = 0;
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
};

// Managed memory, touched on the CPU first, then two cycles through all chunks. A fault brings one 64 KiB piece and
// what the driver's prefetcher adds.
ExperimentResult RunExperiment(const Profile& profile, Mode mode, uint64_t m, uint64_t k);

// Reading the same bytes twice: how long each pass takes.
struct ReadResult {
  double first_pass_seconds = 0;
  double second_pass_seconds = 0;
};
enum class Placement : uint8_t { kManaged, kRemoteMapped, kPinned };
ReadResult RunReads(const Profile& profile, Placement placement, uint64_t bytes);

}  // namespace uvmsim
