// A stand-in libcudart for tests of the doors. Like the real one it opens libcuda.so.1 at its first call, looks up
// cuGetProcAddress_v2 once, and asks that for everything else. Built as libcudart.so.13, .so.12 and .so.11.0 with their
// version nodes, and as an object for static linking.
//
// What is not defined here comes from fake_cudart_rows.cc, and does nothing.
//
// FAKE_CUDART_MAJOR decides the signatures of cudaMemPrefetchAsync and cudaMemAdvise. FakeLastRegisters() tells what
// these two really got.
#include <dlfcn.h>
#include <stdlib.h>

#include "preload/calls/cuda_api.h"

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Driver {
  CUresult (*init)(unsigned);
  decltype(&cuDevicePrimaryCtxRetain) retain;
  decltype(&cuMemAlloc_v2) allocate;
  decltype(&cuMemAllocManaged) allocate_managed;
  decltype(&cuMemHostAlloc) allocate_host;
  decltype(&cuMemFree_v2) free;
  decltype(&cuMemFreeHost) free_host;
  decltype(&cuMemcpyHtoD_v2) copy;
  decltype(&cuGetProcAddress_v2) get_proc_address;
  CUresult init_result;
};

template <typename Function>
void Ask(decltype(&cuGetProcAddress_v2) get, const char* name, int version, Function* function) {
  void* pointer = nullptr;
  get(name, &pointer, version, 0, nullptr);
  *function = reinterpret_cast<Function>(pointer);
}

const Driver* LoadDriver() {
  static const Driver driver = [] {
    Driver found{};
    found.init_result = CUDA_ERROR_NOT_FOUND;
    void* const library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr) return found;
    const auto first = reinterpret_cast<decltype(&cuGetProcAddress_v2)>(dlsym(library, "cuGetProcAddress_v2"));
    void* ignored = nullptr;
    first("", &ignored, 0, 0, nullptr);
    Ask(first, "cuGetProcAddress", 12000, &found.get_proc_address);
    const auto get = found.get_proc_address;
    Ask(get, "cuInit", 2000, &found.init);
    Ask(get, "cuDevicePrimaryCtxRetain", 7000, &found.retain);
    Ask(get, "cuMemAlloc", 3020, &found.allocate);
    Ask(get, "cuMemAllocManaged", 6000, &found.allocate_managed);
    Ask(get, "cuMemHostAlloc", 2020, &found.allocate_host);
    Ask(get, "cuMemFree", 3020, &found.free);
    Ask(get, "cuMemFreeHost", 2000, &found.free_host);
    Ask(get, "cuMemcpyHtoD", 3020, &found.copy);
    found.init_result = found.init(0);
    CUcontext context = nullptr;
    if (found.init_result == CUDA_SUCCESS) found.init_result = found.retain(&context, 0);
    return found;
  }();
  return &driver;
}

cudaError_t Translate(CUresult result) { return static_cast<cudaError_t>(result); }

template <typename Call>
cudaError_t WithDriver(const Call& call) {
  const Driver* const driver = LoadDriver();
  if (driver->init_result != CUDA_SUCCESS) return Translate(driver->init_result);
  return Translate(call(*driver));
}

uint64_t last_registers[5];

}  // namespace

#define DEFINE(result, name, parameters)                \
  FAKE_EXPORT result Fake_##name parameters asm(#name); \
  result Fake_##name parameters

