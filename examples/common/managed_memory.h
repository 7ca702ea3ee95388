// Prefetch and advice in one spelling, and owners for the three kinds of memory the examples use. Allocations are made
// where they are used, so that the report's call sites name the experiment and not a helper.
//
// CUDA 13 kept the names cudaMemPrefetchAsync and cudaMemAdvise and changed their arguments (a device number became a
// cudaMemLocation, and prefetch got flags), so every program that builds with both has these few lines.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

namespace examples {

constexpr int kHost = cudaCpuDeviceId;

// `device` is a device number, or kHost.
void Prefetch(const void* address, size_t bytes, int device, cudaStream_t stream);
void Advise(const void* address, size_t bytes, cudaMemoryAdvise advice, int device);

struct DeviceFree {
  void operator()(void* address) const { cudaFree(address); }
};
struct PinnedFree {
  void operator()(void* address) const { cudaFreeHost(address); }
};

// cudaMalloc and cudaMallocManaged are freed alike, but are different things to the reader.
using DeviceMemory = std::unique_ptr<void, DeviceFree>;
using ManagedMemory = std::unique_ptr<void, DeviceFree>;
using PinnedMemory = std::unique_ptr<void, PinnedFree>;

}  // namespace examples
