// Initialisation, devices, contexts and errors.
#include <cstdio>
#include <cstring>

#include "sim/engine/lacks.h"
#include "sim/libcuda/api.h"

using uvmsim::CheckDevice;
using uvmsim::Engine;
using uvmsim::IsDevice;
using uvmsim::WithEngine;

namespace {

// Each GPU has one context, its primary one; a handle is the address of its element.
int g_contexts[uvmsim::kMaxDevices];
thread_local CUcontext t_current = nullptr;

CUcontext ContextOf(CUdevice device) { return reinterpret_cast<CUcontext>(&g_contexts[device]); }

// -1 where it is no context.
int DeviceOf(CUcontext context) {
  for (int device = 0; IsDevice(device); ++device) {
    if (context == ContextOf(device)) return device;
  }
  return -1;
}

struct ErrorText {
  CUresult error;
  const char* name;
  const char* text;
};
const ErrorText kErrors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_ALREADY_MAPPED, "CUDA_ERROR_ALREADY_MAPPED", "resource already mapped"},
    {CUDA_ERROR_OPERATING_SYSTEM, "CUDA_ERROR_OPERATING_SYSTEM",
     "OS call failed or operation not supported on this OS"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
     "peer access is already enabled"},
    {CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const ErrorText* FindError(CUresult error) {
  for (const ErrorText& entry : kErrors) {
    if (entry.error == error) return &entry;
  }
  return nullptr;
}

int Attribute(const Engine& engine, CUdevice_attribute attribute, CUdevice device) {
  const uvmsim::Profile& profile = engine.profile();
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return 48 * 1024;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:
      return 64 * 1024;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
      return 1'400'000;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      return profile.multiprocessors;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
      return 2048;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
      return 40 << 20;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
      return 5120;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
      return 1'512'000;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      return profile.compute_major;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      return profile.compute_minor;
    case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
      return 1;
    case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
      return profile.system_memory ? 1 : 0;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
      return device + 1;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
      return 2;
    default:
      return 0;
  }
}

}  // namespace

int uvmsim::CurrentDevice() {
  const int device = t_current == nullptr ? 0 : DeviceOf(t_current);
  return device < 0 ? 0 : device;
}

extern "C" {

CUresult CUDAAPI cuInit(unsigned int flags) {
  if (uvmsim::IsLacking(uvmsim::Lack::kGpu)) return CUDA_ERROR_NO_DEVICE;
  return flags != 0 ? CUDA_ERROR_INVALID_VALUE : Engine::Initialize();
}

CUresult CUDAAPI cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = 13000;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const ErrorText* entry = FindError(error);
  *text = entry == nullptr ? nullptr : entry->name;
  return entry == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const ErrorText* entry = FindError(error);
  *text = entry == nullptr ? nullptr : entry->text;
  return entry == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
  return WithEngine([&](Engine&) {
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *device = ordinal;
    return CheckDevice(ordinal);
  });
}

CUresult CUDAAPI cuDeviceGetCount(int* count) {
  return WithEngine([&](Engine& engine) {
    if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *count = engine.gpu_count();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetName(char* name, int length, CUdevice device) {
  return WithEngine([&](Engine& engine) {
    if (name == nullptr || length <= 0) return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, static_cast<size_t>(length), "%s", engine.profile().gpu_name);
    return CheckDevice(device);
  });
}

CUresult CUDAAPI cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return WithEngine([&](Engine& engine) {
    if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (!IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
    const char* text = engine.uuid(device).c_str() + 4;  // behind "GPU-"
    for (char& byte : uuid->bytes) {
      if (*text == '-') ++text;
      unsigned value = 0;
      sscanf(text, "%2x", &value);
      byte = static_cast<char>(value);
      text += 2;
    }
    return CheckDevice(device);
  });
}
CUresult CUDAAPI cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

CUresult CUDAAPI cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return WithEngine([&](Engine& engine) {
    if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *bytes = engine.profile().memory_bytes;
    return CheckDevice(device);
  });
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return WithEngine([&](Engine& engine) {
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *value = Attribute(engine, attribute, device);
    return CheckDevice(device);
  });
}

CUresult CUDAAPI cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  return WithEngine([&](Engine&) {
    if (id == nullptr || length < 13) return CUDA_ERROR_INVALID_VALUE;
    snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", static_cast<unsigned>(device + 1));
    return CheckDevice(device);
  });
}

