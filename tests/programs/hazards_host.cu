// Programs with one mistake each, and the same without it: hazards_host <scenario>. hazards.py says what the report
// must make of them. Exits 0 if CUDA answered every call as expected, mistakes included.
#include <cuda.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "sim/include/uvmsim.h"

namespace {

constexpr size_t kMiB = 1 << 20;

void Expect(int result, int expected, const char* call) {
  if (result == expected) return;
  fprintf(stderr, "%s gave %d, not %d\n", call, result, expected);
  exit(1);
}
#define CUDA(call) Expect(static_cast<int>(call), 0, #call)
#define FAILS(call, error) Expect(static_cast<int>(call), static_cast<int>(error), #call)

// Keeps the GPU busy for so many milliseconds.
__global__ void Spin(long long milliseconds) {
  const long long end = clock64() + milliseconds * 1'000'000;
  while (clock64() < end) {
  }
}
void SpinOnHost(const UvmsimLaunch* launch) {
  usleep(static_cast<useconds_t>(UvmsimArgument<long long>(launch, 0) * 1000));
}
UVMSIM_REGISTER(Spin, SpinOnHost);

__global__ void Sum(const char* data, size_t bytes, char* result) {
  char sum = 0;
  for (size_t i = threadIdx.x; i < bytes; i += blockDim.x) sum += data[i];
  *result = sum;
}
void SumOnHost(const UvmsimLaunch* launch) {
  char sum = 0;
  UvmsimForEachSpan(launch, const_cast<char*>(UvmsimArgument<const char*>(launch, 0)),
                    UvmsimArgument<size_t>(launch, 1), UVMSIM_READ, [&](char* span, size_t n, size_t) {
                      for (size_t i = 0; i < n; i += 4096) sum += span[i];
                    });
  auto* result = static_cast<char*>(uvmsim_access(launch, UvmsimArgument<char*>(launch, 2), 1, UVMSIM_WRITE));
  if (result != nullptr) *result = sum;
}
UVMSIM_REGISTER(Sum, SumOnHost);

char* Managed(size_t bytes) {
  char* pointer = nullptr;
  CUDA(cudaMallocManaged(&pointer, bytes));
  return pointer;
}

char* OnDevice(size_t bytes) {
  char* pointer = nullptr;
  CUDA(cudaMalloc(&pointer, bytes));
  return pointer;
}

// Kernels are recorded from the first managed allocation on.
void StartRecording() { CUDA(cudaFree(Managed(kMiB))); }

void Prefetch(const void* pointer, size_t bytes, int device, cudaError_t expected = cudaSuccess) {
  cudaMemLocation location{};
  location.type = cudaMemLocationTypeDevice;
  location.id = device;
  FAILS(cudaMemPrefetchAsync(pointer, bytes, location, 0, nullptr), expected);
  cudaGetLastError();
}

void DoubleFree() {
  char* pointer = Managed(2 * kMiB);
  CUDA(cudaFree(pointer));
  FAILS(cudaFree(pointer), cudaErrorInvalidValue);
}

void FreeOfReused() {
  for (int i = 0; i < 3; ++i) CUDA(cudaFree(Managed(2 * kMiB)));
  CUDA(cudaFree(nullptr));
}

void InteriorFree() {
  char* pointer = Managed(2 * kMiB);
  FAILS(cudaFree(pointer + 4096), cudaErrorInvalidValue);
  CUDA(cudaFree(pointer));
}

void UseAfterFree() {
  char* pointer = OnDevice(4 * kMiB);
  char word = 0;
  CUDA(cudaMemcpy(pointer + kMiB, &word, 1, cudaMemcpyHostToDevice));
  CUDA(cudaFree(pointer));
  // Whether the driver finds out depends on what it keeps mapped.
  cudaMemcpy(&word, pointer + kMiB, 1, cudaMemcpyDeviceToHost);
}

void UseOfReused() {
  for (int i = 0; i < 3; ++i) {
    char* pointer = OnDevice(4 * kMiB);
    char word = 0;
    CUDA(cudaMemcpy(pointer + kMiB, &word, 1, cudaMemcpyHostToDevice));
    CUDA(cudaFree(pointer));
  }
}

void FreeUnderKernel() {
  char* pointer = Managed(2 * kMiB);
  Spin<<<1, 1>>>(60);
  usleep(10'000);
  CUDA(cudaFree(pointer));
}

void FreeAfterKernel() {
  char* pointer = Managed(2 * kMiB);
  Spin<<<1, 1>>>(60);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaFree(pointer));
}

void UnusedPrefetch() {
  char* pointer = Managed(8 * kMiB);
  memset(pointer, 1, 8 * kMiB);
  Spin<<<1, 1>>>(5);
  CUDA(cudaDeviceSynchronize());
  usleep(5'000);
  Prefetch(pointer, 8 * kMiB, 0);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaFree(pointer));
}

void UsedPrefetch() {
  char* pointer = Managed(8 * kMiB);
  char* result = OnDevice(1);
  memset(pointer, 1, 8 * kMiB);
  Prefetch(pointer, 8 * kMiB, 0);
  Sum<<<1, 32>>>(pointer, 8 * kMiB, result);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaFree(pointer));
  // By the CPU, which takes it back.
  pointer = Managed(8 * kMiB);
  Prefetch(pointer, 8 * kMiB, 0);
  CUDA(cudaDeviceSynchronize());
  pointer[kMiB] = 1;
  CUDA(cudaFree(pointer));
}

