// Preloaded into an example: counts the calls that wait for the GPU, and prints their number on stderr at the end.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdio>

namespace {

std::atomic<int> waits{0};

struct Printer {
  ~Printer() { std::fprintf(stderr, "waits: %d\n", waits.load()); }
} printer;

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ++waits;
  return reinterpret_cast<decltype(&cudaStreamSynchronize)>(dlsym(RTLD_NEXT, "cudaStreamSynchronize"))(stream);
}
EXPORTED cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ++waits;
  return reinterpret_cast<decltype(&cudaEventSynchronize)>(dlsym(RTLD_NEXT, "cudaEventSynchronize"))(event);
}
EXPORTED cudaError_t cudaDeviceSynchronize() {
  ++waits;
  return reinterpret_cast<decltype(&cudaDeviceSynchronize)>(dlsym(RTLD_NEXT, "cudaDeviceSynchronize"))();
}
EXPORTED cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  ++waits;
  return reinterpret_cast<decltype(&cudaMemcpy)>(dlsym(RTLD_NEXT, "cudaMemcpy"))(to, from, bytes, kind);
}
