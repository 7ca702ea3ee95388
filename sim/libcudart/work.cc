// Launches, streams and events of the runtime API.
#include <vector>

#include "sim/libcudart/registration.h"

using uvmsim::Driver;
using uvmsim::Return;
using uvmsim::StreamFunctions;
using uvmsim::WithDriver;

namespace {

// What <<<...>>> pushed, until the stub pops it.
struct CallConfiguration {
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  void* stream;
};
thread_local std::vector<CallConfiguration> t_configurations;

cudaError_t Launch(const Driver& driver, const StreamFunctions& streams, const void* host_function, dim3 grid,
                   dim3 block, void** arguments, size_t shared_bytes, cudaStream_t stream) {
  CUfunction function = nullptr;
  cudaError_t error = uvmsim::PrepareManagedVariables(driver);
  if (error == cudaSuccess) error = uvmsim::FindKernel(driver, host_function, &function);
  if (error != cudaSuccess) return error;
  return static_cast<cudaError_t>(streams.cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                                         static_cast<unsigned>(shared_bytes), stream, arguments,
                                                         nullptr));
}

cudaError_t LaunchEx(const Driver& driver, const StreamFunctions& streams, const cudaLaunchConfig_t* config,
                     const void* host_function, void** arguments) {
  if (config == nullptr) return cudaErrorInvalidValue;
  return Launch(driver, streams, host_function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes,
                config->stream);
}

cudaError_t CreateStream(cudaStream_t* stream, unsigned flags, int priority) {
  return WithDriver([&](const Driver& driver) { return driver.cuStreamCreateWithPriority(stream, flags, priority); });
}

CUresult IsCapturing(cudaStreamCaptureStatus* status) {
  if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *status = cudaStreamCaptureStatusNone;
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                                                            cudaStream_t stream) {
  t_configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}

__attribute__((visibility("default"))) cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block,
                                                                              size_t* shared_bytes, void* stream) {
  if (t_configurations.empty()) return Return(cudaErrorMissingConfiguration);
  const CallConfiguration& configuration = t_configurations.back();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared_bytes = configuration.shared_bytes;
  *static_cast<void**>(stream) = configuration.stream;
  t_configurations.pop_back();
  return cudaSuccess;
}

UVMSIM_RUNTIME_TWINS(__cudaLaunchKernel, _ptsz,
                     (cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                      cudaStream_t stream),
                     Launch(driver, streams, kernel, grid, block, arguments, shared_bytes, stream))
UVMSIM_RUNTIME_TWINS(cudaLaunchKernel, _ptsz,
                     (const void* function, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                      cudaStream_t stream),
                     Launch(driver, streams, function, grid, block, arguments, shared_bytes, stream))
UVMSIM_RUNTIME_TWINS(cudaLaunchKernelExC, _ptsz,
                     (const cudaLaunchConfig_t* config, const void* function, void** arguments),
                     LaunchEx(driver, streams, config, function, arguments))
UVMSIM_RUNTIME_TWINS(cudaLaunchHostFunc, _ptsz, (cudaStream_t stream, cudaHostFn_t function, void* data),
                     streams.cuLaunchHostFunc(stream, function, data))

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return CreateStream(stream, cudaStreamDefault, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return CreateStream(stream, flags, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  return CreateStream(stream, flags, priority);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return WithDriver([&](const Driver& driver) { return driver.cuStreamDestroy(stream); });
}
UVMSIM_RUNTIME_TWINS(cudaStreamQuery, _ptsz, (cudaStream_t stream), streams.cuStreamQuery(stream))
UVMSIM_RUNTIME_TWINS(cudaStreamSynchronize, _ptsz, (cudaStream_t stream), streams.cuStreamSynchronize(stream))
UVMSIM_RUNTIME_TWINS(cudaStreamWaitEvent, _ptsz, (cudaStream_t stream, cudaEvent_t event, unsigned int flags),
                     streams.cuStreamWaitEvent(stream, event, flags))
UVMSIM_RUNTIME_TWINS(cudaStreamGetFlags, _ptsz, (cudaStream_t stream, unsigned int* flags),
                     streams.cuStreamGetFlags(stream, flags))
UVMSIM_RUNTIME_TWINS(cudaStreamGetPriority, _ptsz, (cudaStream_t stream, int* priority),
                     streams.cuStreamGetPriority(stream, priority))
UVMSIM_RUNTIME_TWINS(cudaStreamIsCapturing, _ptsz, (cudaStream_t, cudaStreamCaptureStatus* status), IsCapturing(status))

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  return WithDriver([&](const Driver& driver) { return driver.cuEventCreate(event, flags); });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return WithDriver([&](const Driver& driver) { return driver.cuEventDestroy(event); });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return WithDriver([&](const Driver& driver) { return driver.cuEventQuery(event); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return WithDriver([&](const Driver& driver) { return driver.cuEventSynchronize(event); });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return WithDriver([&](const Driver& driver) { return driver.cuEventElapsedTime(milliseconds, start, end); });
}
UVMSIM_RUNTIME_TWINS(cudaEventRecord, _ptsz, (cudaEvent_t event, cudaStream_t stream),
                     streams.cuEventRecord(event, stream))
UVMSIM_RUNTIME_TWINS(cudaEventRecordWithFlags, _ptsz, (cudaEvent_t event, cudaStream_t stream, unsigned int flags),
                     streams.cuEventRecordWithFlags(event, stream, flags))

}  // extern "C"
