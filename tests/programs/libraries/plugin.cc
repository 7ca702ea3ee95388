// A plugin that is linked with CUDA: it is loaded, used and unloaded again.
#include "preload/calls/cuda_api.h"

extern "C" __attribute__((visibility("default"))) int PluginWork() {
  void* pointer = nullptr;
  const cudaError_t allocated = cudaMallocManaged(&pointer, 1 << 20, 1);
  return allocated == cudaSuccess ? static_cast<int>(cudaFree(pointer)) : static_cast<int>(allocated);
}
