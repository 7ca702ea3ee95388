// Allocation, registration, pointer queries, prefetch, advice and virtual memory management.
#include <algorithm>
#include <cstring>

#include "sim/libcuda/api.h"

using uvmsim::Allocation;
using uvmsim::AllocationKind;
using uvmsim::Engine;
using uvmsim::kCpu;
using uvmsim::PhysicalMemory;
using uvmsim::Stream;
using uvmsim::WithEngine;
using uvmsim::WithStream;

namespace {

// What the calls of virtual memory management cost the calling thread, for 2 MiB: kvcached's benchmark on an A100.
constexpr double kCreateNs = 193'000;
constexpr double kMapNs = 1'450;
constexpr double kSetAccessNs = 36'000;
constexpr double kUnmapNs = 25'600;

// Lets the calling thread pay for a call that has succeeded.
CUresult Charge(Engine& engine, CUresult result, double ns) {
  if (result == CUDA_SUCCESS) engine.HostWorks(ns);
  return result;
}

uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

CUresult Allocate(CUdeviceptr* address, size_t bytes) {
  return WithEngine([&](Engine& engine) {
    if (address == nullptr) return CUDA_ERROR_INVALID_VALUE;
    uint64_t allocated = 0;
    const CUresult result = engine.AllocateDevice(uvmsim::CurrentDevice(), bytes, &allocated);
    if (result == CUDA_SUCCESS) *address = allocated;
    return result;
  });
}

// As the real one: the memory may be in use by anything that was submitted.
CUresult Free(CUdeviceptr address) {
  return WithEngine([&](Engine& engine) {
    if (address == 0) return CUDA_SUCCESS;
    engine.SynchronizeAll();
    return engine.Free(address);
  });
}

// In the order of the stream: the room is there again when the work before it is done.
CUresult FreeAsync(CUdeviceptr address, CUstream handle) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    Allocation allocation;
    if (!engine.Find(address, &allocation) || allocation.address != address) return CUDA_ERROR_INVALID_VALUE;
    engine.Submit(stream, [&engine, address] { engine.Free(address); });
    return CUDA_SUCCESS;
  });
}

CUresult AllocatePinned(void** pointer, size_t bytes, unsigned flags) {
  return WithEngine([&](Engine& engine) {
    if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
    uint64_t allocated = 0;
    const CUresult result = engine.AllocatePinned(bytes, flags, &allocated);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(allocated);
    return Charge(engine, result, engine.profile().link.pin_ns_per_byte * static_cast<double>(bytes));
  });
}

CUresult Prefetch(CUdeviceptr address, size_t bytes, int destination, CUstream handle) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    if (destination != kCpu && !uvmsim::IsDevice(destination)) return CUDA_ERROR_INVALID_DEVICE;
    if (bytes == 0 || !engine.IsManaged(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return engine.Prefetch(address, bytes, destination, stream);
  });
}

// The processor of a CUmemLocation; anything that is no GPU is the CPU.
int Processor(CUmemLocation location) { return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? location.id : kCpu; }

