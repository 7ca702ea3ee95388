// The memory behind the server's KV cache: an allocator that PyTorch loads (torch.cuda.memory.CUDAPluggableAllocator)
// and asks for managed or page-locked memory instead of device memory. PyTorch offers no managed tensors of its own; a
// memory pool over such an allocator is its supported way to them.
//
// Two choices are left to the environment, because they are what a user of managed memory experiments with:
//   UVM_KV_PREFERRED = none (default) | gpu | cpu    preferred location; with cpu the GPU also maps the pages in place
//   UVM_KV_PREFETCH  = 0 (default) | 1               prefetch to the GPU when allocated
#include <cuda_runtime_api.h>
#include <sys/types.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define KV_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::atomic<long long> live_bytes{0};

bool Failed(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return false;
  std::fprintf(stderr, "kv_allocator: %s: %s\n", call, cudaGetErrorString(error));
  (void)cudaGetLastError();  // PyTorch would find this error at its next launch and blame that
  return true;
}

const char* Setting(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

// CUDA 13 kept these two names and changed their arguments. `device` is a number, or cudaCpuDeviceId.
#if CUDART_VERSION >= 13000
cudaMemLocation Location(int device) {
  cudaMemLocation location{};
  location.type = device == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  location.id = device == cudaCpuDeviceId ? 0 : device;
  return location;
}
cudaError_t Prefetch(const void* address, size_t bytes, int device, cudaStream_t stream) {
  return cudaMemPrefetchAsync(address, bytes, Location(device), 0, stream);
}
cudaError_t Advise(const void* address, size_t bytes, cudaMemoryAdvise advice, int device) {
  return cudaMemAdvise(address, bytes, advice, Location(device));
}
#else
cudaError_t Prefetch(const void* address, size_t bytes, int device, cudaStream_t stream) {
  return cudaMemPrefetchAsync(address, bytes, device, stream);
}
cudaError_t Advise(const void* address, size_t bytes, cudaMemoryAdvise advice, int device) {
  return cudaMemAdvise(address, bytes, advice, device);
}
#endif

// Advice that is refused costs speed, not correctness: it is reported, and the memory is used.
void ApplySettings(void* address, size_t bytes, int device, cudaStream_t stream) {
  const char* const preferred = Setting("UVM_KV_PREFERRED", "none");
  if (std::strcmp(preferred, "gpu") == 0) {
    Failed(Advise(address, bytes, cudaMemAdviseSetPreferredLocation, device), "preferred location GPU");
  } else if (std::strcmp(preferred, "cpu") == 0) {
    Failed(Advise(address, bytes, cudaMemAdviseSetPreferredLocation, cudaCpuDeviceId), "preferred location CPU");
    Failed(Advise(address, bytes, cudaMemAdviseSetAccessedBy, device), "accessed by the GPU");
  } else if (std::strcmp(preferred, "none") != 0) {
    std::fprintf(stderr, "kv_allocator: UVM_KV_PREFERRED is '%s'; it can be none, gpu or cpu: none is used\n",
                 preferred);
  }
  if (std::strcmp(Setting("UVM_KV_PREFETCH", "0"), "1") == 0) {
    Failed(Prefetch(address, bytes, device, stream), "prefetch to the GPU");
  }
}

}  // namespace

// PyTorch's signature. A null pointer becomes torch.OutOfMemoryError.
KV_EXPORT void* kv_malloc(ssize_t size, int device, cudaStream_t stream) {
  if (size <= 0) return nullptr;
  void* address = nullptr;
  const size_t bytes = static_cast<size_t>(size);
  if (Failed(cudaMallocManaged(&address, bytes, cudaMemAttachGlobal), "cudaMallocManaged")) return nullptr;
  live_bytes += size;
  ApplySettings(address, bytes, device, stream);
  return address;
}

// The other two kinds of --kv: page-locked host memory, which the GPU uses in place at the same address, and device
// memory.
KV_EXPORT void* kv_malloc_pinned(ssize_t size, int /*device*/, cudaStream_t /*stream*/) {
  if (size <= 0) return nullptr;
  void* address = nullptr;
  if (Failed(cudaHostAlloc(&address, static_cast<size_t>(size), cudaHostAllocMapped), "cudaHostAlloc")) return nullptr;
  live_bytes += size;
  return address;
}

KV_EXPORT void kv_free_pinned(void* address, ssize_t size, int /*device*/, cudaStream_t /*stream*/) {
  if (address == nullptr) return;
  if (!Failed(cudaFreeHost(address), "cudaFreeHost")) live_bytes -= size;
}

KV_EXPORT void* kv_malloc_device(ssize_t size, int /*device*/, cudaStream_t /*stream*/) {
  if (size <= 0) return nullptr;
  void* address = nullptr;
  if (Failed(cudaMalloc(&address, static_cast<size_t>(size)), "cudaMalloc")) return nullptr;
  live_bytes += size;
  return address;
}

KV_EXPORT void kv_free(void* address, ssize_t size, int /*device*/, cudaStream_t /*stream*/) {
  if (address == nullptr) return;
  if (!Failed(cudaFree(address), "cudaFree")) live_bytes -= size;
}

// For the server itself, which moves a conversation out when it falls silent. `device` is a number, or -1 for the CPU.
// Returns 0, or the CUDA error.
KV_EXPORT int kv_prefetch(const void* address, size_t bytes, int device, cudaStream_t stream) {
  const cudaError_t error = Prefetch(address, bytes, device, stream);
  Failed(error, "cudaMemPrefetchAsync");
  return error;
}

// Bytes given out and not yet taken back: how the server makes sure that its tensor really came from here.
KV_EXPORT long long kv_live_bytes() { return live_bytes; }

// 1 if this device pages managed memory on demand.
KV_EXPORT int kv_pages_on_demand(int device) {
  int concurrent = 0;
  Failed(cudaDeviceGetAttribute(&concurrent, cudaDevAttrConcurrentManagedAccess, device), "cudaDeviceGetAttribute");
  return concurrent;
}
