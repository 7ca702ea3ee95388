// A kernel faults 1 GiB of managed memory while the host waits for it in one of the ways in which programs wait. Run
// under uvmtrace, the report tells what share of these bytes CUPTI delivered: tests/gpu/measure.py --only delivery
// prints the table.
//
//   delivery_bench device-sync|stream-sync|event-sync|copy|async-copy|free|cpu-touch
//
// Needs a GPU with at least 2 GiB free.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kStride = 64;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "delivery_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

__global__ void Touch(char* bytes, size_t count) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x * kStride;
  for (size_t i = (static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kStride; i < count; i += step) {
    bytes[i] += 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string way = argc == 2 ? argv[1] : "";
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  if (free_bytes < 2 * kBytes) {
    std::fprintf(stderr, "delivery_bench: the GPU has less than 2 GiB free\n");
    return 2;
  }
  char* managed = nullptr;
  char* device = nullptr;
  char host[64] = {};
  cudaStream_t stream;
  cudaEvent_t event;
  Check(cudaMallocManaged(&managed, kBytes), "cudaMallocManaged");
  Check(cudaMalloc(&device, sizeof host), "cudaMalloc");
  Check(cudaStreamCreate(&stream), "cudaStreamCreate");
  Check(cudaEventCreate(&event), "cudaEventCreate");
  std::memset(managed, 1, kBytes);
  Touch<<<1056, 256, 0, stream>>>(managed, kBytes);
  Check(cudaGetLastError(), "launching Touch");
  Check(cudaEventRecord(event, stream), "cudaEventRecord");

  if (way == "device-sync") {
    Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  } else if (way == "stream-sync") {
    Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  } else if (way == "event-sync") {
    Check(cudaEventSynchronize(event), "cudaEventSynchronize");
  } else if (way == "copy") {
    Check(cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost), "cudaMemcpy");
  } else if (way == "async-copy") {
    Check(cudaMemcpyAsync(host, device, sizeof host, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
    Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  } else if (way == "free") {
    Check(cudaFree(managed), "cudaFree");
    managed = nullptr;
  } else if (way == "cpu-touch") {
    for (size_t i = 0; i < kBytes; i += 4096) static_cast<void>(*static_cast<volatile char*>(managed + i));
  } else {
    std::fprintf(stderr, "usage: delivery_bench device-sync|stream-sync|event-sync|copy|async-copy|free|cpu-touch\n");
    return 2;
  }
  Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  if (managed != nullptr) Check(cudaFree(managed), "cudaFree");
  return 0;
}
