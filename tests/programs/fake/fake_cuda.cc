// A stand-in libcuda.so.1 for tests of the doors: every driver call of the list, on host memory, and both ABIs of
// cuGetProcAddress, which answer as the real ones do (measured with CUDA 13.0): version and per-thread-stream flag
// decide which export a name means, a name that is not there gives a null pointer, the first request has an empty name.
//
// FAKE_CUDA_FAIL=cuInit (or another call, or all) makes that call fail with CUDA_ERROR_NO_DEVICE. With
// FAKE_CUDA_PAGEABLE the device reaches all memory. Every global variable of a module is one and the same managed
// variable.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <string>

#include "preload/calls/cuda_api.h"

#define FAKE_EXPORT __attribute__((visibility("default")))

// Who wants to know of every call: fake_cupti.cc.
extern "C" FAKE_EXPORT void (*fake_api_called)(bool runtime, const char* symbol);
void (*fake_api_called)(bool runtime, const char* symbol) = nullptr;

namespace {

#define UVMTRACE_CALL(layer, symbol, ...) \
  struct Tag_##symbol {};
#include "preload/calls/calls.inc"

bool Fails(const char* symbol) {
  static const char* const failing = getenv("FAKE_CUDA_FAIL");
  return failing != nullptr && (strcmp(failing, symbol) == 0 || strcmp(failing, "all") == 0);
}

template <typename Pointer>
CUresult Allocate(Pointer* pointer, size_t size) {
  if (pointer == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
  *pointer = (Pointer)aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  return CUDA_SUCCESS;
}

CUresult Free(CUdeviceptr pointer) {
  if (pointer == 0xbad) return CUDA_ERROR_INVALID_VALUE;
  free((void*)pointer);
  return CUDA_SUCCESS;
}

bool initialised = false;

// What a call does: by its arguments, or by its tag where those do not tell. Anything else succeeds and does nothing.
template <typename Tag, typename... Rest>
CUresult Behave(Tag, Rest...) {
  return CUDA_SUCCESS;
}
template <typename Tag, typename... Rest>
CUresult Behave(Tag, CUdeviceptr* pointer, size_t size, Rest...) {
  return Allocate(pointer, size);
}
template <typename Tag, typename... Rest>
CUresult Behave(Tag, void** pointer, size_t size, Rest...) {
  return Allocate(pointer, size);
}
CUresult Behave(Tag_cuMemAllocPitch_v2, CUdeviceptr* pointer, size_t* pitch, size_t width, size_t height, unsigned) {
  if (pitch == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pitch = (width + 511) / 512 * 512;
  return Allocate(pointer, *pitch * height);
}
CUresult Behave(Tag_cuMemCreate, CUmemGenericAllocationHandle* handle, size_t, const CUmemAllocationProp*,
                unsigned long long) {
  if (handle != nullptr) *handle = 0x4242;
  return CUDA_SUCCESS;
}
alignas(4096) char managed_variable[8192];

CUresult Behave(Tag_cuModuleGetGlobal_v2, CUdeviceptr* pointer, size_t* size, CUmodule, const char*) {
  if (pointer != nullptr) *pointer = (CUdeviceptr)managed_variable;
  if (size != nullptr) *size = sizeof(managed_variable);
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuMemPoolCreate, CUmemoryPool* pool, const CUmemPoolProps*) {
  if (pool != nullptr) *pool = (CUmemoryPool)0x900;
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuIpcOpenMemHandle_v2, CUdeviceptr* pointer, CUipcMemHandle, unsigned) {
  if (pointer != nullptr) *pointer = (CUdeviceptr)managed_variable;
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuGraphAddMemAllocNode, CUgraphNode*, CUgraph, const CUgraphNode*, size_t,
                CUDA_MEM_ALLOC_NODE_PARAMS* parameters) {
  if (parameters != nullptr) parameters->dptr = 0x700000;
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuGraphAddNode_v2, CUgraphNode*, CUgraph, const CUgraphNode*, const CUgraphEdgeData*, size_t,
                CUgraphNodeParams* parameters) {
  if (parameters != nullptr && parameters->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) parameters->alloc.dptr = 0x700000;
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuMulticastCreate, CUmemGenericAllocationHandle* multicast, const CUmulticastObjectProp*) {
  if (multicast != nullptr) *multicast = 0x4343;
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuInit, unsigned) {
  initialised = true;
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuMemFree_v2, CUdeviceptr pointer) { return Free(pointer); }
CUresult Behave(Tag_cuMemFreeHost, void* pointer) { return Free((CUdeviceptr)pointer); }
CUresult Behave(Tag_cuMemFreeAsync, CUdeviceptr pointer, CUstream) { return Free(pointer); }
CUresult Behave(Tag_cuMemcpyHtoD_v2, CUdeviceptr destination, const void* source, size_t size) {
  memcpy((void*)destination, source, size);
  return CUDA_SUCCESS;
}
CUresult Behave(Tag_cuMemcpyDtoH_v2, void* destination, CUdeviceptr source, size_t size) {
  memcpy(destination, (const void*)source, size);
  return CUDA_SUCCESS;
}

}  // namespace

#define FAKE_Runtime(...)
#define FAKE_Driver(symbol, parameters, ...)                             \
  extern "C" FAKE_EXPORT CUresult Fake_##symbol parameters asm(#symbol); \
  CUresult Fake_##symbol parameters {                                    \
    if (fake_api_called != nullptr) fake_api_called(false, #symbol);     \
    if (Fails(#symbol)) return CUDA_ERROR_NO_DEVICE;                     \
    return Behave(Tag_##symbol{} __VA_OPT__(, ) __VA_ARGS__);            \
  }
#define FAKE_UNPACK(...) __VA_ARGS__
#define FAKE_CALL(layer, symbol, parameters, ...) FAKE_##layer(symbol, parameters __VA_OPT__(, ) __VA_ARGS__)
#define UVMTRACE_CALL(layer, symbol, operation, parameters, arguments, ...) \
  FAKE_CALL(layer, symbol, parameters, FAKE_UNPACK arguments)
#include "preload/calls/calls.inc"

// The driver of WSL looks its own functions up, in its own handle.
extern "C" FAKE_EXPORT int FakeLooksItselfUp() {
  void* const self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  using Set = CUresult (*)(CUdeviceptr, unsigned char, size_t);
  const auto set = reinterpret_cast<Set>(dlsym(self, "cuMemsetD8_v2"));
  return set == &Fake_cuMemsetD8_v2 ? set(0x1000, 0, 1) : -1;
}

extern "C" {

FAKE_EXPORT CUresult FakeDriverGetVersion(int* version) asm("cuDriverGetVersion");
CUresult FakeDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeDeviceGetCount(int* count) asm("cuDeviceGetCount");
CUresult FakeDeviceGetCount(int* count) {
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *count = 1;
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeDeviceGet(CUdevice* device, int ordinal) asm("cuDeviceGet");
CUresult FakeDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeDeviceGetName(char* name, int size, CUdevice) asm("cuDeviceGetName");
CUresult FakeDeviceGetName(char* name, int size, CUdevice) {
  strncpy(name, "Fake GPU", static_cast<size_t>(size));
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeDeviceGetAttribute(int* value, CUdevice_attribute attribute,
                                            CUdevice) asm("cuDeviceGetAttribute");
CUresult FakeDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS && getenv("FAKE_CUDA_PAGEABLE") != nullptr;
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakePointerGetAttribute(void* data, CUpointer_attribute attribute,
                                             CUdeviceptr pointer) asm("cuPointerGetAttribute");
CUresult FakePointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  if (attribute != CU_POINTER_ATTRIBUTE_IS_MANAGED) return CUDA_ERROR_INVALID_VALUE;
  const bool managed = pointer - (CUdeviceptr)managed_variable < sizeof(managed_variable);
  *static_cast<unsigned*>(data) = managed;
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeGetAddressRange(CUdeviceptr* base, size_t* size,
                                         CUdeviceptr pointer) asm("cuMemGetAddressRange_v2");
CUresult FakeGetAddressRange(CUdeviceptr* base, size_t* size, CUdeviceptr pointer) {
  *base = pointer;
  *size = 4242;
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeGetErrorName(CUresult error, const char** name) asm("cuGetErrorName");
CUresult FakeGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_OTHER";
  return CUDA_SUCCESS;
}

FAKE_EXPORT CUresult FakeGetProcAddress(const char* name, void** pointer, int version,
                                        cuuint64_t flags) asm("cuGetProcAddress");
FAKE_EXPORT CUresult FakeGetProcAddress2(const char* name, void** pointer, int version, cuuint64_t flags,
                                         CUdriverProcAddressQueryResult* status) asm("cuGetProcAddress_v2");

}  // extern "C"

namespace {

struct Export {
  std::string name;
  void* pointer;
};

const Export* FindExport(const std::string& name) {
#define FAKE_ROW_Runtime(symbol)
#define FAKE_ROW_Driver(symbol) {#symbol, reinterpret_cast<void*>(&Fake_##symbol)},
#define UVMTRACE_CALL(layer, symbol, ...) FAKE_ROW_##layer(symbol)
  static const Export exports[] = {
#include "preload/calls/calls.inc"
      {"cuDriverGetVersion", reinterpret_cast<void*>(&FakeDriverGetVersion)},
      {"cuDeviceGetCount", reinterpret_cast<void*>(&FakeDeviceGetCount)},
  };
  for (const Export& row : exports) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

void* Answer(const std::string& name, int version, cuuint64_t flags) {
  if (name == "cuGetProcAddress") {
    return version >= 12000 ? reinterpret_cast<void*>(&FakeGetProcAddress2)
                            : reinterpret_cast<void*>(&FakeGetProcAddress);
  }
  std::string symbol = name;
  const bool newer = FindExport(name) == nullptr || version >= 12020;
  if (newer && FindExport(name + "_v2") != nullptr) symbol += "_v2";
  if (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) {
    for (const char* suffix : {"_ptds", "_ptsz"}) {
      if (const Export* const twin = FindExport(symbol + suffix)) return twin->pointer;
    }
  }
  const Export* const found = FindExport(symbol);
  return found != nullptr ? found->pointer : nullptr;
}

}  // namespace

CUresult FakeGetProcAddress2(const char* name, void** pointer, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
  if (name == nullptr || pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
  void* const answer = Answer(name, version, flags);
  if (status != nullptr) {
    *status = answer != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  if (answer == nullptr) return CUDA_ERROR_NOT_FOUND;  // the out-parameter keeps what the caller had there
  *pointer = answer;
  return CUDA_SUCCESS;
}

CUresult FakeGetProcAddress(const char* name, void** pointer, int version, cuuint64_t flags) {
  return FakeGetProcAddress2(name, pointer, version, flags, nullptr);
}
