#include "preload/calls/describe.h"

#include <algorithm>
#include <atomic>

#include "preload/base/config.h"
#include "preload/calls/hook.h"
#include "preload/doors/resolve.h"
#include "preload/session/session.h"
#include "preload/stacks/python_stack.h"
#include "preload/stacks/stack.h"

namespace uvmtrace {
namespace {

uint64_t Elements(cudaExtent extent) {
  return extent.width * std::max<size_t>(extent.height, 1) * std::max<size_t>(extent.depth, 1);
}

uint64_t CopyEnd(CUmemorytype type, const void* host, CUdeviceptr device, CUarray array) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      return Word(host);
    case CU_MEMORYTYPE_ARRAY:
      return Word(array);
    default:
      return device;
  }
}

template <typename Copy>
void DescribeDriverCopy(ApiCallEvent& event, const Copy& copy, uint64_t bytes) {
  event.address = CopyEnd(copy.dstMemoryType, copy.dstHost, copy.dstDevice, copy.dstArray);
  event.other_address = CopyEnd(copy.srcMemoryType, copy.srcHost, copy.srcDevice, copy.srcArray);
  event.bytes = bytes;
}

// Of an array the extent counts elements, whose size is not known here: `bytes` is then a lower bound.
template <typename Copy>
void DescribeRuntimeCopy(ApiCallEvent& event, const Copy& copy) {
  event.address = copy.dstArray != nullptr ? Word(copy.dstArray) : Word(copy.dstPtr.ptr);
  event.other_address = copy.srcArray != nullptr ? Word(copy.srcArray) : Word(copy.srcPtr.ptr);
  event.bytes = copy.extent.width * copy.extent.height * copy.extent.depth;
}

}  // namespace

uint64_t ArrayBytes(bool ok, const cudaChannelFormatDesc* format, cudaExtent extent) {
  if (!ok || format == nullptr) return 0;
  return Elements(extent) * static_cast<uint64_t>(format->x + format->y + format->z + format->w) / 8;
}

uint64_t ArrayBytes(CUarray_format format, unsigned channels, cudaExtent extent) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
      return Elements(extent) * channels;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
      return Elements(extent) * channels * 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
      return Elements(extent) * channels * 4;
    default:
      return 0;
  }
}

uint64_t ArrayBytes(const CUDA_ARRAY3D_DESCRIPTOR& description) {
  return ArrayBytes(description.Format, description.NumChannels,
                    {description.Width, description.Height, description.Depth});
}

uint64_t MipmappedBytes(uint64_t first_level_bytes, unsigned levels) {
  uint64_t bytes = 0;
  for (unsigned level = 0; level < std::min(levels, 32u); ++level) bytes += first_level_bytes >> (2 * level);
  return bytes;
}

int32_t CurrentDevice(const void* runtime_function) {
  const auto get_device = reinterpret_cast<int (*)(int*)>(SymbolBeside(runtime_function, "cudaGetDevice"));
  int device = kUnknownDevice;
  return get_device != nullptr && get_device(&device) == 0 ? device : kUnknownDevice;
}

uint64_t AllocatedBytes(uint64_t address) {
  if (address == 0) return 0;
  const auto get_range = reinterpret_cast<decltype(&cuMemGetAddressRange_v2)>(DriverSymbol("cuMemGetAddressRange_v2"));
  CUdeviceptr base = 0;
  size_t bytes = 0;
  if (get_range != nullptr && get_range(&base, &bytes, address) == CUDA_SUCCESS) return base + bytes - address;
  // That one wants a current context, and refuses some memory that is not the program's own allocation.
  const auto get = reinterpret_cast<decltype(&cuPointerGetAttribute)>(DriverSymbol("cuPointerGetAttribute"));
  if (get == nullptr || get(&base, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address) != CUDA_SUCCESS ||
      get(&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, address) != CUDA_SUCCESS || address - base >= bytes) {
    return 0;
  }
  return base + bytes - address;
}

