// Preloaded into an example: changes word 12345 of one chunk behind the program's back, to see that its check finds it.
// In host memory, before the second copy of a chunk to the GPU or the second launch that works on managed memory.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>

namespace {

constexpr int kVictim = 12345;
constexpr int kMostManaged = 64;
void* managed[kMostManaged];
int managed_count = 0;

void ChangeOneWord(void* words, int* calls) {
  if (++*calls == 2) static_cast<uint64_t*>(words)[kVictim] ^= 1;
}

void ChangeLaunchedWord(void** arguments) {
  static int calls = 0;
  void* const words = *static_cast<void**>(arguments[0]);
  if (std::find(managed, managed + managed_count, words) != managed + managed_count) ChangeOneWord(words, &calls);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  static int calls = 0;
  if (kind == cudaMemcpyHostToDevice && bytes > kVictim * sizeof(uint64_t))
    ChangeOneWord(const_cast<void*>(from), &calls);
  const auto real = reinterpret_cast<decltype(&cudaMemcpy)>(dlsym(RTLD_NEXT, "cudaMemcpy"));
  return real(to, from, bytes, kind);
}

EXPORTED cudaError_t cudaMallocManaged(void** address, size_t bytes, unsigned flags) {
  using Allocate = cudaError_t (*)(void**, size_t, unsigned);
  const cudaError_t error = reinterpret_cast<Allocate>(dlsym(RTLD_NEXT, "cudaMallocManaged"))(address, bytes, flags);
  if (error == cudaSuccess && managed_count < kMostManaged) managed[managed_count++] = *address;
  return error;
}

// What <<<>>> becomes: nvcc 13 calls the second, earlier ones the first.
#define LAUNCH(name)                                                                                                  \
  EXPORTED cudaError_t name(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,       \
                            cudaStream_t stream) {                                                                    \
    using Launch = cudaError_t (*)(const void*, dim3, dim3, void**, size_t, cudaStream_t);                            \
    ChangeLaunchedWord(arguments);                                                                                    \
    return reinterpret_cast<Launch>(dlsym(RTLD_NEXT, #name))(function, grid, block, arguments, shared_bytes, stream); \
  }

LAUNCH(cudaLaunchKernel)
LAUNCH(__cudaLaunchKernel)
