// The work done on a chunk: check every word against what the last visit left, and leave something new.
//
// Each word depends on the seed, its chunk, its place and the number of the visit, so a page that came back from
// eviction stale, shifted or from another chunk is found by the next visit.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "examples/common/managed_memory.h"
#include "examples/oversub/order.h"

namespace oversub {

OVERSUB_HOST_DEVICE inline uint64_t Mix(uint64_t x) {  // the finaliser of splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// What all words of a chunk have in common after its visit number `visit`; visit 0 is the host's initialisation.
OVERSUB_HOST_DEVICE inline uint64_t PatternOfVisit(uint64_t seed, uint64_t chunk, uint64_t visit) {
  return Mix(Mix(Mix(seed) + chunk) + visit);
}

OVERSUB_HOST_DEVICE inline uint64_t WordOfPattern(uint64_t pattern, uint64_t index) {
  return pattern ^ (index * 0x9e3779b97f4a7c15ull);
}

// In device memory. The first mismatch that was noticed, and how many there were.
struct CheckResult {
  unsigned long long mismatches;
  uint64_t chunk;
  uint64_t index;
  uint64_t expected;
  uint64_t found;
};

// Owns the result in device memory and launches the kernel.
class Visitor {
 public:
  Visitor();
  ~Visitor();
  Visitor(const Visitor&) = delete;
  Visitor& operator=(const Visitor&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Enqueues a visit of `words` on stream(): every word must be WordOfPattern(before, index); unless `readonly` it
  // becomes WordOfPattern(after, index) and is read back. The pages are visited in the order of `pattern`.
  void Enqueue(uint64_t* words, size_t word_count, uint64_t chunk, uint64_t before, uint64_t after, bool readonly,
               Pattern pattern);

  // What the visits so far have found. Waits for them.
  CheckResult Read();

 private:
  cudaStream_t stream_ = nullptr;
  examples::DeviceMemory result_;
};

}  // namespace oversub