// Remembered in one word for a function: bit 63 is the answer, the rest the address. Few functions ask, in one or two
// runtimes.
bool TakesLocations(const void* runtime_function) {
  constexpr uint64_t kYes = uint64_t{1} << 63;
  static constinit std::atomic<uint64_t> remembered[16]{};
  std::atomic<uint64_t>& word = remembered[(Word(runtime_function) >> 4) % 16];
  const uint64_t seen = word.load(std::memory_order_relaxed);
  if ((seen & ~kYes) == Word(runtime_function)) return (seen & kYes) != 0;
  const bool answer = RuntimeVersionOf(runtime_function) >= 13000;
  word.store(Word(runtime_function) | (answer ? kYes : 0), std::memory_order_relaxed);
  return answer;
}

void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY2D* copy) {
  if (ok && copy != nullptr) DescribeDriverCopy(event, *copy, copy->WidthInBytes * copy->Height);
}

void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY3D* copy) {
  if (ok && copy != nullptr) DescribeDriverCopy(event, *copy, copy->WidthInBytes * copy->Height * copy->Depth);
}

void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY3D_PEER* copy) {
  if (ok && copy != nullptr) DescribeDriverCopy(event, *copy, copy->WidthInBytes * copy->Height * copy->Depth);
}

void DescribeCopy(ApiCallEvent& event, bool ok, const cudaMemcpy3DParms* copy) {
  if (!ok || copy == nullptr) return;
  DescribeRuntimeCopy(event, *copy);
  event.flags = copy->kind;
}

void DescribeCopy(ApiCallEvent& event, bool ok, const cudaMemcpy3DPeerParms* copy) {
  if (!ok || copy == nullptr) return;
  DescribeRuntimeCopy(event, *copy);
  event.location = copy->dstDevice;
}

void DescribeCopies(ApiCallEvent& event, bool ok, const uint64_t* destinations, const uint64_t* sources,
                    const size_t* sizes, size_t count) {
  event.flags = BatchCount(count);
  if (!ok || count == 0 || destinations == nullptr || sources == nullptr || sizes == nullptr) return;
  event.address = destinations[0];
  event.other_address = sources[0];
  for (size_t i = 0; i < count; ++i) event.bytes += sizes[i];
}

void DescribeCopies(ApiCallEvent& event, bool ok, const CUDA_MEMCPY3D_BATCH_OP* operations, size_t count) {
  event.flags = BatchCount(count);
  if (!ok || count == 0 || operations == nullptr) return;
  const auto end = [](const CUmemcpy3DOperand& operand) {
    return operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY ? Word(operand.op.array.array) : uint64_t{operand.op.ptr.ptr};
  };
  event.address = end(operations[0].dst);
  event.other_address = end(operations[0].src);
  for (size_t i = 0; i < count; ++i) {
    event.bytes += operations[i].extent.width * operations[i].extent.height * operations[i].extent.depth;
  }
}

void DescribeCopies(ApiCallEvent& event, bool ok, const cudaMemcpy3DBatchOp* operations, size_t count) {
  static_assert(sizeof(cudaMemcpy3DBatchOp) == sizeof(CUDA_MEMCPY3D_BATCH_OP));
  static_assert(offsetof(cudaMemcpy3DBatchOp, extent) == offsetof(CUDA_MEMCPY3D_BATCH_OP, extent));
  static_assert(offsetof(cudaMemcpy3DBatchOp, dst) == offsetof(CUDA_MEMCPY3D_BATCH_OP, dst));
  DescribeCopies(event, ok, reinterpret_cast<const CUDA_MEMCPY3D_BATCH_OP*>(operations), count);
}

void DescribeDecompression(ApiCallEvent& event, bool ok, const CUmemDecompressParams* parameters, size_t count) {
  event.flags = BatchCount(count);
  if (!ok || count == 0 || parameters == nullptr) return;
  event.address = Word(parameters[0].dst);
  event.other_address = Word(parameters[0].src);
  for (size_t i = 0; i < count; ++i) event.bytes += parameters[i].dstNumBytes;
}

