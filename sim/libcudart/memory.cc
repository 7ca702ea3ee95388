// Allocation, copies, prefetch and advice of the runtime API, each by the driver call that the real runtime makes.
#include <cstring>

#include "sim/libcudart/registration.h"

using uvmsim::Driver;
using uvmsim::Return;
using uvmsim::StreamFunctions;
using uvmsim::WithDriver;

namespace {

CUdeviceptr Address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

CUresult Copy(const StreamFunctions& streams, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      memmove(to, from, bytes);
      return CUDA_SUCCESS;
    case cudaMemcpyHostToDevice:
      return streams.cuMemcpyHtoD(Address(to), from, bytes);
    case cudaMemcpyDeviceToHost:
      return streams.cuMemcpyDtoH(to, Address(from), bytes);
    case cudaMemcpyDeviceToDevice:
      return streams.cuMemcpyDtoD(Address(to), Address(from), bytes);
    case cudaMemcpyDefault:
      return streams.cuMemcpy(Address(to), Address(from), bytes);
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult CopyAsync(const StreamFunctions& streams, void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                   cudaStream_t stream) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return streams.cuMemcpyHtoDAsync(Address(to), from, bytes, stream);
    case cudaMemcpyDeviceToHost:
      return streams.cuMemcpyDtoHAsync(to, Address(from), bytes, stream);
    case cudaMemcpyDeviceToDevice:
      return streams.cuMemcpyDtoDAsync(Address(to), Address(from), bytes, stream);
    case cudaMemcpyHostToHost:
    case cudaMemcpyDefault:
      return streams.cuMemcpyAsync(Address(to), Address(from), bytes, stream);
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUDA_MEMCPY2D Shape2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                      cudaMemcpyKind kind) {
  CUDA_MEMCPY2D copy = {};
  const bool from_host = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyHostToHost;
  const bool to_host = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost;
  copy.srcMemoryType = from_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_UNIFIED;
  copy.srcHost = from;
  copy.srcDevice = Address(from);
  copy.srcPitch = from_pitch;
  copy.dstMemoryType = to_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_UNIFIED;
  copy.dstHost = to;
  copy.dstDevice = Address(to);
  copy.dstPitch = to_pitch;
  copy.WidthInBytes = width;
  copy.Height = height;
  return copy;
}

CUresult Copy2D(const StreamFunctions& streams, const CUDA_MEMCPY2D& copy) {
  return streams.cuMemcpy2DUnaligned(&copy);
}
CUresult Copy2DAsync(const StreamFunctions& streams, const CUDA_MEMCPY2D& copy, cudaStream_t stream) {
  return streams.cuMemcpy2DAsync(&copy, stream);
}

CUmemLocation Location(cudaMemLocation location) {
  CUmemLocation converted = {};
  converted.type = static_cast<CUmemLocationType>(location.type);
  converted.id = location.id;
  return converted;
}

// By reference: the call that gives the result writes the address.
CUresult Allocate(CUresult result, const CUdeviceptr& address, void** pointer) {
  if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
  return result;
}

CUresult AllocateAsync(const StreamFunctions& streams, void** pointer, size_t bytes, cudaStream_t stream) {
  CUdeviceptr address = 0;
  if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return Allocate(streams.cuMemAllocAsync(&address, bytes, stream), address, pointer);
}

CUresult Set2D(const StreamFunctions& streams, void* to, size_t pitch, int value, size_t width, size_t height) {
  for (size_t row = 0; row < height; ++row) {
    const CUresult result = streams.cuMemsetD8(Address(to) + row * pitch, static_cast<unsigned char>(value), width);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

cudaError_t CopySymbol(const Driver& driver, const void* symbol, void* host, size_t bytes, size_t offset,
                       bool to_symbol) {
  void* address = nullptr;
  size_t size = 0;
  const cudaError_t error = uvmsim::FindSymbol(driver, symbol, &address, &size);
  if (error != cudaSuccess) return error;
  if (offset > size || bytes > size - offset) return cudaErrorInvalidValue;
  const CUdeviceptr at = Address(address) + offset;
  return static_cast<cudaError_t>(to_symbol ? driver.legacy.cuMemcpyHtoD(at, host, bytes)
                                            : driver.legacy.cuMemcpyDtoH(host, at, bytes));
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return WithDriver([&](const Driver& driver) {
    if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pointer = nullptr;
    if (bytes == 0) return CUDA_SUCCESS;
    CUdeviceptr address = 0;
    return Allocate(driver.cuMemAlloc(&address, bytes), address, pointer);
  });
}

cudaError_t cudaMallocManaged(void** pointer, size_t bytes, unsigned int flags) {
  return WithDriver([&](const Driver& driver) {
    if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
    CUdeviceptr address = 0;
    return Allocate(driver.cuMemAllocManaged(&address, bytes, flags), address, pointer);
  });
}

cudaError_t cudaMallocPitch(void** pointer, size_t* pitch, size_t width, size_t height) {
  return WithDriver([&](const Driver& driver) {
    if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
    CUdeviceptr address = 0;
    return Allocate(driver.cuMemAllocPitch(&address, pitch, width, height, 4), address, pointer);
  });
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned int flags) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemHostAlloc(pointer, bytes, flags); });
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return cudaHostAlloc(pointer, bytes, 0); }

