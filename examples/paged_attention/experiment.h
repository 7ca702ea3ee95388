// One variant of the experiment: where the KV cache lies, how a block is found, how large a block is.
#pragma once

#include <string>
#include <vector>

#include "examples/common/machine.h"
#include "examples/common/options.h"
#include "examples/common/rows.h"

namespace paged {

struct Shape {
  int batch = 1;
  int tokens = 4096;
  int kv_heads = 8;
  int iterations = 20;
  int warmups = 3;
};

struct Variant {
  std::string memory;  // of MemoryNames()
  std::string mode;    // of ModeNames()
  int block_tokens = 16;
};

std::vector<std::string> MemoryNames();
std::vector<std::string> ModeNames();

// Bytes per second that this GPU reads from its own memory.
double MeasureBandwidth(bool simulated);

// Runs and checks one variant. A variant that this machine has no room for gives a row with "skipped".
// Throws examples::WrongData where a result is further than 1e-3 from the reference.
examples::Row RunVariant(const Variant& variant, const Shape& shape, const examples::CommonOptions& options,
                         const examples::Machine& machine, double bandwidth);

}  // namespace paged
