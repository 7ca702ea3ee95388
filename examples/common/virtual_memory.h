// The driver's virtual memory management: a range of addresses, and physical memory that is mapped under parts of it.
// The functions are asked for at run time, so that no example links libcuda.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace examples {

class VirtualMemory {
 public:
  using Handle = CUmemGenericAllocationHandle;

  VirtualMemory();  // of device 0; throws where the driver lacks these calls

  uint64_t granularity() const { return granularity_; }  // every size is a multiple of it: 2 MiB

  uint64_t ReserveRange(uint64_t bytes) const;
  void FreeRange(uint64_t address, uint64_t bytes) const;
  Handle Create(uint64_t bytes) const;
  void Release(Handle handle) const;
  void Map(uint64_t address, uint64_t bytes, Handle handle) const;  // and lets the device read and write
  void Unmap(uint64_t address, uint64_t bytes) const;

 private:
  CUmemAllocationProp properties_{};
  uint64_t granularity_ = 0;
};

}  // namespace examples