CUresult Advise(CUdeviceptr address, size_t bytes, CUmem_advise advice, int processor) {
  return WithEngine([&](Engine& engine) {
    if (bytes == 0 || !engine.IsManaged(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (processor != kCpu && !uvmsim::IsDevice(processor)) {
      if (advice != CU_MEM_ADVISE_SET_READ_MOSTLY && advice != CU_MEM_ADVISE_UNSET_READ_MOSTLY &&
          advice != CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION) {
        return CUDA_ERROR_INVALID_DEVICE;
      }
    }
    switch (advice) {
      case CU_MEM_ADVISE_SET_READ_MOSTLY:
        return engine.Advise(address, bytes, uvmsim::Advice::kSetReadMostly, kCpu);
      case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
        return engine.Advise(address, bytes, uvmsim::Advice::kUnsetReadMostly, kCpu);
      case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
        return engine.Advise(address, bytes, uvmsim::Advice::kSetPreferredLocation, processor);
      case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
        return engine.Advise(address, bytes, uvmsim::Advice::kUnsetPreferredLocation, kCpu);
      case CU_MEM_ADVISE_SET_ACCESSED_BY:
        return engine.Advise(address, bytes, uvmsim::Advice::kSetAccessedBy, processor);
      case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
        return engine.Advise(address, bytes, uvmsim::Advice::kUnsetAccessedBy, processor);
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  });
}

template <typename T>
CUresult Store(void* data, T value) {
  memcpy(data, &value, sizeof value);  // NOLINT(bugprone-sizeof-expression): handles are pointers
  return CUDA_SUCCESS;
}

bool IsHost(const Allocation& allocation) {
  return allocation.kind == AllocationKind::kPinned || allocation.kind == AllocationKind::kRegistered;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  return WithEngine([&](Engine& engine) {
    uint64_t free_now = 0;
    uint64_t total = 0;
    engine.MemoryInfo(uvmsim::CurrentDevice(), &free_now, &total);
    if (free_bytes != nullptr) *free_bytes = free_now;
    if (total_bytes != nullptr) *total_bytes = total;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) { return Allocate(address, bytes); }

CUresult CUDAAPI cuMemAllocPitch_v2(CUdeviceptr* address, size_t* pitch, size_t width, size_t height, unsigned int) {
  if (pitch == nullptr || width == 0 || height == 0) return CUDA_ERROR_INVALID_VALUE;
  *pitch = (width + 511) / 512 * 512;
  return Allocate(address, *pitch * height);
}

CUresult CUDAAPI cuMemFree_v2(CUdeviceptr address) { return Free(address); }

CUresult CUDAAPI cuMemAllocManaged(CUdeviceptr* address, size_t bytes, unsigned int flags) {
  return WithEngine([&](Engine& engine) {
    if (address == nullptr || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    uint64_t allocated = 0;
    const CUresult result = engine.AllocateManaged(bytes, flags, &allocated);
    if (result == CUDA_SUCCESS) *address = allocated;
    return result;
  });
}

CUresult CUDAAPI cuMemHostAlloc(void** pointer, size_t bytes, unsigned int flags) {
  return AllocatePinned(pointer, bytes, flags);
}
CUresult CUDAAPI cuMemAllocHost_v2(void** pointer, size_t bytes) { return AllocatePinned(pointer, bytes, 0); }

CUresult CUDAAPI cuMemFreeHost(void* pointer) {
  return WithEngine([&](Engine& engine) {
    if (pointer == nullptr) return CUDA_SUCCESS;
    engine.SynchronizeAll();
    return engine.FreeHost(Address(pointer), AllocationKind::kPinned);
  });
}

CUresult CUDAAPI cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned int flags) {
  return WithEngine([&](Engine& engine) { return engine.RegisterHost(Address(pointer), bytes, flags); });
}

CUresult CUDAAPI cuMemHostUnregister(void* pointer) {
  return WithEngine([&](Engine& engine) {
    engine.SynchronizeAll();
    return engine.FreeHost(Address(pointer), AllocationKind::kRegistered);
  });
}

CUresult CUDAAPI cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* pointer, unsigned int flags) {
  return WithEngine([&](Engine& engine) {
    Allocation allocation;
    if (address == nullptr || flags != 0 || !engine.Find(Address(pointer), &allocation) || !IsHost(allocation)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *address = Address(pointer);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemHostGetFlags(unsigned int* flags, void* pointer) {
  return WithEngine([&](Engine& engine) {
    Allocation allocation;
    if (flags == nullptr || !engine.Find(Address(pointer), &allocation) || !IsHost(allocation)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *flags = allocation.flags;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  return WithEngine([&](Engine& engine) {
    Allocation allocation;
    if (!engine.Find(address, &allocation)) return CUDA_ERROR_NOT_FOUND;
    if (base != nullptr) *base = allocation.address;
    if (bytes != nullptr) *bytes = allocation.bytes;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
  return WithEngine([&](Engine& engine) {
    Allocation allocation;
    if (data == nullptr || !engine.Find(address, &allocation)) return CUDA_ERROR_INVALID_VALUE;
    const bool host = IsHost(allocation);
    switch (attribute) {
      case CU_POINTER_ATTRIBUTE_CONTEXT: {
        CUcontext context = nullptr;
        cuDevicePrimaryCtxRetain(&context, allocation.device);
        return Store(data, context);
      }
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        return Store<unsigned>(data, host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
      case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        return Store(data, address);
      case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (!host && allocation.kind != AllocationKind::kManaged) return CUDA_ERROR_INVALID_VALUE;
        return Store(data, address);
      case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        return Store<unsigned long long>(data, allocation.id);
      case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        return Store<unsigned>(data, allocation.kind == AllocationKind::kManaged);
      case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        return Store<int>(data, allocation.device);
      case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        return Store<CUdeviceptr>(data, allocation.address);
      case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        return Store<size_t>(data, allocation.bytes);
      case CU_POINTER_ATTRIBUTE_MAPPED:
        return Store<int>(data, 1);
      default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
  });
}

CUresult CUDAAPI cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** data,
                                        CUdeviceptr address) {
  return WithEngine([&](Engine& engine) {
    if (count == 0 || attributes == nullptr || data == nullptr) return CUDA_ERROR_INVALID_VALUE;
    Allocation allocation;
    if (!engine.Find(address, &allocation)) {
      // Unknown memory is no error here: the fields are empty.
      for (unsigned i = 0; i < count; ++i) {
        const CUpointer_attribute a = attributes[i];
        const bool wide = a == CU_POINTER_ATTRIBUTE_CONTEXT || a == CU_POINTER_ATTRIBUTE_DEVICE_POINTER ||
                          a == CU_POINTER_ATTRIBUTE_HOST_POINTER || a == CU_POINTER_ATTRIBUTE_BUFFER_ID ||
                          a == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR || a == CU_POINTER_ATTRIBUTE_RANGE_SIZE;
        memset(data[i], 0, wide ? 8 : 4);
        if (a == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) Store<int>(data[i], -2);
      }
      return CUDA_SUCCESS;
    }
    for (unsigned i = 0; i < count; ++i) {
      if (cuPointerGetAttribute(data[i], attributes[i], address) != CUDA_SUCCESS) memset(data[i], 0, 4);
    }
    return CUDA_SUCCESS;
  });
}

UVMSIM_TWINS(cuMemAllocAsync, _ptsz, (CUdeviceptr * address, size_t bytes, CUstream), Allocate(address, bytes))
UVMSIM_TWINS(cuMemFreeAsync, _ptsz, (CUdeviceptr address, CUstream stream), FreeAsync(address, stream))
UVMSIM_TWINS(cuMemPrefetchAsync, _ptsz, (CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream),
             Prefetch(address, bytes, device, stream))
UVMSIM_TWINS(cuMemPrefetchAsync_v2, _ptsz,
             (CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned int, CUstream stream),
             Prefetch(address, bytes, Processor(location), stream))

CUresult CUDAAPI cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
  return Advise(address, bytes, advice, device);
}
CUresult CUDAAPI cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation location) {
  return Advise(address, bytes, advice, Processor(location));
}

// The policy of the first block stands for the range.
CUresult CUDAAPI cuMemRangeGetAttribute(void* data, size_t data_bytes, CUmem_range_attribute attribute,
                                        CUdeviceptr address, size_t bytes) {
  return WithEngine([&](Engine& engine) {
    if (data == nullptr || data_bytes < 4 || bytes == 0 || !engine.IsManaged(address, bytes)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const uvmsim::Policy policy = engine.PolicyAt(address);
    switch (attribute) {
      case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
        return Store<int>(data, policy.read_mostly);
      case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
        return Store<int>(data, policy.preferred == uvmsim::kNoProcessor ? CU_DEVICE_INVALID : policy.preferred);
      case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
        for (size_t i = 0, device = 0; i < data_bytes / 4; ++i, ++device) {
          while (device < uvmsim::kMaxDevices && !policy.AccessedBy(static_cast<int>(device))) ++device;
          Store<int>(static_cast<int*>(data) + i,
                     device < uvmsim::kMaxDevices ? static_cast<int>(device) : CU_DEVICE_INVALID);
        }
        return CUDA_SUCCESS;
      case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
        return Store<int>(data, CU_DEVICE_INVALID);
      default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
  });
}

CUresult CUDAAPI cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* properties,
                                               CUmemAllocationGranularity_flags) {
  if (granularity == nullptr || properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *granularity = uvmsim::kBlockBytes;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr* address, size_t bytes, size_t alignment, CUdeviceptr,
                                     unsigned long long) {
  return WithEngine([&](Engine& engine) {
    if (address == nullptr) return CUDA_ERROR_INVALID_VALUE;
    uint64_t reserved = 0;
    const CUresult result = engine.ReserveAddresses(bytes, alignment, &reserved);
    if (result == CUDA_SUCCESS) *address = reserved;
    return result;
  });
}

CUresult CUDAAPI cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  return WithEngine([&](Engine& engine) { return engine.FreeAddresses(address, bytes); });
}

CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes, const CUmemAllocationProp* properties,
                             unsigned long long) {
  return WithEngine([&](Engine& engine) {
    if (handle == nullptr || properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
    if (!uvmsim::IsDevice(properties->location.id)) return CUDA_ERROR_INVALID_DEVICE;
    PhysicalMemory* memory = nullptr;
    const CUresult result = engine.CreatePhysical(properties->location.id, bytes, &memory);
    if (result == CUDA_SUCCESS) *handle = Address(memory);
    return Charge(engine, result, kCreateNs);
  });
}

CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle handle) {
  return WithEngine([&](Engine& engine) { return engine.ReleasePhysical(reinterpret_cast<PhysicalMemory*>(handle)); });
}

CUresult CUDAAPI cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                          unsigned long long) {
  return WithEngine([&](Engine& engine) {
    const CUresult result = engine.MapPhysical(address, bytes, offset, reinterpret_cast<PhysicalMemory*>(handle));
    return Charge(engine, result, kMapNs);
  });
}

CUresult CUDAAPI cuMemUnmap(CUdeviceptr address, size_t bytes) {
  return WithEngine([&](Engine& engine) {
    engine.SynchronizeAll();
    return Charge(engine, engine.UnmapPhysical(address, bytes), kUnmapNs);
  });
}

CUresult CUDAAPI cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc* descriptors, size_t count) {
  return WithEngine([&](Engine& engine) {
    if (descriptors == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
    const bool accessible = descriptors[0].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return Charge(engine, engine.SetAccess(address, bytes, accessible), kSetAccessNs);
  });
}

}  // extern "C"
