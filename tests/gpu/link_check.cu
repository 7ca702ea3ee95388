// Is what the link counters say true? 2 GiB of pinned memory are read four times in place by a kernel, then copied once:
// the trace must hold those bytes, the kernels, the copies and the driver's threads. And what does the sampling cost?
//
//   link_check read     8 GiB read in place, 2 GiB copied; prints the true bytes
//   link_check spin     20,000 launches of a short kernel, waited for one by one; prints microseconds for each
//   link_check wait     pinned memory that a kernel reads now and then for four seconds, so that the link is sampled
//
// link_check.py runs both with and without the library and prints a table.
#include <cuda_runtime.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <chrono>
#include <thread>

namespace {

constexpr size_t kBytes = size_t{2} << 30;
constexpr int kPasses = 4;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

__global__ void Sum(const uint4* data, size_t count, unsigned* result) {
  unsigned sum = 0;
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const uint4 value = data[i];
    sum += value.x ^ value.y ^ value.z ^ value.w;
  }
  atomicAdd(result, sum);
}

__global__ void Nothing() {}

char* Pinned() {
  char* pinned = nullptr;
  Check(cudaMallocHost(reinterpret_cast<void**>(&pinned), kBytes), "cudaMallocHost");
  memset(pinned, 1, kBytes);
  return pinned;
}

int Read() {
  char* const pinned = Pinned();
  char* device = nullptr;
  unsigned* result = nullptr;
  Check(cudaMalloc(reinterpret_cast<void**>(&device), kBytes), "cudaMalloc");
  Check(cudaMalloc(reinterpret_cast<void**>(&result), sizeof(unsigned)), "cudaMalloc");
  for (int pass = 0; pass < kPasses; ++pass) {
    Sum<<<1024, 256>>>(reinterpret_cast<const uint4*>(pinned), kBytes / sizeof(uint4), result);
    Check(cudaDeviceSynchronize(), "Sum");
  }
  Check(cudaMemcpy(device, pinned, kBytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  printf("{\"in_place\": %zu, \"copied\": %zu}\n", kPasses * kBytes, kBytes);
  return 0;
}

int Spin() {
  Pinned();
  for (int i = 0; i < 100; ++i) Nothing<<<1, 1>>>();
  Check(cudaDeviceSynchronize(), "Nothing");
  const auto start = std::chrono::steady_clock::now();
  constexpr int kLaunches = 20000;
  for (int i = 0; i < kLaunches; ++i) {
    Nothing<<<1, 1>>>();
    Check(cudaStreamSynchronize(nullptr), "Nothing");
  }
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  printf("{\"launch_us\": %.3f}\n", spent.count() / kLaunches);
  return 0;
}

int Wait() {
  char* const pinned = Pinned();
  unsigned* result = nullptr;
  Check(cudaMalloc(reinterpret_cast<void**>(&result), sizeof(unsigned)), "cudaMalloc");
  for (int i = 0; i < 40; ++i) {
    Sum<<<1024, 256>>>(reinterpret_cast<const uint4*>(pinned), kBytes / 64 / sizeof(uint4), result);
    Check(cudaDeviceSynchronize(), "Sum");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  printf("{}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "read") == 0) return Read();
  if (argc == 2 && strcmp(argv[1], "spin") == 0) return Spin();
  if (argc == 2 && strcmp(argv[1], "wait") == 0) return Wait();
  fprintf(stderr, "link_check read | spin | wait\n");
  return 2;
}
