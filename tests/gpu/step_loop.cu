// A program that faults in each step, for tests/gpu/tune: the host writes a table, a kernel works on it, the host reads a
// part of the answer. Nothing here knows of uvmtrace.
//
//   uvmtrace_step_loop [STEPS [MIB [LAUNCHES]]]
//
// Prints one line with a checksum that does not change from run to run. On the simulator it takes a small table.
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "sim/include/uvmsim.h"

namespace {

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "step_loop: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

__global__ void Mix(const uint64_t* table, uint64_t* answer, size_t count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    answer[i] = table[i] * 3 + i;
  }
}

void MixOnHost(const UvmsimLaunch* launch) {
  const auto* const table = UvmsimArgument<const uint64_t*>(launch, 0);
  auto* const answer = UvmsimArgument<uint64_t*>(launch, 1);
  const size_t count = UvmsimArgument<size_t>(launch, 2);
  constexpr size_t kPiece = 8192;  // 64 KiB
  uint64_t copy[kPiece];
  for (size_t begin = 0; begin < count; begin += kPiece) {
    const size_t n = count - begin < kPiece ? count - begin : kPiece;
    const void* const in = uvmsim_access(launch, table + begin, n * 8, UVMSIM_READ);
    if (in == nullptr) return;
    for (size_t i = 0; i < n; ++i) copy[i] = static_cast<const uint64_t*>(in)[i] * 3 + begin + i;
    void* const out = uvmsim_access(launch, answer + begin, n * 8, UVMSIM_WRITE);
    if (out == nullptr) return;
    for (size_t i = 0; i < n; ++i) static_cast<uint64_t*>(out)[i] = copy[i];
  }
}

UVMSIM_REGISTER(Mix, MixOnHost);

uint64_t* MakeTable(size_t bytes) {
  void* memory = nullptr;
  Check(cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal), "cudaMallocManaged of the table");
  return static_cast<uint64_t*>(memory);
}

uint64_t* MakeAnswer(size_t bytes) {
  void* memory = nullptr;
  Check(cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal), "cudaMallocManaged of the answer");
  return static_cast<uint64_t*>(memory);
}

}  // namespace

int main(int argc, char** argv) {
  const int steps = argc > 1 ? std::atoi(argv[1]) : 6;
  const size_t bytes = static_cast<size_t>(argc > 2 ? std::atoi(argv[2]) : 128) << 20;
  const int launches = argc > 3 ? std::atoi(argv[3]) : 1;
  const size_t count = bytes / sizeof(uint64_t);
  uint64_t* const table = MakeTable(bytes);
  uint64_t* const answer = MakeAnswer(bytes);
  uint64_t sum = 0;
  for (int step = 0; step < steps; ++step) {
    nvtxRangePushA("the host writes");
    for (size_t i = 0; i < count; ++i) table[i] = i * static_cast<uint64_t>(step + 1);
    nvtxRangePop();
    nvtxRangePushA("the kernel");
    for (int i = 0; i < launches; ++i) Mix<<<1024, 256>>>(table, answer, count);
    Check(cudaGetLastError(), "the launch");
    Check(cudaDeviceSynchronize(), "the kernel");
    nvtxRangePop();
    nvtxRangePushA("the host reads");
    for (size_t i = 0; i < count; i += 64 * 512) sum = sum * 31 + answer[i];
    nvtxRangePop();
  }
  Check(cudaFree(table), "cudaFree");
  Check(cudaFree(answer), "cudaFree");
  std::printf("sum %llx\n", static_cast<unsigned long long>(sum));
  return 0;
}
