// The cases of sim_program that are about work: streams, events, arguments, variables, entry points, and work that
// fails.
#include <cuda.h>

#include <atomic>
#include <cstring>

#include "sim/include/uvmsim.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

struct Big {
  int values[64];
};
template <typename T>
__global__ void Sum(T* out, Big big, T extra) {
  T sum = extra;
  for (int value : big.values) sum += value;
  *out = sum;
}
void SumOnHost(const UvmsimLaunch* launch) {
  auto* out = UvmsimArgument<float*>(launch, 0);
  float sum = UvmsimArgument<float>(launch, 2);
  for (int value : UvmsimArgument<Big>(launch, 1).values) sum += static_cast<float>(value);
  if (void* view = uvmsim_access(launch, out, sizeof *out, UVMSIM_WRITE)) memcpy(view, &sum, sizeof sum);
}
UVMSIM_REGISTER(Sum<float>, SumOnHost);

__global__ void NobodyModelsThis(int* data) { *data = 1; }

__managed__ int g_managed[1000];
__device__ int g_device[10];

void Work() {
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams) CUDA(cudaStreamCreate(&stream));
  cudaEvent_t start, end;
  CUDA(cudaEventCreate(&start));
  CUDA(cudaEventCreate(&end));
  float* out = Managed<float>(100 * sizeof(float));
  CUDA(cudaEventRecord(start, streams[0]));
  for (int i = 0; i < 100; ++i) {
    Big big = {};
    big.values[63] = i;
    // All of it is by value, and gone from this stack frame before the kernel runs.
    Sum<float><<<1, 1, 0, streams[i % 2]>>>(out + i, big, 0.5f * static_cast<float>(i));
  }
  CUDA(cudaGetLastError());
  CUDA(cudaEventRecord(end, streams[1]));
  CUDA(cudaStreamWaitEvent(streams[0], end, 0));
  CUDA(cudaEventSynchronize(end));
  CUDA(cudaEventQuery(end));
  float milliseconds = -1;
  CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  CHECK(milliseconds > 0 && milliseconds < 10000);
  for (int i = 0; i < 100; ++i) CHECK(out[i] == 1.5f * static_cast<float>(i));
  // Arguments that are not on the stack.
  auto* big = new Big{};
  big->values[0] = 40;
  auto* extra = new float(2);
  auto** where = new float*(out);
  void* arguments[] = {where, big, extra};
  CUDA(cudaLaunchKernel(reinterpret_cast<const void*>(&Sum<float>), dim3(1), dim3(1), arguments, 0, streams[0]));
  delete big;
  delete extra;
  delete where;
  CUDA(cudaStreamSynchronize(streams[0]));
  CHECK(out[0] == 42);
  std::atomic<int> called{0};
  CUDA(cudaLaunchHostFunc(
      streams[0], [](void* data) { ++*static_cast<std::atomic<int>*>(data); }, &called));
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(called.load(), 1);
  // Variables.
  g_managed[999] = 3;
  Launch(g_managed, 1000, 2);
  CUDA(cudaDeviceSynchronize());
  CHECK(g_managed[999] == 5 && g_managed[0] == 2);
  const int values[10] = {1, 2, 3};
  int back[10] = {};
  CUDA(cudaMemcpyToSymbol(g_device, values, sizeof values));
  void* address = nullptr;
  CUDA(cudaGetSymbolAddress(&address, g_device));
  Launch(static_cast<int*>(address), 10, 1);
  CUDA(cudaMemcpyFromSymbol(back, g_device, sizeof back));
  CHECK(back[0] == 2 && back[9] == 1);
  for (cudaStream_t stream : streams) CUDA(cudaStreamDestroy(stream));
  CHECK_EQ(cudaStreamSynchronize(streams[0]), cudaErrorInvalidResourceHandle);
  CUDA(cudaEventDestroy(start));
  CUDA(cudaEventDestroy(end));
}

void Unmodelled() {
  int* data = Managed<int>(4096);
  NobodyModelsThis<<<1, 1>>>(data);
  CHECK_EQ(cudaGetLastError(), cudaErrorNotSupported);
  CUDA(cudaDeviceSynchronize());
  cudaGraph_t graph;
  CHECK_EQ(cudaGraphCreate(&graph, 0), cudaErrorNotSupported);
  CHECK_EQ(cudaGraphCreate(&graph, 0), cudaErrorNotSupported);
}

void IllegalAddress() {
  int* data = Managed<int>(4096);
  Launch(data, 2048, 1);  // 8 KiB of 4
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  // The context is done for.
  CHECK_EQ(TryLaunch(data, 1, 1), cudaErrorIllegalAddress);
}

void* Export(const char* name, int version, unsigned flags) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status;
  CUDA(cudaGetDriverEntryPointByVersion(name, &function, static_cast<unsigned>(version), flags, &status));
  return status == cudaDriverEntryPointSuccess ? function : nullptr;
}

// cuGetProcAddress chooses by version and by default stream; twins are functions of their own.
void EntryPoints() {
  CUDA(cudaFree(nullptr));
  CHECK(Export("cuMemAlloc", 13000, 0) == FromDriver("cuMemAlloc_v2"));
  CHECK(Export("cuMemAlloc", 3010, 0) == nullptr);
  CHECK(Export("cuMemPrefetchAsync", 11000, 0) == FromDriver("cuMemPrefetchAsync"));
  CHECK(Export("cuMemPrefetchAsync", 13000, 0) == FromDriver("cuMemPrefetchAsync_v2"));
  CHECK(Export("cuMemPrefetchAsync", 13000, 2) == FromDriver("cuMemPrefetchAsync_v2_ptsz"));
  CHECK(Export("cuMemcpyHtoDAsync", 13000, 0) == FromDriver("cuMemcpyHtoDAsync_v2"));
  CHECK(Export("cuMemcpyHtoDAsync", 13000, 2) == FromDriver("cuMemcpyHtoDAsync_v2_ptsz"));
  CHECK(Export("cuMemcpyHtoDAsync", 13000, 0) != Export("cuMemcpyHtoDAsync", 13000, 2));
  CHECK(Export("cuMemcpy", 13000, 2) == FromDriver("cuMemcpy_ptds"));
  CHECK(Export("cuGetProcAddress", 11030, 0) == FromDriver("cuGetProcAddress"));
  CHECK(Export("cuGetProcAddress", 12000, 0) == FromDriver("cuGetProcAddress_v2"));
  CHECK(Export("cuTexRefCreate", 13000, 0) == nullptr);
  CHECK(Export("", 0, 0) == nullptr);
  auto* old = reinterpret_cast<CUresult (*)(const char*, void**, int, cuuint64_t)>(FromDriver("cuGetProcAddress"));
  void* function = nullptr;
  CHECK_EQ(old("cuInit", &function, 11030, 0), CUDA_SUCCESS);
  CHECK(function == FromDriver("cuInit"));
}

}  // namespace

Cases WorkCases() {
  return {
      {"work", Work},
      {"unmodelled", Unmodelled},
      {"illegal-address", IllegalAddress},
      {"entry-points", EntryPoints},
  };
}

}  // namespace uvmsim::tests
