// How the simulated runtime reaches the driver: as the real one does, by dlopen("libcuda.so.1"), one dlsym of
// cuGetProcAddress_v2, and that for everything else. So whoever stands between them is stood between them here as well.
#pragma once

#include <cuda.h>

#include "sim/engine/tables.h"

// Every file of the runtime includes cuda_runtime_api.h through here: its functions are to be exported.
#pragma GCC visibility push(default)
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#pragma GCC visibility pop

namespace uvmsim {

// clang-format off
#define UVMSIM_DRIVER_FUNCTIONS(X)                                                                                  \
  X(cuInit) X(cuDriverGetVersion) X(cuGetErrorName) X(cuGetErrorString) X(cuGetExportTable)                         \
  X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetName) X(cuDeviceGetUuid) X(cuDeviceTotalMem)                      \
  X(cuDeviceGetAttribute) X(cuDeviceGetPCIBusId) X(cuDeviceGetByPCIBusId) X(cuDeviceCanAccessPeer)                  \
  X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxReset) X(cuCtxSetCurrent) X(cuCtxSynchronize)                     \
  X(cuCtxGetDevice) X(cuCtxEnablePeerAccess) X(cuCtxDisablePeerAccess)                                              \
  X(cuCtxGetStreamPriorityRange)                                                                                    \
  X(cuMemGetInfo) X(cuMemAlloc) X(cuMemAllocPitch) X(cuMemFree) X(cuMemAllocManaged) X(cuMemHostAlloc)              \
  X(cuMemFreeHost) X(cuMemHostRegister) X(cuMemHostUnregister) X(cuMemHostGetDevicePointer) X(cuMemHostGetFlags)    \
  X(cuPointerGetAttributes) X(cuMemAdvise) X(cuMemRangeGetAttribute)                                                \
  X(cuStreamCreateWithPriority) X(cuStreamDestroy) X(cuEventCreate) X(cuEventDestroy) X(cuEventQuery)               \
  X(cuEventSynchronize) X(cuEventElapsedTime)
// Asked for twice: for the legacy and for the per-thread default stream.
#define UVMSIM_DRIVER_STREAM_FUNCTIONS(X)                                                                           \
  X(cuMemAllocAsync) X(cuMemFreeAsync) X(cuMemPrefetchAsync) X(cuMemcpy) X(cuMemcpyAsync) X(cuMemcpyPeer)           \
  X(cuMemcpyPeerAsync) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyDtoD) X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync)    \
  X(cuMemcpyDtoDAsync) X(cuMemcpy2DUnaligned) X(cuMemcpy2DAsync) X(cuMemsetD8) X(cuMemsetD8Async) X(cuStreamQuery)  \
  X(cuStreamSynchronize) X(cuStreamWaitEvent) X(cuStreamGetFlags) X(cuStreamGetPriority) X(cuEventRecord)           \
  X(cuEventRecordWithFlags) X(cuLaunchHostFunc) X(cuLaunchKernel)
// clang-format on

struct StreamFunctions {
#define UVMSIM_MEMBER(name) decltype(&::name) name = nullptr;  // NOLINT(bugprone-macro-parentheses)
  UVMSIM_DRIVER_STREAM_FUNCTIONS(UVMSIM_MEMBER)
};

struct Driver {
  UVMSIM_DRIVER_FUNCTIONS(UVMSIM_MEMBER)
#undef UVMSIM_MEMBER
  StreamFunctions legacy;
  StreamFunctions per_thread;
  decltype(&::cuGetProcAddress) get_proc_address = nullptr;
  const RuntimeTable* simulator = nullptr;
};

// Remembers an error for cudaGetLastError, and returns it.
cudaError_t Return(cudaError_t error);
// Driver and runtime use the same numbers.
inline cudaError_t Return(CUresult result) { return Return(static_cast<cudaError_t>(result)); }

// The driver, loaded at the first call; null, with an error remembered, if that is impossible.
const Driver* LoadDriver();
// The driver with cuInit done and the device's context current on this thread. Null as above.
const Driver* Ready();
// In a forked child, by the thread that forked: locks that other threads held are free again.
void ResetRegistryLockAfterFork();
// What LoadDriver or Ready failed with.
cudaError_t LoadError();

// Calls `call(driver)` and remembers its error.
template <typename Call>
cudaError_t WithDriver(Call call) {
  const Driver* driver = Ready();
  return driver == nullptr ? Return(LoadError()) : Return(call(*driver));
}

}  // namespace uvmsim

// A runtime function and its twin for the per-thread default stream; `expression` uses `driver` and `streams`.
#define UVMSIM_RUNTIME_TWIN(name, parameters, which, expression)                   \
  extern "C" __attribute__((visibility("default"))) cudaError_t name parameters {  \
    return uvmsim::WithDriver([&]([[maybe_unused]] const uvmsim::Driver& driver) { \
      [[maybe_unused]] const uvmsim::StreamFunctions& streams = driver.which;      \
      return expression;                                                           \
    });                                                                            \
  }
#define UVMSIM_RUNTIME_TWINS(name, suffix, parameters, expression) \
  UVMSIM_RUNTIME_TWIN(name, parameters, legacy, expression)        \
  UVMSIM_RUNTIME_TWIN(name##suffix, parameters, per_thread, expression)
