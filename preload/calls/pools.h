// Pools of managed memory (CUDA 13): what is allocated from one of them faults and migrates like cudaMallocManaged's.
#pragma once

#include <cstdint>

#include "record/event.h"

namespace uvmtrace {

// A pool was created, asked for or made current; `allocation_type` is a CUmemAllocationType. Returns what kind of
// memory it gives. The first pool of managed memory starts the sources.
MemoryKind PoolCreated(uint64_t pool, int allocation_type);
void PoolDestroyed(uint64_t pool);

// The pool that cudaMallocAsync takes a device's memory from.
void DevicePoolSet(int device, uint64_t pool);

// Memory came from a pool, or from the current one. An address of 0 is a call that failed.
MemoryKind PoolAllocated(uint64_t pool, uint64_t address, uint64_t bytes);
MemoryKind CurrentPoolAllocated(uint64_t address, uint64_t bytes);

}  // namespace uvmtrace