namespace {

uint64_t AddressOf(CUdeviceptr address) { return address; }
uint64_t AddressOf(const void* address) { return Word(address); }

void RecordGraphAllocation(const ApiCallEvent& added, const CallSite& call, uint64_t address, uint64_t bytes) {
  ApiCallEvent event;
  event.start_ns = added.start_ns;
  event.address = address;
  event.other_address = added.other_address;
  event.bytes = bytes;
  event.memory_kind = MemoryKind::kPool;
  event.driver_function = call.function;
  event.door = call.door;
  RecordCall(&event, kFunction_GraphAllocation, true);
}

// The two libraries' structs differ in the types of their members alone.
template <typename Node>
void DescribeAnyNode(ApiCallEvent& event, bool ok, const CallSite& call, uint64_t graph, const Node* node) {
  if (!ok || node == nullptr) return;
  switch (static_cast<int>(node->type)) {
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      DescribeCopy(event, ok, &node->memcpy.copyParams);
      break;
    case CU_GRAPH_NODE_TYPE_MEMSET:
      event.address = AddressOf(node->memset.dst);
      event.bytes = node->memset.width * node->memset.elementSize * node->memset.height;
      break;
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      event.other_address = graph;
      RecordGraphAllocation(event, call, AddressOf(node->alloc.dptr), node->alloc.bytesize);
      break;
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      event.address = AddressOf(node->free.dptr);
      event.other_address = graph;
      break;
    default:
      event.other_address = graph;
      break;
  }
}

static_assert(int{cudaGraphNodeTypeMemcpy} == int{CU_GRAPH_NODE_TYPE_MEMCPY} &&
              int{cudaGraphNodeTypeMemset} == int{CU_GRAPH_NODE_TYPE_MEMSET} &&
              int{cudaGraphNodeTypeMemAlloc} == int{CU_GRAPH_NODE_TYPE_MEM_ALLOC} &&
              int{cudaGraphNodeTypeMemFree} == int{CU_GRAPH_NODE_TYPE_MEM_FREE});

}  // namespace

void DescribeNode(ApiCallEvent& event, bool ok, const CallSite& call, uint64_t graph, const CUgraphNodeParams* node) {
  DescribeAnyNode(event, ok, call, graph, node);
}

void DescribeNode(ApiCallEvent& event, bool ok, const CallSite& call, uint64_t graph, const cudaGraphNodeParams* node) {
  DescribeAnyNode(event, ok, call, graph, node);
}

void DescribeRanges(ApiCallEvent& event, bool ok, const CallSite& call, const BatchRanges& ranges,
                    const BatchLocations& locations) {
  event.flags |= BatchCount(ranges.count);
  event.location = kUnknownDevice;
  if (!ok || ranges.count == 0 || ranges.addresses == nullptr || ranges.sizes == nullptr) return;
  const uint64_t duration_ns = event.duration_ns;
  const int wanted = session_stack_frames.load(std::memory_order_relaxed);
  uint64_t frames[2 * kMaximumStackFrames];
  size_t frame_count = 0;
  if (wanted > 0 && ranges.count > 1) {
    const auto most = static_cast<size_t>(std::min(wanted, kMaximumStackFrames));
    frame_count = CaptureStack({frames, most});
    const size_t python_count = CapturePythonStack({frames + frame_count, most});
    event.python_frames = static_cast<uint8_t>(python_count);
    frame_count += python_count;
  }
  size_t next_location = 0;
  for (size_t i = 0; i < ranges.count; ++i) {
    while (locations.locations != nullptr && locations.indices != nullptr && next_location < locations.count &&
           locations.indices[next_location] <= i) {
      const cudaMemLocation& location = locations.locations[next_location++];
      event.location = LocationDevice(location.type, location.id);
    }
    event.address = ranges.addresses[i];
    event.bytes = ranges.sizes[i];
    if (i + 1 == ranges.count) break;
    event.duration_ns = 0;
    RecordPart(&event, call.function, call.door, {frames, frame_count});
  }
  event.duration_ns = duration_ns;
}

}  // namespace uvmtrace
