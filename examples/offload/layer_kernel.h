// One layer of the forward pass: y = W x, in unsigned 32-bit integers that wrap around. Integers, because the result is
// then exact in any order of additions, and the host can tell whether the GPU read the right weights.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#ifdef __CUDACC__
#define OFFLOAD_HOST_DEVICE __host__ __device__
#else
#define OFFLOAD_HOST_DEVICE
#endif

namespace offload {

// Weight `index` of a layer.
OFFLOAD_HOST_DEVICE inline uint32_t WeightAt(uint64_t seed, uint32_t layer, uint64_t index) {
  uint64_t x = (index + (static_cast<uint64_t>(layer + 1) << 40)) * 0x9e3779b97f4a7c15ull + seed;
  return static_cast<uint32_t>(x ^ (x >> 29));
}

// output[row] = sum of weights[row][column] * input[column], for `width` rows and columns; width is a multiple of 128.
void EnqueueLayer(const uint32_t* weights, uint32_t width, const uint32_t* input, uint32_t* output,
                  cudaStream_t stream);

// The same by the host, with the weights from WeightAt().
std::vector<uint32_t> LayerByHost(uint64_t seed, uint32_t layer, const std::vector<uint32_t>& input);

}  // namespace offload
