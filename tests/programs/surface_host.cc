// The memory that is not cudaMalloc's: pools of managed memory, __managed__ variables, imported memory, batches,
// graphs, physical memory mapped twice. By the driver's functions, looked up, on the stand-in libcuda.
#include <dlfcn.h>

#include "preload/calls/cuda_api.h"
#include "tests/programs/host.h"

namespace {

void* driver = nullptr;

#define CUDA(symbol, ...) Done(#symbol, reinterpret_cast<decltype(&::symbol)>(dlsym(driver, #symbol))(__VA_ARGS__))

void Done(const char* name, CUresult result) { printf("%s: %d\n", name, static_cast<int>(result)); }

constexpr CUdeviceptr kAddress = 0x40000000;

int ManagedPool() {
  CUmemoryPool pool = nullptr;
  CUmemPoolProps properties{};
  properties.allocType = CU_MEM_ALLOCATION_TYPE_MANAGED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 1};
  CUDA(cuMemPoolCreate, &pool, &properties);
  cuuint64_t threshold = 1 << 20;
  CUDA(cuMemPoolSetAttribute, pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold);
  CUdeviceptr pointer = 0;
  CUDA(cuMemAllocFromPoolAsync, &pointer, 4096, pool, reinterpret_cast<CUstream>(0x10));
  CUDA(cuMemFreeAsync, pointer, reinterpret_cast<CUstream>(0x10));
  CUDA(cuMemPoolTrimTo, pool, 77);
  CUDA(cuMemPoolDestroy, pool);
  // The same handle, another kind of pool.
  properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  CUDA(cuMemPoolCreate, &pool, &properties);
  CUDA(cuMemAllocFromPoolAsync, &pointer, 8192, pool, nullptr);
  return 0;
}

// As a statically linked libcudart asks for the variables of the program.
int ModuleGlobal() {
  CUcontext context = nullptr;
  CUDA(cuInit, 0);
  CUDA(cuDevicePrimaryCtxRetain, &context, 0);
  CUdeviceptr pointer = 0;
  size_t size = 0;
  CUDA(cuModuleGetGlobal_v2, &pointer, &size, nullptr, "variable");
  printf("%zu bytes\n", size);
  CUDA(cuModuleGetGlobal_v2, &pointer, nullptr, nullptr, "variable");
  return 0;
}

int Pageable() {
  CUcontext context = nullptr;
  CUDA(cuInit, 0);
  CUDA(cuDevicePrimaryCtxRetain, &context, 0);
  return 0;
}

int Batches() {
  CUdeviceptr pointers[] = {kAddress, kAddress + 0x1000, kAddress + 0x2000};
  CUdeviceptr sources[] = {0x1, 0x2, 0x3};
  size_t sizes[] = {10, 20, 30};
  CUmemLocation locations[] = {{CU_MEM_LOCATION_TYPE_DEVICE, 2}, {CU_MEM_LOCATION_TYPE_HOST, 0}};
  size_t indices[] = {0, 2};
  const auto stream = reinterpret_cast<CUstream>(0x77);
  CUDA(cuMemPrefetchBatchAsync, pointers, sizes, 3, locations, indices, 2, 0, stream);
  CUDA(cuMemDiscardBatchAsync, pointers, sizes, 2, 0, stream);
  CUDA(cuMemDiscardAndPrefetchBatchAsync, pointers, sizes, 1, locations, indices, 1, 0, stream);
  CUmemcpyAttributes attributes{};
  size_t failed = 0;
  CUDA(cuMemcpyBatchAsync, pointers, sources, sizes, 3, &attributes, indices, 1, &failed, stream);
  CUDA(cuMemcpyBatchAsync_v2, pointers, sources, sizes, 2, &attributes, indices, 1, stream);
  CUDA(cuMemPrefetchBatchAsync, nullptr, nullptr, 0, nullptr, nullptr, 0, 0, stream);
  return 0;
}