DEFINE(cudaError_t, cudaMalloc, (void** pointer, size_t size)) {
  return WithDriver([&](const Driver& driver) { return driver.allocate((CUdeviceptr*)pointer, size); });
}
DEFINE(cudaError_t, cudaMallocManaged, (void** pointer, size_t size, unsigned flags)) {
  return WithDriver([&](const Driver& driver) { return driver.allocate_managed((CUdeviceptr*)pointer, size, flags); });
}
DEFINE(cudaError_t, cudaHostAlloc, (void** pointer, size_t size, unsigned flags)) {
  return WithDriver([&](const Driver& driver) { return driver.allocate_host(pointer, size, flags); });
}
DEFINE(cudaError_t, cudaFree, (void* pointer)) {
  return WithDriver([&](const Driver& driver) { return driver.free((CUdeviceptr)pointer); });
}
DEFINE(cudaError_t, cudaFreeHost, (void* pointer)) {
  return WithDriver([&](const Driver& driver) { return driver.free_host(pointer); });
}
DEFINE(cudaError_t, cudaMemcpy, (void* destination, const void* source, size_t size, cudaMemcpyKind)) {
  return WithDriver([&](const Driver& driver) { return driver.copy((CUdeviceptr)destination, source, size); });
}
DEFINE(cudaError_t, cudaRuntimeGetVersion, (int* version)) {
  *version = FAKE_CUDART_MAJOR * 1000;
  return cudaSuccess;
}
DEFINE(cudaError_t, cudaGetDriverEntryPoint,
       (const char* name, void** pointer, unsigned long long flags, cudaDriverEntryPointQueryResult* status)) {
  return WithDriver([&](const Driver& driver) {
    return driver.get_proc_address(name, pointer, 13000, flags, (CUdriverProcAddressQueryResult*)status);
  });
}
DEFINE(cudaError_t, cudaGetDriverEntryPointByVersion,
       (const char* name, void** pointer, unsigned version, unsigned long long flags,
        cudaDriverEntryPointQueryResult* status)) {
  return WithDriver([&](const Driver& driver) {
    return driver.get_proc_address(name, pointer, static_cast<int>(version), flags,
                                   (CUdriverProcAddressQueryResult*)status);
  });
}
DEFINE(cudaError_t, cudaGetDevice, (int* device)) {
  *device = 5;
  return cudaSuccess;
}
FAKE_EXPORT void __cudaRegisterManagedVar(void**, void** shadow, char*, const char*, int, size_t bytes, int, int) {
  *shadow = calloc(1, bytes);
}
FAKE_EXPORT char __cudaInitModule(void**) { return LoadDriver()->init_result == CUDA_SUCCESS; }

#if FAKE_CUDART_MAJOR >= 13
DEFINE(cudaError_t, cudaMemPrefetchAsync,
       (const void* pointer, size_t size, cudaMemLocation location, unsigned flags, cudaStream_t stream)) {
  const uint64_t got[] = {(uint64_t)pointer, size, (uint64_t)location.type << 32 | (uint32_t)location.id, flags,
                          (uint64_t)stream};
  for (int i = 0; i < 5; ++i) last_registers[i] = got[i];
  return cudaSuccess;
}
DEFINE(cudaError_t, cudaMemAdvise,
       (const void* pointer, size_t size, cudaMemoryAdvise advice, cudaMemLocation location)) {
  const uint64_t got[] = {(uint64_t)pointer, size, (uint64_t)advice,
                          (uint64_t)location.type << 32 | (uint32_t)location.id, 0};
  for (int i = 0; i < 5; ++i) last_registers[i] = got[i];
  return cudaSuccess;
}
#else
DEFINE(cudaError_t, cudaMemPrefetchAsync, (const void* pointer, size_t size, int device, cudaStream_t stream)) {
  const uint64_t got[] = {(uint64_t)pointer, size, (uint64_t)(uint32_t)device, (uint64_t)stream, 0};
  for (int i = 0; i < 5; ++i) last_registers[i] = got[i];
  return cudaSuccess;
}
DEFINE(cudaError_t, cudaMemAdvise, (const void* pointer, size_t size, cudaMemoryAdvise advice, int device)) {
  const uint64_t got[] = {(uint64_t)pointer, size, (uint64_t)advice, (uint64_t)(uint32_t)device, 0};
  for (int i = 0; i < 5; ++i) last_registers[i] = got[i];
  return cudaSuccess;
}
#endif

FAKE_EXPORT const uint64_t* FakeLastRegisters() { return last_registers; }
