// The step's work: check every word of the blocks that it needs, and leave the next version of them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "examples/common/managed_memory.h"
#include "examples/kv_remap/schedule.h"

#ifdef __CUDACC__
#define REMAP_HOST_DEVICE __host__ __device__
#else
#define REMAP_HOST_DEVICE
#endif

namespace remap {

// Word `index` of a block after `version` uses: a block that is stale, or another one's, does not pass.
REMAP_HOST_DEVICE inline uint64_t WordOf(uint32_t block, uint32_t version, uint64_t index) {
  return (static_cast<uint64_t>(block + 1) << 40 | version) * 0x9e3779b97f4a7c15ull ^ index * 0xbf58476d1ce4e5b9ull;
}

// Where a kernel finds block b: memory + table[b] with a table, memory + b * block_bytes without.
struct Mapping {
  char* memory = nullptr;
  const int64_t* table = nullptr;
};

// The schedule on the device, and the count of wrong words.
class Consumer {
 public:
  Consumer(const Shape& shape, const std::vector<Step>& schedule, uint32_t kernel_us);

  // Enqueues step `number`; the kernel runs for at least kernel_us.
  void Enqueue(uint32_t number, const Mapping& mapping, cudaStream_t stream);
  unsigned long long WrongWords();  // waits for the device

 private:
  const Shape shape_;
  const uint32_t kernel_us_;
  examples::DeviceMemory needed_;
  examples::DeviceMemory versions_;
  examples::DeviceMemory wrong_;
};

}  // namespace remap
