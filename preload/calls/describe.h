// What the descriptions of calls.inc are written with: how an argument becomes a field of an event.
//
// A description runs in the host's thread, after the call, and must not fail: what an argument points to is read only
// if the call succeeded, for CUDA has read it then as well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/calls/cuda_api.h"
#include "preload/calls/functions.h"
#include "record/event.h"

namespace uvmtrace {

// Which row is being described, and how it was reached.
struct CallSite {
  FunctionId function;
  Door door;
};

// A discard is no advice of CUDA's: a bit that no advice has.
inline constexpr uint64_t kDiscardAdvice = 0x100;
// The upper half of `flags` of a batch.
constexpr uint64_t BatchCount(size_t count) { return static_cast<uint64_t>(count) << 32; }

template <typename T>
uint64_t Word(T* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

// What an out-parameter says: nothing, if the call failed or the host passes none.
inline uint64_t Read(bool ok, void* const* pointer) { return ok && pointer != nullptr ? Word(*pointer) : 0; }
template <typename Number>
uint64_t Read(bool ok, const Number* pointer) {
  return ok && pointer != nullptr ? *pointer : 0;
}
template <typename T>
uint64_t ReadHandle(bool ok, T* const* handle) {
  return ok && handle != nullptr ? Word(*handle) : 0;
}

// CUmemLocation and cudaMemLocation: the same values in both.
constexpr int32_t LocationDevice(int type, int id) {
  switch (type) {
    case 1:  // device
      return id;
    case 2:  // host
      return kCpu;
    case 3:  // host NUMA node
      return id >= 0 ? kFirstHostNode - id : kCpu;
    case 4:  // host NUMA node of the thread
      return kHostNodeOfThread;
    default:
      return kUnknownDevice;
  }
}
// By value in one register.
constexpr int32_t LocationDevice(uint64_t location) {
  return LocationDevice(static_cast<int32_t>(location), static_cast<int32_t>(location >> 32));
}
static_assert(sizeof(cudaMemLocation) == 8 && offsetof(cudaMemLocation, type) == 0 &&
              offsetof(cudaMemLocation, id) == 4);
static_assert(sizeof(CUmemLocation) == sizeof(cudaMemLocation));

// Some attributes of a pool are an int, the others 64 bits: the values are the same in both libraries.
inline uint64_t PoolAttribute(bool ok, int attribute, const void* value) {
  if (!ok || value == nullptr) return 0;
  if (attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
    return static_cast<uint64_t>(*static_cast<const int*>(value));
  }
  return *static_cast<const uint64_t*>(value);
}

// --- describe.cc ---

// Bytes of an array without its padding. 0: of a format whose size is not known here.
uint64_t ArrayBytes(bool ok, const cudaChannelFormatDesc* format, cudaExtent extent);
uint64_t ArrayBytes(CUarray_format format, unsigned channels, cudaExtent extent);
uint64_t ArrayBytes(const CUDA_ARRAY3D_DESCRIPTOR& description);
// A quarter for each further level, as two dimensions have it.
uint64_t MipmappedBytes(uint64_t first_level_bytes, unsigned levels);

// The device that the calling thread has set in the libcudart that holds `runtime_function`.
int32_t CurrentDevice(const void* runtime_function);

// The size of the allocation that begins at an address, asked of the driver. 0: not known.
uint64_t AllocatedBytes(uint64_t address);

// Whether the libcudart that holds `runtime_function` has the signatures of CUDA 13.
bool TakesLocations(const void* runtime_function);

void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY2D* copy);
void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY3D* copy);
void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY3D_PEER* copy);
void DescribeCopy(ApiCallEvent& event, bool ok, const cudaMemcpy3DParms* copy);
void DescribeCopy(ApiCallEvent& event, bool ok, const cudaMemcpy3DPeerParms* copy);

// Batches.
void DescribeCopies(ApiCallEvent& event, bool ok, const uint64_t* destinations, const uint64_t* sources,
                    const size_t* sizes, size_t count);
inline void DescribeCopies(ApiCallEvent& event, bool ok, const CUdeviceptr* destinations, const CUdeviceptr* sources,
                           const size_t* sizes, size_t count) {
  static_assert(sizeof(CUdeviceptr) == sizeof(uint64_t));
  DescribeCopies(event, ok, reinterpret_cast<const uint64_t*>(destinations), reinterpret_cast<const uint64_t*>(sources),
                 sizes, count);
}
void DescribeCopies(ApiCallEvent& event, bool ok, const cudaMemcpy3DBatchOp* operations, size_t count);
void DescribeCopies(ApiCallEvent& event, bool ok, const CUDA_MEMCPY3D_BATCH_OP* operations, size_t count);

void DescribeDecompression(ApiCallEvent& event, bool ok, const CUmemDecompressParams* parameters, size_t count);

// A node of a graph, added by the call that adds nodes of any kind: described as by the call for its kind. An operation
// belongs to a function, so an allocation, whose address is taken from then on, is recorded beside the call under the
// name of kFunction_GraphAllocation.
void DescribeNode(ApiCallEvent& event, bool ok, const CallSite& call, uint64_t graph, const CUgraphNodeParams* node);
void DescribeNode(ApiCallEvent& event, bool ok, const CallSite& call, uint64_t graph, const cudaGraphNodeParams* node);

struct BatchRanges {
  template <typename Pointer>
  BatchRanges(const Pointer* first, const size_t* their_sizes, size_t how_many)
      : addresses(reinterpret_cast<const uint64_t*>(first)), sizes(their_sizes), count(how_many) {
    static_assert(sizeof(Pointer) == sizeof(uint64_t));
  }
  const uint64_t* addresses;
  const size_t* sizes;
  size_t count;
};
struct BatchLocations {
  BatchLocations() = default;
  template <typename Location>
  BatchLocations(const Location* first, const size_t* their_indices, size_t how_many)
      : locations(reinterpret_cast<const cudaMemLocation*>(first)), indices(their_indices), count(how_many) {
    static_assert(sizeof(Location) == sizeof(cudaMemLocation));
  }
  const cudaMemLocation* locations = nullptr;
  const size_t* indices = nullptr;  // locations[i] is meant for the ranges from indices[i] on
  size_t count = 0;
};
// Records all ranges but the last as events of their own, and makes `event` the last one.
void DescribeRanges(ApiCallEvent& event, bool ok, const CallSite& call, const BatchRanges& ranges,
                    const BatchLocations& locations);

}  // namespace uvmtrace