cudaError_t cudaFree(void* pointer) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemFree(Address(pointer)); });
}
cudaError_t cudaFreeHost(void* pointer) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemFreeHost(pointer); });
}
cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned int flags) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemHostRegister(pointer, bytes, flags); });
}
cudaError_t cudaHostUnregister(void* pointer) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemHostUnregister(pointer); });
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned int flags) {
  return WithDriver([&](const Driver& driver) {
    CUdeviceptr address = 0;
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return Allocate(driver.cuMemHostGetDevicePointer(&address, host, flags), address, device);
  });
}
cudaError_t cudaHostGetFlags(unsigned int* flags, void* pointer) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemHostGetFlags(flags, pointer); });
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return WithDriver([&](const Driver& driver) { return driver.cuMemGetInfo(free_bytes, total_bytes); });
}

cudaError_t cudaMemAdvise(const void* pointer, size_t bytes, cudaMemoryAdvise advice, cudaMemLocation location) {
  return WithDriver([&](const Driver& driver) {
    return driver.cuMemAdvise(Address(pointer), bytes, static_cast<CUmem_advise>(advice), Location(location));
  });
}
cudaError_t cudaMemRangeGetAttribute(void* data, size_t data_bytes, cudaMemRangeAttribute attribute,
                                     const void* pointer, size_t bytes) {
  return WithDriver([&](const Driver& driver) {
    return driver.cuMemRangeGetAttribute(data, data_bytes, static_cast<CUmem_range_attribute>(attribute),
                                         Address(pointer), bytes);
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return WithDriver([&](const Driver& driver) {
    if (attributes == nullptr) return CUDA_ERROR_INVALID_VALUE;
    unsigned type = 0;
    unsigned managed = 0;
    int device = 0;
    CUdeviceptr device_pointer = 0;
    void* host_pointer = nullptr;
    CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
                                   CU_POINTER_ATTRIBUTE_HOST_POINTER};
    void* answers[] = {&type, &managed, &device, &device_pointer, &host_pointer};
    const CUresult result = driver.cuPointerGetAttributes(5, asked, answers, Address(pointer));
    if (result != CUDA_SUCCESS) return result;
    memset(attributes, 0, sizeof *attributes);
    attributes->type = managed != 0                   ? cudaMemoryTypeManaged
                       : type == CU_MEMORYTYPE_HOST   ? cudaMemoryTypeHost
                       : type == CU_MEMORYTYPE_DEVICE ? cudaMemoryTypeDevice
                                                      : cudaMemoryTypeUnregistered;
    attributes->device = attributes->type == cudaMemoryTypeUnregistered ? -2 : device;
    attributes->devicePointer = reinterpret_cast<void*>(device_pointer);
    attributes->hostPointer =
        attributes->type == cudaMemoryTypeUnregistered ? const_cast<void*>(pointer) : host_pointer;
    return CUDA_SUCCESS;
  });
}

cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  return WithDriver([&](const Driver& driver) {
    size_t size = 0;
    return address == nullptr ? cudaErrorInvalidValue : uvmsim::FindSymbol(driver, symbol, address, &size);
  });
}
cudaError_t cudaGetSymbolSize(size_t* size, const void* symbol) {
  return WithDriver([&](const Driver& driver) {
    void* address = nullptr;
    return size == nullptr ? cudaErrorInvalidValue : uvmsim::FindSymbol(driver, symbol, &address, size);
  });
}
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind) {
  return WithDriver(
      [&](const Driver& driver) { return CopySymbol(driver, symbol, const_cast<void*>(from), bytes, offset, true); });
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset, cudaMemcpyKind) {
  return WithDriver([&](const Driver& driver) { return CopySymbol(driver, symbol, to, bytes, offset, false); });
}

