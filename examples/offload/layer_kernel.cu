#include <algorithm>

#include "examples/common/program.h"
#include "examples/offload/layer_kernel.h"
#include "sim/include/uvmsim.h"

namespace offload {
namespace {

constexpr int kThreads = 256;

// One warp for a row, 16 bytes a lane, so that a row is fetched in whole cache lines wherever it lies.
__global__ void MultiplyLayer(const uint32_t* weights, uint32_t width, const uint32_t* input, uint32_t* output) {
  const uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const uint32_t warps = gridDim.x * blockDim.x / 32;
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t row = warp; row < width; row += warps) {
    const uint4* const line = reinterpret_cast<const uint4*>(weights + static_cast<size_t>(row) * width);
    const uint4* const factors = reinterpret_cast<const uint4*>(input);
    uint32_t sum = 0;
#pragma unroll 4
    for (uint32_t i = lane; i < width / 4; i += 32) {
      const uint4 w = line[i];
      const uint4 x = factors[i];
      sum += w.x * x.x + w.y * x.y + w.z * x.z + w.w * x.w;
    }
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane == 0) output[row] = sum;
  }
}

void MultiplyLayerOnHost(const UvmsimLaunch* launch) {
  const auto* const weights = UvmsimArgument<const uint32_t*>(launch, 0);
  const auto width = UvmsimArgument<uint32_t>(launch, 1);
  auto* const output = UvmsimArgument<uint32_t*>(launch, 3);
  const size_t bytes = width * sizeof(uint32_t);
  const void* view = uvmsim_access(launch, UvmsimArgument<const uint32_t*>(launch, 2), bytes, UVMSIM_READ);
  if (view == nullptr) return;
  const std::vector<uint32_t> input(static_cast<const uint32_t*>(view), static_cast<const uint32_t*>(view) + width);
  std::vector<uint32_t> sums(width);
  UvmsimForEachSpan(launch, weights, static_cast<size_t>(width) * width, UVMSIM_READ,
                    [&](const uint32_t* span, size_t count, size_t offset) {
                      for (size_t i = 0; i < count; ++i) {
                        sums[(offset + i) / width] += span[i] * input[(offset + i) % width];
                      }
                    });
  void* const result = uvmsim_access(launch, output, bytes, UVMSIM_WRITE);
  if (result != nullptr) std::copy(sums.begin(), sums.end(), static_cast<uint32_t*>(result));
}

UVMSIM_REGISTER(MultiplyLayer, MultiplyLayerOnHost);

}  // namespace

void EnqueueLayer(const uint32_t* weights, uint32_t width, const uint32_t* input, uint32_t* output,
                  cudaStream_t stream) {
  const uint32_t blocks = std::min(1056u, (width + kThreads / 32 - 1) / (kThreads / 32));
  MultiplyLayer<<<blocks, kThreads, 0, stream>>>(weights, width, input, output);
  examples::Check(cudaGetLastError(), "launching MultiplyLayer");
}

std::vector<uint32_t> LayerByHost(uint64_t seed, uint32_t layer, const std::vector<uint32_t>& input) {
  const uint64_t width = input.size();
  std::vector<uint32_t> output(width);
  for (uint64_t row = 0; row < width; ++row) {
    for (uint64_t column = 0; column < width; ++column) {
      output[row] += WeightAt(seed, layer, row * width + column) * input[column];
    }
  }
  return output;
}

}  // namespace offload
