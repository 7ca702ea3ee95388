// Devices, errors and everything that asks without doing.
#include <algorithm>
#include <cstring>

#include "sim/libcudart/registration.h"

using uvmsim::Driver;
using uvmsim::Return;
using uvmsim::WithDriver;

namespace {

int Attribute(const Driver& driver, CUdevice_attribute attribute, int device) {
  int value = 0;
  driver.cuDeviceGetAttribute(&value, attribute, device);
  return value;
}

// The device's context, made current on this thread.
CUresult SetDevice(const Driver& driver, int device) {
  CUcontext context = nullptr;
  const CUresult result = driver.cuDevicePrimaryCtxRetain(&context, device);
  return result == CUDA_SUCCESS ? driver.cuCtxSetCurrent(context) : result;
}

int CurrentDevice(const Driver& driver) {
  int device = 0;
  driver.cuCtxGetDevice(&device);
  return device;
}

cudaError_t EntryPoint(const char* symbol, void** function, unsigned version, unsigned long long flags,
                       cudaDriverEntryPointQueryResult* status) {
  const Driver* driver = uvmsim::LoadDriver();
  if (driver == nullptr) return Return(uvmsim::LoadError());
  if (symbol == nullptr || function == nullptr) return Return(cudaErrorInvalidValue);
  CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  driver->get_proc_address(symbol, function, static_cast<int>(version), flags, &found);
  if (status != nullptr) *status = static_cast<cudaDriverEntryPointQueryResult>(found);
  return cudaSuccess;
}

}  // namespace

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  const Driver* driver = uvmsim::LoadDriver();
  const char* text = nullptr;
  if (driver != nullptr) driver->cuGetErrorName(static_cast<CUresult>(error), &text);
  switch (error) {  // the runtime has its own names for the driver's numbers
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInitializationError:
      return "cudaErrorInitializationError";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidDeviceFunction:
      return "cudaErrorInvalidDeviceFunction";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorInvalidSymbol:
      return "cudaErrorInvalidSymbol";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    default:
      return text != nullptr ? text : "unrecognized error code";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  const Driver* driver = uvmsim::LoadDriver();
  const char* text = nullptr;
  if (driver != nullptr) driver->cuGetErrorString(static_cast<CUresult>(error), &text);
  if (text != nullptr) return text;
  switch (error) {
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidDeviceFunction:
      return "invalid device function";
    case cudaErrorInvalidSymbol:
      return "invalid device symbol";
    default:
      return "unrecognized error code";
  }
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  if (version == nullptr) return Return(cudaErrorInvalidValue);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  const Driver* driver = uvmsim::LoadDriver();
  if (version == nullptr) return Return(cudaErrorInvalidValue);
  *version = 0;  // no driver: that is no error here
  return driver == nullptr ? cudaSuccess : Return(driver->cuDriverGetVersion(version));
}