int Graphs() {
  CUgraphNode node = nullptr;
  CUDA_MEM_ALLOC_NODE_PARAMS parameters{};
  parameters.bytesize = 5000;
  const auto graph = reinterpret_cast<CUgraph>(0x66);
  CUDA(cuGraphAddMemAllocNode, &node, graph, nullptr, 0, &parameters);
  CUDA(cuGraphAddMemFreeNode, &node, graph, nullptr, 0, parameters.dptr);
  CUDA(cuStreamBeginCapture_v2, nullptr, CU_STREAM_CAPTURE_MODE_RELAXED);
  CUgraph captured = nullptr;
  CUDA(cuStreamEndCapture, nullptr, &captured);
  CUDA(cuGraphLaunch, reinterpret_cast<CUgraphExec>(0x67), reinterpret_cast<CUstream>(0x20));
  return 0;
}

// By the call that adds nodes of any kind, of both libraries.
int GraphNodes() {
  CUgraphNode node = nullptr;
  const auto graph = reinterpret_cast<CUgraph>(0x66);
  CUgraphNodeParams parameters{};
  parameters.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
  parameters.alloc.bytesize = 6000;
  CUDA(cuGraphAddNode_v2, &node, graph, nullptr, nullptr, 0, &parameters);
  const CUdeviceptr allocated = parameters.alloc.dptr;
  parameters = {};
  parameters.type = CU_GRAPH_NODE_TYPE_MEMSET;
  parameters.memset.dst = allocated;
  parameters.memset.elementSize = 4;
  parameters.memset.width = 10;
  parameters.memset.height = 3;
  CUDA(cuGraphAddNode, &node, graph, nullptr, 0, &parameters);
  parameters = {};
  parameters.type = CU_GRAPH_NODE_TYPE_MEMCPY;
  parameters.memcpy.copyParams.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  parameters.memcpy.copyParams.dstDevice = allocated;
  parameters.memcpy.copyParams.srcMemoryType = CU_MEMORYTYPE_HOST;
  parameters.memcpy.copyParams.srcHost = &parameters;
  parameters.memcpy.copyParams.WidthInBytes = 8;
  parameters.memcpy.copyParams.Height = 4;
  parameters.memcpy.copyParams.Depth = 1;
  CUDA(cuGraphAddNode_v2, &node, graph, nullptr, nullptr, 0, &parameters);
  parameters = {};
  parameters.type = CU_GRAPH_NODE_TYPE_MEM_FREE;
  parameters.free.dptr = allocated;
  CUDA(cuGraphAddNode_v2, &node, graph, nullptr, nullptr, 0, &parameters);

  // The runtime of CUDA 12.2 has four parameters before the node's, that of CUDA 13 five.
  cudaGraphNodeParams set{};
  set.type = cudaGraphNodeTypeMemset;
  set.memset.dst = reinterpret_cast<void*>(0x5000);
  set.memset.elementSize = 2;
  set.memset.width = 100;
  set.memset.height = 1;
  using Add13 = cudaError_t (*)(cudaGraphNode_t*, cudaGraph_t, const cudaGraphNode_t*, const cudaGraphEdgeData*, size_t,
                                cudaGraphNodeParams*);
  using Add12 = cudaError_t (*)(cudaGraphNode_t*, cudaGraph_t, const cudaGraphNode_t*, size_t, cudaGraphNodeParams*);
  void* const runtime13 = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  printf("%d\n",
         reinterpret_cast<Add13>(dlsym(runtime13, "cudaGraphAddNode"))(&node, graph, nullptr, nullptr, 0, &set));
  void* const runtime12 = dlopen("libcudart.so.12", RTLD_NOW | RTLD_LOCAL);
  printf("%d\n", reinterpret_cast<Add12>(dlsym(runtime12, "cudaGraphAddNode"))(&node, graph, nullptr, 0, &set));
  printf("%d\n",
         reinterpret_cast<Add13>(dlsym(runtime12, "cudaGraphAddNode_v2"))(&node, graph, nullptr, nullptr, 0, &set));
  return 0;
}

