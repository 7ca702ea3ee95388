// Every file of the simulated libcuda.so.1 starts here: all exported functions of cuda.h under their real names.
#pragma once

// Without it cuda.h would rename cuMemAlloc to cuMemAlloc_v2, hide what older programs call and not declare the _ptsz
// twins.
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <new>

#include "sim/engine/engine.h"

namespace uvmsim {

// Runs `call` with the engine, if there is one, and lets no exception out into a C program.
template <typename Call>
CUresult WithEngine(Call call) {
  Engine* engine = Engine::Get();
  if (engine == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  try {
    return call(*engine);
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

// The device of the calling thread's current context; without one, the first.
int CurrentDevice();

template <typename Call>
CUresult WithStream(CUstream handle, Call call) {
  return WithEngine([&](Engine& engine) {
    Stream* stream = engine.ResolveStream(CurrentDevice(), handle);
    return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : call(engine, stream);
  });
}

inline bool IsDevice(CUdevice device) {
  const Engine* engine = Engine::Get();
  return engine != nullptr && device >= 0 && device < engine->gpu_count();
}
inline CUresult CheckDevice(CUdevice device) { return IsDevice(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE; }

}  // namespace uvmsim

// Defines a function and its twin for the per-thread default stream: two functions at two addresses, as in the real
// library. The simulated device runs all streams in order, so that both do the same.
#define UVMSIM_TWINS(name, suffix, parameters, expression)           \
  extern "C" CUresult CUDAAPI name parameters { return expression; } \
  extern "C" CUresult CUDAAPI name##suffix parameters { return expression; }