cudaError_t cudaGetDeviceCount(int* count) {
  return WithDriver([&](const Driver& driver) { return driver.cuDeviceGetCount(count); });
}
cudaError_t cudaGetDevice(int* device) {
  return WithDriver([&](const Driver& driver) {
    return device == nullptr ? CUDA_ERROR_INVALID_VALUE : driver.cuCtxGetDevice(device);
  });
}
cudaError_t cudaSetDevice(int device) {
  return WithDriver([&](const Driver& driver) { return SetDevice(driver, device); });
}
cudaError_t cudaInitDevice(int device, unsigned int, unsigned int) { return cudaSetDevice(device); }
cudaError_t cudaSetDeviceFlags(unsigned int) { return cudaSuccess; }
cudaError_t cudaGetDeviceFlags(unsigned int* flags) {
  if (flags == nullptr) return Return(cudaErrorInvalidValue);
  *flags = cudaDeviceMapHost;
  return cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return WithDriver([&](const Driver& driver) {
    return driver.cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(attribute), device);
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return WithDriver([&](const Driver& driver) {
    if (properties == nullptr) return cudaErrorInvalidValue;
    memset(properties, 0, sizeof *properties);
    const CUresult known = driver.cuDeviceGetName(properties->name, sizeof properties->name, device);
    if (known != CUDA_SUCCESS) return static_cast<cudaError_t>(known);
    driver.cuDeviceGetUuid(&properties->uuid, device);
    driver.cuDeviceTotalMem(&properties->totalGlobalMem, device);
    const auto attribute = [&](CUdevice_attribute which) { return Attribute(driver, which, device); };
    properties->major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    properties->minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    properties->multiProcessorCount = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    properties->maxThreadsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    properties->maxThreadsPerMultiProcessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
    properties->maxThreadsDim[0] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X);
    properties->maxThreadsDim[1] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y);
    properties->maxThreadsDim[2] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z);
    properties->maxGridSize[0] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X);
    properties->maxGridSize[1] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y);
    properties->maxGridSize[2] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z);
    properties->sharedMemPerBlock = static_cast<size_t>(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK));
    properties->totalConstMem = static_cast<size_t>(attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY));
    properties->regsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    properties->warpSize = attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    properties->l2CacheSize = attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    properties->memoryBusWidth = attribute(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
    properties->asyncEngineCount = attribute(CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT);
    properties->pciBusID = attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
    properties->unifiedAddressing = 1;
    properties->managedMemory = 1;
    properties->concurrentManagedAccess = 1;
    properties->concurrentKernels = 1;
    properties->canMapHostMemory = 1;
    properties->canUseHostPointerForRegisteredMem = 1;
    properties->memoryPoolsSupported = 1;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  return WithDriver([&](const Driver& driver) { return driver.cuDeviceGetPCIBusId(id, length, device); });
}
cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* id) {
  return WithDriver([&](const Driver& driver) { return driver.cuDeviceGetByPCIBusId(device, id); });
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return WithDriver([&](const Driver& driver) { return driver.cuDeviceCanAccessPeer(can, device, peer); });
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int flags) {
  return WithDriver([&](const Driver& driver) {
    CUcontext context = nullptr;
    const CUresult result = driver.cuDevicePrimaryCtxRetain(&context, peer);
    return result == CUDA_SUCCESS ? driver.cuCtxEnablePeerAccess(context, flags) : result;
  });
}
cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  return WithDriver([&](const Driver& driver) {
    CUcontext context = nullptr;
    const CUresult result = driver.cuDevicePrimaryCtxRetain(&context, peer);
    return result == CUDA_SUCCESS ? driver.cuCtxDisablePeerAccess(context) : result;
  });
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return WithDriver([&](const Driver& driver) { return driver.cuCtxGetStreamPriorityRange(least, greatest); });
}
cudaError_t cudaDeviceSynchronize() {
  return WithDriver([](const Driver& driver) { return driver.cuCtxSynchronize(); });
}
cudaError_t cudaDeviceReset() {
  return WithDriver([](const Driver& driver) { return driver.cuDevicePrimaryCtxReset(CurrentDevice(driver)); });
}

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* status) {
  return EntryPoint(symbol, function, CUDART_VERSION, flags, status);
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned int version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult* status) {
  return EntryPoint(symbol, function, version, flags, status);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return WithDriver([&](const Driver& driver) {
    CUfunction ignored = nullptr;
    if (attributes == nullptr) return cudaErrorInvalidValue;
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 32;
    attributes->maxDynamicSharedSizeBytes = 48 * 1024;
    attributes->ptxVersion = attributes->binaryVersion =
        10 * Attribute(driver, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CurrentDevice(driver));
    return uvmsim::FindKernel(driver, function, &ignored);
  });
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return cudaSuccess; }

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int threads, size_t,
                                                                   unsigned int) {
  if (blocks == nullptr || threads <= 0) return Return(cudaErrorInvalidValue);
  *blocks = threads > 1024 ? 0 : std::min(32, 2048 / threads);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

}  // extern "C"
