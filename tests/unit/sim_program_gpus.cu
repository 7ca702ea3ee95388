// The cases of sim_program that are about several GPUs (UVMTRACE_SIM_GPUS=2): whose memory it is, how managed memory
// goes from one to the other, and what runs at the same time.
#include <cstdio>
#include <cstring>
#include <string>

#include "sim/include/uvmsim.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

constexpr size_t kBytes = 8 * kMiB;
constexpr size_t kCount = kBytes / sizeof(int);

bool HasThread(const std::string& name) {
  for (int tid = getpid(); tid < getpid() + 64; ++tid) {
    FILE* file = fopen(("/proc/self/task/" + std::to_string(tid) + "/comm").c_str(), "r");
    if (file == nullptr) continue;
    char text[32] = {};
    const bool found = fgets(text, sizeof text, file) != nullptr && name + "\n" == text;
    fclose(file);
    if (found) return true;
  }
  return false;
}

void GpusIdentity() {
  int count = 0;
  CUDA(cudaGetDeviceCount(&count));
  CHECK_EQ(count, 2);
  cudaDeviceProp first, second;
  CUDA(cudaGetDeviceProperties(&first, 0));
  CUDA(cudaGetDeviceProperties(&second, 1));
  CHECK(memcmp(&first.uuid, &second.uuid, sizeof first.uuid) != 0);
  CHECK(first.pciBusID != second.pciBusID);
  CHECK_EQ(cudaGetDeviceProperties(&second, 2), cudaErrorInvalidDevice);
  CHECK_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  CUDA(cudaSetDevice(1));
  int device = -1;
  CUDA(cudaGetDevice(&device));
  CHECK_EQ(device, 1);
  CHECK(HasThread("UVM GPU1 BH") && HasThread("UVM GPU2 BH"));
}

size_t Free() {
  size_t free_bytes = 0, total = 0;
  CUDA(cudaMemGetInfo(&free_bytes, &total));
  return free_bytes;
}

void GpusMemory() {
  CUDA(cudaSetDevice(1));
  int* on_second = nullptr;
  CUDA(cudaMalloc(&on_second, kBytes));
  CHECK_EQ(Free(), 56 * kMiB);
  cudaPointerAttributes attributes;
  CUDA(cudaPointerGetAttributes(&attributes, on_second));
  CHECK_EQ(attributes.device, 1);
  CUDA(cudaSetDevice(0));
  CHECK_EQ(Free(), 64 * kMiB);
  int* on_first = nullptr;
  CUDA(cudaMalloc(&on_first, kBytes));
  int can = 0;
  CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
  CHECK_EQ(can, 1);
  // A copy needs no peer access.
  CUDA(cudaMemset(on_first, 0, kBytes));
  Launch(on_first, kCount, 3);
  CUDA(cudaMemcpyPeer(on_second, 1, on_first, 0, kBytes));
  CUDA(cudaDeviceEnablePeerAccess(1, 0));
  CHECK_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  CHECK_EQ(cudaGetLastError(), cudaErrorPeerAccessAlreadyEnabled);
  Launch(on_second, kCount, 4);  // a kernel of the first on the second's memory
  CUDA(cudaDeviceSynchronize());
  int value = 0;
  CUDA(cudaMemcpy(&value, on_second + kCount - 1, sizeof value, cudaMemcpyDefault));
  CHECK_EQ(value, 7);
  CUDA(cudaDeviceDisablePeerAccess(1));
  Launch(on_second, kCount, 1);
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
}

// Between the GPUs the pages take the direct way: nothing goes back to the host.
void GpusMigration() {
  int* data = Managed<int>(kBytes);
  for (size_t i = 0; i < kCount; ++i) data[i] = 1;
  for (int device : {0, 1, 0, 1}) {
    CUDA(cudaSetDevice(device));
    Launch(data, kCount, 1);
    CUDA(cudaDeviceSynchronize());
  }
  CHECK_EQ(Totals().host_to_device_bytes, kBytes);
  CHECK_EQ(Totals().device_to_host_bytes, 0u);
  CHECK_EQ(Free(), 64 * kMiB - kBytes);
  cudaMemLocation first = {};
  first.type = cudaMemLocationTypeDevice;
  first.id = 0;
  CUDA(cudaMemPrefetchAsync(data, kBytes, first, 0, nullptr));
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(Totals().device_to_host_bytes, 0u);
  for (size_t i = 0; i < kCount; ++i) CHECK_EQ(data[i], 5);
  CHECK_EQ(Totals().device_to_host_bytes, kBytes);
  // Read by both and written by nobody: a copy for each.
  CUDA(cudaMemAdvise(data, kBytes, cudaMemAdviseSetReadMostly, first));
  const unsigned long long before = Totals().host_to_device_bytes;
  for (int device : {0, 1}) {
    CUDA(cudaSetDevice(device));
    cudaMemLocation here = first;
    here.id = device;
    CUDA(cudaMemPrefetchAsync(data, kBytes, here, 0, nullptr));
    CUDA(cudaDeviceSynchronize());
  }
  CHECK(Totals().host_to_device_bytes > before);
  CHECK_EQ(data[17], 5);
  CHECK_EQ(Totals().device_to_host_bytes, kBytes);
}

__global__ void Compute(double) {}
void ComputeOnHost(const UvmsimLaunch* launch) { uvmsim_compute(launch, UvmsimArgument<double>(launch, 0)); }
UVMSIM_REGISTER(Compute, ComputeOnHost);

// Default streams of two devices know nothing of each other.
void GpusOverlap() {
  CUDA(cudaFree(nullptr));
  const double before = uvmsim_now_ns();
  for (int device : {0, 1}) {
    CUDA(cudaSetDevice(device));
    Compute<<<1, 1>>>(5e6);
  }
  for (int device : {0, 1}) {
    CUDA(cudaSetDevice(device));
    CUDA(cudaDeviceSynchronize());
  }
  const double took = uvmsim_now_ns() - before;
  printf("%.3f ms\n", took / 1e6);
  CHECK(took >= 5e6 && took < 5.1e6);
}

}  // namespace

Cases GpusCases() {
  return {
      {"gpus-identity", GpusIdentity},
      {"gpus-memory", GpusMemory},
      {"gpus-migration", GpusMigration},
      {"gpus-overlap", GpusOverlap},
  };
}

}  // namespace uvmsim::tests
