// Which blocks each step of the decode loop needs, and which therefore come and go: decided beforehand, so that every
// design serves exactly the same load.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace remap {

struct Shape {
  uint64_t block_bytes = 2ull << 20;
  uint32_t blocks = 128;  // that exist; those without a slot are in host memory
  uint32_t slots = 48;    // on the GPU
  uint32_t window = 12;   // blocks that a step uses; slots must hold two windows
  uint32_t steps = 100;
  std::string reuse = "cyclic";  // "cyclic": the window moves on by `fresh` blocks; "zipf": popular blocks come again
  uint32_t fresh = 3;
  uint64_t seed = 1;
};

struct Swap {
  static constexpr uint32_t kNone = ~0u;
  uint32_t victim = kNone;  // leaves; kNone while there are free slots
  uint32_t wanted = 0;      // comes
};

struct Step {
  std::vector<uint32_t> needed;    // `window` different blocks
  std::vector<uint32_t> versions;  // how often each has been used before
  std::vector<Swap> swaps;         // before the step
};

// Least recently used blocks leave. No victim of a step was needed by the step before it, so its swaps may be made
// while that one still runs.
std::vector<Step> MakeSchedule(const Shape& shape);

}  // namespace remap