UVMSIM_RUNTIME_TWINS(cudaMallocAsync, _ptsz, (void** pointer, size_t bytes, cudaStream_t stream),
                     AllocateAsync(streams, pointer, bytes, stream))
UVMSIM_RUNTIME_TWINS(cudaFreeAsync, _ptsz, (void* pointer, cudaStream_t stream),
                     streams.cuMemFreeAsync(Address(pointer), stream))
UVMSIM_RUNTIME_TWINS(cudaMemPrefetchAsync, _ptsz,
                     (const void* pointer, size_t bytes, cudaMemLocation location, unsigned int flags,
                      cudaStream_t stream),
                     streams.cuMemPrefetchAsync(Address(pointer), bytes, Location(location), flags, stream))
UVMSIM_RUNTIME_TWINS(cudaMemcpy, _ptds, (void* to, const void* from, size_t bytes, cudaMemcpyKind kind),
                     Copy(streams, to, from, bytes, kind))
UVMSIM_RUNTIME_TWINS(cudaMemcpyAsync, _ptsz,
                     (void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream),
                     CopyAsync(streams, to, from, bytes, kind, stream))
UVMSIM_RUNTIME_TWIN(cudaMemcpyPeer, (void* to, int, const void* from, int, size_t bytes), legacy,
                    streams.cuMemcpyPeer(Address(to), nullptr, Address(from), nullptr, bytes))
UVMSIM_RUNTIME_TWIN(cudaMemcpyPeerAsync, (void* to, int, const void* from, int, size_t bytes, cudaStream_t stream),
                    legacy, streams.cuMemcpyPeerAsync(Address(to), nullptr, Address(from), nullptr, bytes, stream))
UVMSIM_RUNTIME_TWINS(cudaMemcpy2D, _ptds,
                     (void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                      cudaMemcpyKind kind),
                     Copy2D(streams, Shape2D(to, to_pitch, from, from_pitch, width, height, kind)))
UVMSIM_RUNTIME_TWINS(cudaMemcpy2DAsync, _ptsz,
                     (void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                      cudaMemcpyKind kind, cudaStream_t stream),
                     Copy2DAsync(streams, Shape2D(to, to_pitch, from, from_pitch, width, height, kind), stream))
UVMSIM_RUNTIME_TWINS(cudaMemset, _ptds, (void* to, int value, size_t bytes),
                     streams.cuMemsetD8(Address(to), static_cast<unsigned char>(value), bytes))
UVMSIM_RUNTIME_TWINS(cudaMemset2D, _ptds, (void* to, size_t pitch, int value, size_t width, size_t height),
                     Set2D(streams, to, pitch, value, width, height))
UVMSIM_RUNTIME_TWINS(cudaMemsetAsync, _ptsz, (void* to, int value, size_t bytes, cudaStream_t stream),
                     streams.cuMemsetD8Async(Address(to), static_cast<unsigned char>(value), bytes, stream))

}  // extern "C"