int Multicast() {
  CUmemGenericAllocationHandle multicast = 0;
  CUmulticastObjectProp properties{};
  properties.numDevices = 2;
  properties.size = 4 << 20;
  CUDA(cuMulticastCreate, &multicast, &properties);
  CUDA(cuMulticastAddDevice, multicast, 1);
  CUDA(cuMulticastBindMem, multicast, 0, 0x4242, 0, 2 << 20, 0);
  CUDA(cuMulticastBindAddr, multicast, 2 << 20, kAddress, 2 << 20, 0);
  CUDA(cuMulticastUnbind, multicast, 1, 0, 2 << 20);
  return 0;
}

int Decompression() {
  CUmemDecompressParams parameters[2] = {};
  parameters[0].srcNumBytes = 10;
  parameters[0].dstNumBytes = 100;
  parameters[0].src = reinterpret_cast<const void*>(0x7000);
  parameters[0].dst = reinterpret_cast<void*>(kAddress);
  parameters[1].dstNumBytes = 23;
  size_t failed = 0;
  CUDA(cuMemBatchDecompressAsync, parameters, 2, 0, &failed, reinterpret_cast<CUstream>(0x77));
  return 0;
}

// Memory of a graphics API or of another driver, and ours as a file descriptor for one.
int External() {
  CUexternalMemory memory = nullptr;
  CUDA_EXTERNAL_MEMORY_HANDLE_DESC description{};
  description.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD;
  description.size = 1 << 20;
  CUDA(cuImportExternalMemory, &memory, &description);
  CUDA(cuDestroyExternalMemory, reinterpret_cast<CUexternalMemory>(0x88));
  int descriptor = 0;
  CUDA(cuMemGetHandleForAddressRange, &descriptor, kAddress, 4096, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
  return 0;
}

// One piece of physical memory at two addresses, and one that another process made.
int Mappings() {
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties{};
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CUDA(cuMemCreate, &handle, 2 << 20, &properties, 0);
  CUDA(cuMemMap, kAddress, 2 << 20, 0, handle, 0);
  CUDA(cuMemMap, kAddress + (2 << 20), 2 << 20, 0, handle, 0);
  int descriptor = 5;
  CUDA(cuMemExportToShareableHandle, &descriptor, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  CUmemGenericAllocationHandle imported = 0;
  CUDA(cuMemImportFromShareableHandle, &imported, nullptr, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  CUDA(cuMemUnmap, kAddress, 2 << 20);
  CUDA(cuMemRelease, handle);
  return 0;
}

int Imported() {
  CUdeviceptr pointer = 0;
  CUDA(cuIpcOpenMemHandle_v2, &pointer, CUipcMemHandle{}, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  CUDA(cuIpcCloseMemHandle, pointer);
  return 0;
}

int Arrays() {
  CUarray array = nullptr;
  CUDA_ARRAY_DESCRIPTOR description{};
  description.Width = 100;
  description.Height = 10;
  description.Format = CU_AD_FORMAT_FLOAT;
  description.NumChannels = 2;
  CUDA(cuArrayCreate_v2, &array, &description);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = &copy;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = kAddress;
  copy.WidthInBytes = 8;
  copy.Height = 4;
  copy.Depth = 2;
  CUDA(cuMemcpy3D_v2, &copy);
  CUDA(cuMemsetD2D32_v2, kAddress, 512, 0, 10, 3);
  CUDA(cuArrayDestroy, array);
  return 0;
}

int Reset() {
  CUDA(cuDevicePrimaryCtxReset_v2, 3);
  void* const runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  printf("%d\n", reinterpret_cast<cudaError_t (*)()>(dlsym(runtime, "cudaDeviceReset"))());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  Check(driver != nullptr, "dlopen");
  const Scenarios scenarios = {
      {"managed_pool", &ManagedPool},
      {"module_global", &ModuleGlobal},
      {"pageable", &Pageable},
      {"batches", &Batches},
      {"graphs", &Graphs},
      {"graph_nodes", &GraphNodes},
      {"multicast", &Multicast},
      {"decompression", &Decompression},
      {"external", &External},
      {"mappings", &Mappings},
      {"imported", &Imported},
      {"arrays", &Arrays},
      {"reset", &Reset},
  };
  return RunScenario(scenarios, argc, argv);
}
