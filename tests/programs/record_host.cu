// What a trace holds besides calls and faults: ranges, the profiler's switch, what there was when memory ran out, bytes
// over the link. On the simulator's small GPU; prints what the host sees.
#include <cuda.h>
#include <cuda_profiler_api.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "sim/include/uvmsim.h"

namespace {

constexpr size_t kMiB = size_t{1} << 20;

__global__ void Sum(char*, size_t) {}
void SumOnHost(const UvmsimLaunch* launch) {
  UvmsimForEachSpan(launch, UvmsimArgument<char*>(launch, 0), UvmsimArgument<size_t>(launch, 1), UVMSIM_READ,
                    [](char*, size_t, size_t) {});
}
UVMSIM_REGISTER(Sum, SumOnHost);

// --- ranges

int Ranges() {
  nvtxMarkA("before CUDA");
  cudaFree(nullptr);
  nvtxRangePushA("load");
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_UNICODE;
  attributes.message.unicode = L"w\u00e4rmen";
  const nvtxRangeId_t warm = nvtxRangeStartEx(&attributes);
  const nvtxDomainHandle_t domain = nvtxDomainCreateA("engine");
  attributes.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
  attributes.message.registered = nvtxDomainRegisterStringA(domain, "step");
  const int depth = nvtxDomainRangePushEx(domain, &attributes);
  nvtxDomainMarkEx(domain, &attributes);
  const int popped = nvtxDomainRangePop(domain);
  nvtxRangeEnd(warm);
  nvtxMarkA(std::string(1000, 'x').c_str());
  nvtxRangePop();
  printf("depths %d %d, the variable is %s\n", depth, popped, getenv("HOME") != nullptr ? "there" : "not there");
  return 0;
}

int Profiler() {
  cudaFree(nullptr);
  cudaProfilerStart();
  void* memory = nullptr;
  cudaMalloc(&memory, kMiB);
  cudaFree(memory);
  cudaProfilerStop();
  return 0;
}

// --- out of memory: each prints the error that the program sees

int End(cudaError_t error) {
  printf("%s\n", cudaGetErrorName(error));
  // As a program that gives up: no destructor, no exit handler.
  fflush(stdout);
  kill(getpid(), SIGKILL);
  return 0;
}

// A caching allocator that takes segments until there are none.
int Pool() {
  void* segment = nullptr;
  cudaError_t error = cudaSuccess;
  while (error == cudaSuccess) error = cudaMalloc(&segment, 20 * kMiB);
  return End(error);
}

// A library's workspace leaves too little for the program.
int Workspace() {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  void* memory = nullptr;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  cudaMalloc(&memory, free_bytes - 8 * kMiB);
  return End(cudaMalloc(&memory, 16 * kMiB));
}

int VirtualMemory() {
  cudaFree(nullptr);
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
  CUmemGenericAllocationHandle handle = 0;
  const auto create = reinterpret_cast<decltype(&cuMemCreate)>(dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuMemCreate"));
  CUresult result = CUDA_SUCCESS;
  while (result == CUDA_SUCCESS) result = create(&handle, 32 * kMiB, &properties, 0);
  printf("cuMemCreate %d\n", result);
  return End(cudaSuccess);
}

int Pinned() {
  void* memory = nullptr;
  cudaFree(nullptr);
  size_t pages = 0;
  FILE* const file = fopen("/proc/self/statm", "r");
  if (file == nullptr || fscanf(file, "%zu", &pages) != 1) return 1;
  fclose(file);
  const size_t bytes = pages * 4096 + 16 * kMiB;
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_AS, &limit);
  return End(cudaMallocHost(&memory, 64 * kMiB));
}

// Every second small block is freed: the slabs that the others are in stay.
int Fragments() {
  std::vector<void*> blocks;
  void* block = nullptr;
  while (cudaMalloc(&block, kMiB / 2) == cudaSuccess) blocks.push_back(block);
  for (size_t i = 0; i < blocks.size(); i += 2) cudaFree(blocks[i]);
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  return End(cudaMalloc(&block, total_bytes / 4));
}

int Stream() {
  void* memory = nullptr;
  for (size_t bytes = 64 * kMiB; bytes >= 2 * kMiB; bytes /= 2) {
    while (cudaMalloc(&memory, bytes) == cudaSuccess) {
    }
  }
  cudaStream_t stream = nullptr;
  return End(cudaStreamCreate(&stream));
}

// --- the link

// 64 MiB of pinned memory, read four times by the GPU, and one copy of it.
int Link() {
  constexpr size_t kBytes = 64 * kMiB;
  char* pinned = nullptr;
  char* device = nullptr;
  cudaMallocHost(reinterpret_cast<void**>(&pinned), kBytes);
  cudaMalloc(reinterpret_cast<void**>(&device), kBytes / 4);
  memset(pinned, 1, kBytes);
  usleep(100'000);  // the first sample
  for (int i = 0; i < 4; ++i) {
    Sum<<<1, 1>>>(pinned, kBytes);
    usleep(30'000);
  }
  cudaMemcpy(device, pinned, kBytes / 4, cudaMemcpyHostToDevice);
  printf("%s\n", cudaGetErrorName(cudaDeviceSynchronize()));
  usleep(100'000);
  return 0;
}

const struct {
  const char* name;
  int (*run)();
} kScenarios[] = {
    {"ranges", Ranges}, {"profiler", Profiler},   {"pool", Pool},     {"workspace", Workspace}, {"vmm", VirtualMemory},
    {"pinned", Pinned}, {"fragments", Fragments}, {"stream", Stream}, {"link", Link},
};

}  // namespace

int main(int argc, char** argv) {
  for (const auto& scenario : kScenarios) {
    if (argc == 2 && strcmp(argv[1], scenario.name) == 0) return scenario.run();
  }
  fprintf(stderr, "which?\n");
  return 2;
}
