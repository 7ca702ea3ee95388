// A kernel works on memory that came from malloc, as on a machine with HMM or ATS. Runs on the simulator; needs no
// nvcc.
#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/include/uvmsim.h"

extern "C" void __cudaRegisterFunction(void**, const char* host_function, char*, const char* name, int, uint3*, uint3*,
                                       dim3*, dim3*, int*);

namespace {

constexpr size_t kBytes = 16 << 20;

void Increment() {}  // the host stub of the kernel

void IncrementOnHost(const UvmsimLaunch* launch) {
  auto* const data = UvmsimArgument<uint32_t*>(launch, 0);
  UvmsimForEachSpan(launch, data, kBytes / sizeof(uint32_t), UVMSIM_READ_WRITE, [](uint32_t* span, size_t n, size_t) {
    for (size_t i = 0; i < n; ++i) ++span[i];
  });
}

}  // namespace

int main() {
  const void* const stub = reinterpret_cast<const void*>(&Increment);
  __cudaRegisterFunction(nullptr, static_cast<const char*>(stub), nullptr, "Increment", -1, nullptr, nullptr, nullptr,
                         nullptr, nullptr);
  uvmsim_register_kernel(stub, &IncrementOnHost);
  int pageable = 0;
  cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, 0);
  auto* data = static_cast<uint32_t*>(malloc(kBytes));
  memset(data, 0, kBytes);
  void* arguments[] = {&data};
  cudaError_t error = cudaLaunchKernel(stub, dim3(1), dim3(1), arguments, 0, nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  uint64_t sum = 0;
  for (size_t i = 0; i < kBytes / sizeof(uint32_t); ++i) sum += data[i];
  printf("pageable %d, error %d, sum %llu\n", pageable, static_cast<int>(error), static_cast<unsigned long long>(sum));
  return 0;
}
