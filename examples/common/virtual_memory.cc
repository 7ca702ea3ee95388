#include "examples/common/virtual_memory.h"

#include <cuda_runtime_api.h>

#include <string>

#include "examples/common/program.h"

namespace examples {
namespace {

void CheckDriver(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) throw CudaError(std::string(what) + ": driver error " + std::to_string(result));
}

template <typename Function>
Function Find(const char* name) {
  constexpr unsigned kSinceCuda = 10020;  // virtual memory management came with CUDA 10.2
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  Check(cudaGetDriverEntryPointByVersion(name, &function, kSinceCuda, cudaEnableDefault, &found), name);
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw CudaError(std::string("the driver has no ") + name);
  }
  return reinterpret_cast<Function>(function);
}

// Asked for once.
struct Functions {
  decltype(&cuMemGetAllocationGranularity) granularity =
      Find<decltype(&cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity");
  decltype(&cuMemAddressReserve) reserve = Find<decltype(&cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) free = Find<decltype(&cuMemAddressFree)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = Find<decltype(&cuMemCreate)>("cuMemCreate");
  decltype(&cuMemRelease) release = Find<decltype(&cuMemRelease)>("cuMemRelease");
  decltype(&cuMemMap) map = Find<decltype(&cuMemMap)>("cuMemMap");
  decltype(&cuMemUnmap) unmap = Find<decltype(&cuMemUnmap)>("cuMemUnmap");
  decltype(&cuMemSetAccess) set_access = Find<decltype(&cuMemSetAccess)>("cuMemSetAccess");
};
const Functions& Driver() {
  static const Functions functions;
  return functions;
}

}  // namespace

VirtualMemory::VirtualMemory() {
  properties_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties_.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties_.location.id = 0;
  size_t granularity = 0;
  CheckDriver(Driver().granularity(&granularity, &properties_, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
              "cuMemGetAllocationGranularity");
  granularity_ = granularity;
}

uint64_t VirtualMemory::ReserveRange(uint64_t bytes) const {
  CUdeviceptr address = 0;
  CheckDriver(Driver().reserve(&address, bytes, granularity_, 0, 0), "cuMemAddressReserve");
  return address;
}
void VirtualMemory::FreeRange(uint64_t address, uint64_t bytes) const { Driver().free(address, bytes); }

VirtualMemory::Handle VirtualMemory::Create(uint64_t bytes) const {
  Handle handle = 0;
  CheckDriver(Driver().create(&handle, bytes, &properties_, 0), "cuMemCreate");
  return handle;
}
void VirtualMemory::Release(Handle handle) const { Driver().release(handle); }

void VirtualMemory::Map(uint64_t address, uint64_t bytes, Handle handle) const {
  CheckDriver(Driver().map(address, bytes, 0, handle, 0), "cuMemMap");
  CUmemAccessDesc access{};
  access.location = properties_.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  CheckDriver(Driver().set_access(address, bytes, &access, 1), "cuMemSetAccess");
}
void VirtualMemory::Unmap(uint64_t address, uint64_t bytes) const {
  CheckDriver(Driver().unmap(address, bytes), "cuMemUnmap");
}

}  // namespace examples