void RefusedHint() {
  StartRecording();
  Prefetch(OnDevice(2 * kMiB), 2 * kMiB, 0, cudaErrorInvalidValue);
  Prefetch(Managed(2 * kMiB), 2 * kMiB, 7, cudaErrorInvalidDevice);
}

void AcceptedHint() {
  char* pointer = Managed(2 * kMiB);
  Prefetch(pointer, 2 * kMiB, 0);
  cudaMemLocation location{};
  location.type = cudaMemLocationTypeDevice;
  CUDA(cudaMemAdvise(pointer, 2 * kMiB, cudaMemAdviseSetPreferredLocation, location));
}

// Memory of the driver's virtual memory calls, which are looked up as a framework does it.
class Mapping {
 public:
  Mapping() {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    const auto find = [driver](auto** function, const char* name) {
      *function = reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(driver, name));
    };
    find(&reserve_, "cuMemAddressReserve");
    find(&create_, "cuMemCreate");
    find(&map_, "cuMemMap");
    find(&set_access_, "cuMemSetAccess");
    find(&unmap_, "cuMemUnmap");
    find(&release_, "cuMemRelease");
    find(&free_, "cuMemAddressFree");
    CUDA(reserve_(&address, 4 * kBytes, 0, 0, 0));
  }
  CUmemGenericAllocationHandle Create() {
    CUmemGenericAllocationHandle handle = 0;
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    CUDA(create_(&handle, kBytes, &properties, 0));
    return handle;
  }
  void Map(size_t piece, CUmemGenericAllocationHandle handle) {
    CUDA(map_(address + piece * kBytes, kBytes, 0, handle, 0));
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    CUDA(set_access_(address + piece * kBytes, kBytes, &access, 1));
  }
  void Unmap(size_t piece, size_t pieces = 1) { CUDA(unmap_(address + piece * kBytes, pieces * kBytes)); }
  void Release(CUmemGenericAllocationHandle handle) { CUDA(release_(handle)); }
  void Free() { CUDA(free_(address, 4 * kBytes)); }

  static constexpr size_t kBytes = 2 * kMiB;
  CUdeviceptr address = 0;

 private:
  decltype(&cuMemAddressReserve) reserve_;
  decltype(&cuMemCreate) create_;
  decltype(&cuMemMap) map_;
  decltype(&cuMemSetAccess) set_access_;
  decltype(&cuMemUnmap) unmap_;
  decltype(&cuMemRelease) release_;
  decltype(&cuMemAddressFree) free_;
};

void UnmapAround(bool synchronize) {
  StartRecording();
  Mapping mapping;
  const auto handle = mapping.Create();
  mapping.Map(0, handle);
  Spin<<<1, 1>>>(60);
  usleep(10'000);
  if (synchronize) CUDA(cudaDeviceSynchronize());
  mapping.Unmap(0);
  CUDA(cudaDeviceSynchronize());
  mapping.Release(handle);
  mapping.Free();
}

// Addresses that have several owners one after the other, and memory that has several addresses: no hazard, and every
// byte belongs to whoever had the address then.
void Ranges() {
  char* result = OnDevice(1);
  for (size_t round = 1; round <= 3; ++round) {
    char* pointer = Managed(round * 2 * kMiB);
    memset(pointer, 1, round * 2 * kMiB);
    // From the inside.
    Sum<<<1, 32>>>(pointer + kMiB, round * 2 * kMiB - kMiB, result);
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaFree(pointer));
  }
  Mapping mapping;
  const auto first = mapping.Create();
  const auto second = mapping.Create();
  char word = 1;
  const auto at = [&mapping](size_t piece) {
    return reinterpret_cast<void*>(mapping.address + piece * Mapping::kBytes + kMiB);
  };
  mapping.Map(0, first);
  mapping.Map(1, second);
  mapping.Map(2, first);
  CUDA(cudaMemcpy(at(0), &word, 1, cudaMemcpyHostToDevice));
  mapping.Unmap(1);
  mapping.Map(1, first);
  CUDA(cudaMemcpy(at(1), &word, 1, cudaMemcpyHostToDevice));
  mapping.Release(second);
  mapping.Release(first);
  CUDA(cudaMemcpy(at(2), &word, 1, cudaMemcpyHostToDevice));
  mapping.Unmap(0, 3);
  mapping.Free();
}

void Reset() {
  OnDevice(2 * kMiB);
  Managed(4 * kMiB);
  CUDA(cudaDeviceReset());
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<void()>> scenarios = {
      {"double_free", DoubleFree},
      {"free_of_reused", FreeOfReused},
      {"interior_free", InteriorFree},
      {"use_after_free", UseAfterFree},
      {"use_of_reused", UseOfReused},
      {"free_under_kernel", FreeUnderKernel},
      {"free_after_kernel", FreeAfterKernel},
      {"unmap_under_kernel", [] { UnmapAround(false); }},
      {"unmap_after_kernel", [] { UnmapAround(true); }},
      {"unused_prefetch", UnusedPrefetch},
      {"used_prefetch", UsedPrefetch},
      {"refused_hint", RefusedHint},
      {"accepted_hint", AcceptedHint},
      {"ranges", Ranges},
      {"reset", Reset},
  };
  const auto scenario = argc == 2 ? scenarios.find(argv[1]) : scenarios.end();
  if (scenario == scenarios.end()) {
    fprintf(stderr, "hazards_host: name one of the scenarios\n");
    return 2;
  }
  scenario->second();
  return 0;
}