CUresult CUDAAPI cuDeviceGetByPCIBusId(CUdevice* device, const char* id) {
  return WithEngine([&](Engine&) {
    if (device == nullptr || id == nullptr) return CUDA_ERROR_INVALID_VALUE;
    unsigned bus = 0;
    *device = sscanf(id, "0000:%x:00.0", &bus) == 1 ? static_cast<int>(bus) - 1 : -1;
    return CheckDevice(*device);
  });
}

CUresult CUDAAPI cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return WithEngine([&](Engine&) {
    if (can == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *can = device != peer;
    return IsDevice(device) ? CheckDevice(peer) : CUDA_ERROR_INVALID_DEVICE;
  });
}

CUresult CUDAAPI cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
  return WithEngine([&](Engine& engine) {
    const int device = DeviceOf(peer);
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (device < 0 || device == uvmsim::CurrentDevice()) return CUDA_ERROR_INVALID_DEVICE;
    if (engine.PeerEnabled(uvmsim::CurrentDevice(), device)) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    engine.EnablePeer(uvmsim::CurrentDevice(), device, true);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxDisablePeerAccess(CUcontext peer) {
  return WithEngine([&](Engine& engine) {
    const int device = DeviceOf(peer);
    if (device < 0 || device == uvmsim::CurrentDevice()) return CUDA_ERROR_INVALID_DEVICE;
    if (!engine.PeerEnabled(uvmsim::CurrentDevice(), device)) return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    engine.EnablePeer(uvmsim::CurrentDevice(), device, false);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return WithEngine([&](Engine&) {
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (!IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
    *context = ContextOf(device);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return WithEngine([&](Engine&) { return CheckDevice(device); });
}

CUresult CUDAAPI cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return WithEngine([&](Engine& engine) {
    if (!IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
    return engine.SynchronizeDevice(device);
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int) {
  return WithEngine([&](Engine&) { return CheckDevice(device); });
}

CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
  return WithEngine([&](Engine&) {
    if (flags != nullptr) *flags = 0;
    if (active != nullptr) *active = 1;
    return CheckDevice(device);
  });
}

CUresult CUDAAPI cuCtxCreate_v2(CUcontext* context, unsigned int, CUdevice device) {
  return WithEngine([&](Engine&) {
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (!IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
    *context = t_current = ContextOf(device);
    return CUDA_SUCCESS;
  });
}
CUresult CUDAAPI cuCtxCreate_v4(CUcontext* context, CUctxCreateParams*, unsigned int flags, CUdevice device) {
  return cuCtxCreate_v2(context, flags, device);
}

CUresult CUDAAPI cuCtxDestroy_v2(CUcontext context) {
  return WithEngine([&](Engine&) {
    if (DeviceOf(context) < 0) return CUDA_ERROR_INVALID_CONTEXT;
    t_current = nullptr;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  return WithEngine([&](Engine&) {
    if (context != nullptr && DeviceOf(context) < 0) return CUDA_ERROR_INVALID_CONTEXT;
    t_current = context;
    return CUDA_SUCCESS;
  });
}
CUresult CUDAAPI cuCtxPushCurrent_v2(CUcontext context) { return cuCtxSetCurrent(context); }

CUresult CUDAAPI cuCtxPopCurrent_v2(CUcontext* context) {
  return WithEngine([&](Engine&) {
    if (context != nullptr) *context = t_current;
    t_current = nullptr;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext* context) {
  return WithEngine([&](Engine&) {
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *context = t_current;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice* device) {
  return WithEngine([&](Engine&) {
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (t_current == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    *device = DeviceOf(t_current);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetFlags(unsigned int* flags) {
  return WithEngine([&](Engine&) {
    if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *flags = 0;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetApiVersion(CUcontext, unsigned int* version) {
  return WithEngine([&](Engine&) {
    if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *version = 13000;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSynchronize() {
  return WithEngine([](Engine& engine) {
    return engine.Synchronize(uvmsim::CuptiSynchronizationRecord::kContext, nullptr,
                              [&] { return engine.SynchronizeDevice(uvmsim::CurrentDevice()); });
  });
}

}  // extern "C"
