// In which order a kernel visits the pages of a chunk. Every order visits each page once, so that all of them move the
// same bytes; what differs is how well the driver's prefetcher guesses.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define OVERSUB_HOST_DEVICE __host__ __device__
#else
#define OVERSUB_HOST_DEVICE
#endif

namespace oversub {

enum class Pattern {
  kSequential,
  kStrided,   // every 32nd page, then their neighbours: each access is in another 64 KiB
  kRandom,    // a permutation
  kPingPong,  // sequential, and the host takes each chunk back after the GPU used it
};

constexpr uint64_t kPageBytes = 4096;

// A bijection of [0, 2^bits): each step can be undone.
OVERSUB_HOST_DEVICE inline uint64_t Scramble(uint64_t x, unsigned bits) {
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  for (int round = 0; round < 2; ++round) {
    x = (x * 0x9e3779b97f4a7c15ull + 0x7f4a7c15ull) & mask;
    x ^= x >> (bits / 2 + 1);
  }
  return x;
}

// Which page is visited at `step` of [0, page_count). A chunk is whole 2 MiB blocks, so page_count is a multiple of
// 512.
OVERSUB_HOST_DEVICE inline uint64_t PageAtStep(Pattern pattern, uint64_t step, uint64_t page_count) {
  constexpr uint64_t kStride = 32;  // divides 512
  switch (pattern) {
    case Pattern::kStrided:
      return step % (page_count / kStride) * kStride + step / (page_count / kStride);
    case Pattern::kRandom: {
      unsigned bits = 1;
      while ((uint64_t{1} << bits) < page_count) ++bits;
      do {  // steps out of the range are walked over: the rest is still a permutation
        step = Scramble(step, bits);
      } while (step >= page_count);
      return step;
    }
    case Pattern::kSequential:
    case Pattern::kPingPong:
      return step;
  }
  return step;
}

}  // namespace oversub
