// An ordinary CUDA program, built by nvcc with the shared runtime, that the simulator's tests run in many ways:
// sim_program <case>. Exits 0 if all is as it should be; says what is not.
#include <cuda.h>
#include <cupti.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "sim/engine/tables.h"
#include "sim/include/uvmsim.h"
#include "sim/include/uvmsim_host.h"

namespace {

constexpr size_t kMiB = 1 << 20;

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                                 \
    }                                                                           \
  } while (0)
#define CHECK_EQ(a, b)                                                                                \
  do {                                                                                                \
    const auto left = (a);                                                                            \
    const auto right = (b);                                                                           \
    if (!(left == right)) {                                                                           \
      fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, (long long)left, #b, \
              (long long)right);                                                                      \
      _exit(1);                                                                                       \
    }                                                                                                 \
  } while (0)
#define CUDA(call) CHECK_EQ(call, cudaSuccess)

// --- kernels, each with the model of what it does ---

__global__ void Add(int* data, size_t count, int value) {
  const size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
  if (i < count) data[i] += value;
}
void AddOnHost(const UvmsimLaunch* launch) {
  int* data = UvmsimArgument<int*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 1);
  const int value = UvmsimArgument<int>(launch, 2);
  UvmsimForEachSpan(launch, data, count, UVMSIM_READ_WRITE, [&](int* span, size_t n, size_t) {
    for (size_t i = 0; i < n; ++i) span[i] += value;
  });
}
UVMSIM_REGISTER(Add, AddOnHost);

// Counts the elements that differ from `expected`, and adds one to all.
__global__ void CheckAndBump(int* data, size_t count, int expected, unsigned long long* wrong) {
  const size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  if (data[i] != expected) atomicAdd(wrong, 1ull);
  data[i] += 1;
}
void CheckAndBumpOnHost(const UvmsimLaunch* launch) {
  int* data = UvmsimArgument<int*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 1);
  const int expected = UvmsimArgument<int>(launch, 2);
  auto* wrong = UvmsimArgument<unsigned long long*>(launch, 3);
  unsigned long long found = 0;
  UvmsimForEachSpan(launch, data, count, UVMSIM_READ_WRITE, [&](int* span, size_t n, size_t) {
    for (size_t i = 0; i < n; ++i) {
      found += span[i] != expected;
      span[i] += 1;
    }
  });
  auto* view = static_cast<unsigned long long*>(uvmsim_access(launch, wrong, sizeof *wrong, UVMSIM_READ_WRITE));
  if (view != nullptr) *view += found;
}
UVMSIM_REGISTER(CheckAndBump, CheckAndBumpOnHost);

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

// Touches the buffer for ever.
__global__ void Forever(int* data, size_t count) {
  for (;;) data[clock64() % count] = 1;
}
void ForeverOnHost(const UvmsimLaunch* launch) {
  int* data = UvmsimArgument<int*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 1);
  for (;;) UvmsimForEachSpan(launch, data, count, UVMSIM_WRITE, [](int* span, size_t n, size_t) { span[n - 1] = 1; });
}
UVMSIM_REGISTER(Forever, ForeverOnHost);

__managed__ int g_managed[1000];
__device__ int g_device[10];

void Launch(int* data, size_t count, int value, cudaStream_t stream = nullptr) {
  Add<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(data, count, value);
  CUDA(cudaGetLastError());
}

void* FromDriver(const char* name) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  CHECK(driver != nullptr);
  void* symbol = dlsym(driver, name);
  CHECK(symbol != nullptr);
  return symbol;
}

const uvmsim::CuptiTable& Table() { return *static_cast<const uvmsim::CuptiTable*>(FromDriver("uvmsim_cupti_table")); }

uvmsim::EngineTotals Totals() {
  uvmsim::EngineTotals totals;
  Table().totals(&totals);
  return totals;
}

template <typename T>
T* Managed(size_t bytes) {
  void* memory = nullptr;
  CUDA(cudaMallocManaged(&memory, bytes));
  return static_cast<T*>(memory);
}

unsigned long long ThreadCpuNs(int tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/schedstat";
  FILE* file = fopen(path.c_str(), "r");
  CHECK(file != nullptr);
  unsigned long long run = 0;
  CHECK_EQ(fscanf(file, "%llu", &run), 1);
  fclose(file);
  return run;
}

// --- cases ---

// 64 MiB on a GPU of 64 MiB: the host writes, the kernel adds, the host reads.
void KnownBytes() {
  const size_t count = 64 * kMiB / sizeof(int);
  int* data = Managed<int>(64 * kMiB);
  for (size_t i = 0; i < count; ++i) data[i] = static_cast<int>(i);
  Launch(data, count, 7);
  CUDA(cudaDeviceSynchronize());
  size_t wrong = 0;
  for (size_t i = 0; i < count; ++i) wrong += data[i] != static_cast<int>(i) + 7;
  CHECK_EQ(wrong, 0u);
  const uvmsim::EngineTotals totals = Totals();
  CHECK_EQ(totals.host_to_device_bytes, 67108864u);
  CHECK_EQ(totals.device_to_host_bytes, 67108864u);
  CHECK_EQ(totals.evicted_bytes, 0u);
  // Six services of each block, on both sides and for the first touch.
  CHECK_EQ(totals.gpu_fault_batches, 32u * 6);
  CHECK_EQ(totals.cpu_faults, 2u * 32 * 6);
  CUDA(cudaFree(data));
}

// m chunks in a circle with room for k; every chunk is verified by the kernel in each cycle, and by the host at the
// end.
void Oversubscribe() {
  constexpr size_t k = 4, m = 8, cycles = 2;
  // Pinned memory for the counter: on the GPU it would take a block away from the chunks.
  unsigned long long* wrong = nullptr;
  CUDA(cudaMallocHost(&wrong, sizeof *wrong));
  *wrong = 0;
  const size_t chunk = 64 * kMiB / k;
  const size_t count = chunk / sizeof(int);
  int* chunks[m];
  for (int*& data : chunks) {
    data = Managed<int>(chunk);
    for (size_t i = 0; i < count; ++i) data[i] = 100;
  }
  const uvmsim::EngineTotals before = Totals();
  CHECK_EQ(before.host_to_device_bytes + before.device_to_host_bytes, 0u);
  for (size_t cycle = 0; cycle < cycles; ++cycle) {
    for (int* data : chunks) {
      CheckAndBump<<<static_cast<unsigned>((count + 255) / 256), 256>>>(data, count, 100 + static_cast<int>(cycle),
                                                                        wrong);
      CUDA(cudaGetLastError());
    }
    CUDA(cudaDeviceSynchronize());
    CHECK_EQ(*wrong, 0u);
  }
  const uvmsim::EngineTotals totals = Totals();
  CHECK_EQ(totals.host_to_device_bytes, cycles * m * chunk);
  CHECK_EQ(totals.device_to_host_bytes, (cycles * m - k) * chunk);
  CHECK_EQ(totals.evicted_bytes, totals.device_to_host_bytes);
  size_t different = 0;
  for (const int* data : chunks) {
    for (size_t i = 0; i < count; ++i) different += data[i] != 100 + static_cast<int>(cycles);
  }
  CHECK_EQ(different, 0u);
  CHECK_EQ(Totals().device_to_host_bytes, cycles * m * chunk);
}

// CPU threads work on managed memory of their own, and on blocks that the GPU also has, while kernels oversubscribe the
// GPU.
void Concurrent() {
  constexpr int kThreads = 4;
  constexpr int kRounds = 6;
  const size_t count = 80 * kMiB / sizeof(int);
  int* gpu = Managed<int>(80 * kMiB);
  for (size_t i = 0; i < count; ++i) gpu[i] = 5;
  int* shared = Managed<int>(8 * kMiB);
  const size_t each = 2 * kMiB / sizeof(int);
  memset(shared, 0, 8 * kMiB);
  std::atomic<bool> stop{false};
  std::atomic<size_t> wrong{0};
  std::atomic<int> rounds{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      int* own = Managed<int>(4 * kMiB);
      int* part = shared + t * each;  // a block of its own; even elements are the CPU's, odd ones the GPU's
      for (int round = 0; !stop || round < 3; ++round) {
        for (size_t i = 0; i < kMiB; i += 512) own[i] = round + static_cast<int>(i) * t;
        for (size_t i = 0; i < each; i += 1024) part[i] = round;
        for (size_t i = 0; i < kMiB; i += 512) wrong += own[i] != round + static_cast<int>(i) * t;
        for (size_t i = 0; i < each; i += 1024) wrong += part[i] != round;
        ++rounds;
      }
      CUDA(cudaFree(own));
    });
  }
  for (int round = 0; round < kRounds; ++round) {
    Launch(gpu, count, 1);
    // One element in each piece, next to those that the threads write.
    for (int t = 0; t < kThreads; ++t) Launch(shared + t * each + 1, 1, 1);
    CUDA(cudaDeviceSynchronize());
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0u);
  CHECK(rounds.load() >= 3 * kThreads);
  size_t different = 0;
  for (size_t i = 0; i < count; ++i) different += gpu[i] != 5 + kRounds;
  CHECK_EQ(different, 0u);
  for (int t = 0; t < kThreads; ++t) CHECK_EQ(shared[t * each + 1], kRounds);
}

// The BH thread is there, is found through the folder, and burns what the model says.
void BottomHalf() {
  const size_t count = 96 * kMiB / sizeof(int);
  int* data = Managed<int>(96 * kMiB);
  memset(data, 0, 96 * kMiB);
  const uvmsim::EngineTotals before = Totals();
  const unsigned long long cpu_before = ThreadCpuNs(before.bottom_half_tid);
  for (int round = 0; round < 4; ++round) Launch(data, count, 1);
  CUDA(cudaDeviceSynchronize());
  const uvmsim::EngineTotals after = Totals();
  const double modelled = after.bottom_half_ns - before.bottom_half_ns;
  // The kernel brings schedstat up to date when the thread goes to sleep, which a loaded machine may put off.
  double burnt = 0;
  for (int i = 0; i < 1000 && burnt < modelled * 0.95; ++i) {
    if (i != 0) usleep(10'000);
    burnt = static_cast<double>(ThreadCpuNs(after.bottom_half_tid) - cpu_before);
  }
  printf("modelled %.1f ms, burnt %.1f ms\n", modelled / 1e6, burnt / 1e6);
  CHECK(modelled > 20e6);
  // It is CPU time, so that load takes nothing away from it: less the thread's start, all of it is burnt. What waking
  // up adds depends on the machine; the upper bound is for a mistake of units.
  CHECK(burnt > modelled * 0.9 && burnt < modelled * 10);

  const auto* host = static_cast<const UvmsimHost*>(FromDriver("uvmsim_host"));
  CHECK(host->version >= 2 && host->tools != nullptr);
  CHECK(strcmp(host->profile, "tiny") == 0);
  const std::string root = host->root;
  const std::string thread = root + "/proc/" + std::to_string(after.bottom_half_tid);
  char text[256] = {};
  FILE* comm = fopen((thread + "/comm").c_str(), "r");
  CHECK(comm != nullptr && fgets(text, sizeof text, comm) != nullptr);
  fclose(comm);
  CHECK(strcmp(text, "UVM GPU1 BH\n") == 0);
  CHECK(access((thread + "/stat").c_str(), R_OK) == 0 && access((thread + "/schedstat").c_str(), R_OK) == 0);
  const ssize_t length = readlink((root + "/proc/driver/nvidia-uvm/gpus/1").c_str(), text, sizeof text - 1);
  CHECK(length > 4);
  text[length] = 0;
  CHECK(strncmp(text, "GPU-", 4) == 0 && strcmp(text + length - 2, "/0") == 0);
  FILE* parameter = fopen((root + "/sys/module/nvidia_uvm/parameters/uvm_perf_prefetch_threshold").c_str(), "r");
  int threshold = 0;
  CHECK(parameter != nullptr && fscanf(parameter, "%d", &threshold) == 1);
  fclose(parameter);
  CHECK_EQ(threshold, 51);
  printf("root %s\n", root.c_str());
}

void Advice() {
  const size_t bytes = 8 * kMiB;
  const size_t count = bytes / sizeof(int);
  int* data = Managed<int>(bytes);
  for (size_t i = 0; i < count; ++i) data[i] = 1;
  cudaMemLocation cpu = {};
  cpu.type = cudaMemLocationTypeHost;
  cudaMemLocation gpu = {};
  gpu.type = cudaMemLocationTypeDevice;
  CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseSetPreferredLocation, cpu));
  CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseSetAccessedBy, gpu));
  Launch(data, count, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(Totals().host_to_device_bytes, 0u);
  CHECK_EQ(Totals().remote_bytes, bytes);
  CHECK_EQ(Totals().gpu_fault_batches, 0u);
  int preferred = 7;
  CUDA(cudaMemRangeGetAttribute(&preferred, sizeof preferred, cudaMemRangeAttributePreferredLocation, data, bytes));
  CHECK_EQ(preferred, cudaCpuDeviceId);
  CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseUnsetAccessedBy, gpu));
  CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseUnsetPreferredLocation, cpu));
  CUDA(cudaMemPrefetchAsync(data, bytes, gpu, 0, nullptr));
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(Totals().host_to_device_bytes, bytes);
  CUDA(cudaMemPrefetchAsync(data, bytes, cpu, 0, nullptr));
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(Totals().device_to_host_bytes, bytes);
  const unsigned long long faults = Totals().cpu_faults;
  for (size_t i = 0; i < count; ++i) CHECK_EQ(data[i], 2);
  CHECK_EQ(Totals().cpu_faults, faults);
  // Read-mostly: the CPU reads its copy without a fault, and its write is one.
  CUDA(cudaMemAdvise(data, bytes, cudaMemAdviseSetReadMostly, cpu));
  CUDA(cudaMemPrefetchAsync(data, bytes, gpu, 0, nullptr));
  CUDA(cudaDeviceSynchronize());
  for (size_t i = 0; i < count; i += 512) CHECK_EQ(data[i], 2);
  CHECK_EQ(Totals().cpu_faults, faults);
  data[5] = 9;
  CHECK_EQ(Totals().cpu_faults, faults + 1);
  Launch(data + 5, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(data[5], 10);
  int dummy = 0;
  CHECK_EQ(cudaMemAdvise(&dummy, 4, cudaMemAdviseSetReadMostly, cpu), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemPrefetchAsync(data, bytes + 1, gpu, 0, nullptr), cudaErrorInvalidValue);
}

void Memory() {
  size_t free_before = 0, total = 0, free_now = 0;
  CUDA(cudaMemGetInfo(&free_before, &total));
  CHECK_EQ(total, 64 * kMiB);
  CHECK_EQ(free_before, total);
  // Device memory, pageable and pinned copies.
  int* device = nullptr;
  CUDA(cudaMalloc(&device, 6 * kMiB));
  CUDA(cudaMemGetInfo(&free_now, &total));
  CHECK_EQ(free_now, 58 * kMiB);
  std::vector<int> host(6 * kMiB / sizeof(int));
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<int>(i * 3);
  CUDA(cudaMemcpy(device, host.data(), 6 * kMiB, cudaMemcpyHostToDevice));
  Launch(device, host.size(), 1);
  int* pinned = nullptr;
  CUDA(cudaHostAlloc(&pinned, 6 * kMiB, cudaHostAllocMapped));
  CUDA(cudaMemcpyAsync(pinned, device, 6 * kMiB, cudaMemcpyDeviceToHost, nullptr));
  CUDA(cudaStreamSynchronize(nullptr));
  for (size_t i = 0; i < host.size(); ++i) CHECK_EQ(pinned[i], host[i] + 1);
  // Zero copy: a kernel on pinned memory.
  void* mapped = nullptr;
  CUDA(cudaHostGetDevicePointer(&mapped, pinned, 0));
  Launch(static_cast<int*>(mapped), host.size(), 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(pinned[17], host[17] + 2);
  CUDA(cudaMemset(device, 0x11, 6 * kMiB));
  CUDA(cudaMemcpy(host.data(), device, 6 * kMiB, cudaMemcpyDefault));
  CHECK_EQ(host.back(), 0x11111111);
  // A 2D copy of two columns.
  int matrix[4][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}, {13, 14, 15, 16}};
  int columns[4][2] = {};
  CUDA(cudaMemcpy2D(device, 8, &matrix[0][1], 16, 8, 4, cudaMemcpyHostToDevice));
  CUDA(cudaMemcpy(columns, device, sizeof columns, cudaMemcpyDeviceToHost));
  CHECK(columns[0][0] == 2 && columns[3][1] == 15);
  // Registered memory.
  CUDA(cudaHostRegister(host.data(), 6 * kMiB, 0));
  CHECK_EQ(cudaHostRegister(host.data(), 4096, 0), cudaErrorHostMemoryAlreadyRegistered);
  CHECK_EQ(cudaGetLastError(), cudaErrorHostMemoryAlreadyRegistered);
  cudaPointerAttributes attributes;
  CUDA(cudaPointerGetAttributes(&attributes, host.data()));
  CHECK_EQ(attributes.type, cudaMemoryTypeHost);
  CUDA(cudaHostUnregister(host.data()));
  CUDA(cudaPointerGetAttributes(&attributes, host.data()));
  CHECK_EQ(attributes.type, cudaMemoryTypeUnregistered);
  CUDA(cudaPointerGetAttributes(&attributes, device + 100));
  CHECK_EQ(attributes.type, cudaMemoryTypeDevice);
  // Managed memory is copied by the GPU, and evicted for cudaMalloc.
  int* managed = Managed<int>(16 * kMiB);
  CUDA(cudaPointerGetAttributes(&attributes, managed));
  CHECK_EQ(attributes.type, cudaMemoryTypeManaged);
  memset(managed, 0, 16 * kMiB);
  Launch(managed, 4 * kMiB, 4);
  CUDA(cudaDeviceSynchronize());
  void* large = nullptr;
  CHECK_EQ(cudaMalloc(&large, 60 * kMiB), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_EQ(Totals().evicted_bytes, 0u);
  CUDA(cudaMalloc(&large, 50 * kMiB));
  CHECK_EQ(Totals().evicted_bytes, 8 * kMiB);
  for (size_t i = 0; i < 4 * kMiB; ++i) CHECK_EQ(managed[i], 4);
  CUDA(cudaFree(large));
  // Small allocations share blocks, and give them back.
  std::vector<void*> small(1000);
  for (void*& piece : small) CUDA(cudaMalloc(&piece, 3000));
  CHECK(small[1] != small[0]);
  for (void* piece : small) CUDA(cudaFree(piece));
  CHECK_EQ(cudaFree(small[0]), cudaErrorInvalidValue);
  // In stream order.
  void* ordered = nullptr;
  CUDA(cudaMallocAsync(&ordered, kMiB, nullptr));
  CUDA(cudaMemsetAsync(ordered, 1, kMiB, nullptr));
  CUDA(cudaFreeAsync(ordered, nullptr));
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaFree(managed));
  CUDA(cudaFree(device));
  CUDA(cudaFreeHost(pinned));
  CUDA(cudaMemGetInfo(&free_now, &total));
  CHECK_EQ(free_now, free_before);
}

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
  Add<<<1, 1>>>(data, 1, 1);
  CHECK_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
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

// Virtual memory management: one piece of physical memory under two addresses.
void VirtualMemory() {
  CUDA(cudaFree(nullptr));
#define LOAD(name, export_name) auto* name = reinterpret_cast<decltype(&::name)>(FromDriver(export_name))
  LOAD(cuMemCreate, "cuMemCreate");
  LOAD(cuMemAddressReserve, "cuMemAddressReserve");
  LOAD(cuMemAddressFree, "cuMemAddressFree");
  LOAD(cuMemMap, "cuMemMap");
  LOAD(cuMemUnmap, "cuMemUnmap");
  LOAD(cuMemSetAccess, "cuMemSetAccess");
  LOAD(cuMemRelease, "cuMemRelease");
#undef LOAD
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  CUmemGenericAllocationHandle handle = 0;
  const size_t bytes = 2 * kMiB;
  CHECK_EQ(cuMemCreate(&handle, bytes, &properties, 0), CUDA_SUCCESS);
  CUdeviceptr range = 0;
  CHECK_EQ(cuMemAddressReserve(&range, 4 * bytes, 0, 0, 0), CUDA_SUCCESS);
  CHECK_EQ(cuMemMap(range, bytes, 0, handle, 0), CUDA_SUCCESS);
  CHECK_EQ(cuMemMap(range, bytes, 0, handle, 0), CUDA_ERROR_ALREADY_MAPPED);
  CHECK_EQ(cuMemMap(range + bytes, bytes, 0, handle, 0), CUDA_SUCCESS);
  CUmemAccessDesc access = {};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  CHECK_EQ(cuMemSetAccess(range, 2 * bytes, &access, 1), CUDA_SUCCESS);
  CHECK_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  size_t free_bytes = 0, total = 0;
  CUDA(cudaMemGetInfo(&free_bytes, &total));
  CHECK_EQ(free_bytes, total - bytes);
  int* first = reinterpret_cast<int*>(range);
  CUDA(cudaMemset(first, 0, bytes));
  Launch(first, bytes / 4, 3);
  int value = 0;
  CUDA(cudaMemcpy(&value, first + bytes / 4 + 10, 4, cudaMemcpyDeviceToHost));
  CHECK_EQ(value, 3);
  CHECK_EQ(cuMemAddressFree(range, 4 * bytes), CUDA_ERROR_INVALID_VALUE);
  CHECK_EQ(cuMemUnmap(range, bytes / 2), CUDA_ERROR_INVALID_VALUE);
  CHECK_EQ(cuMemUnmap(range, 2 * bytes), CUDA_SUCCESS);
  CUDA(cudaMemGetInfo(&free_bytes, &total));
  CHECK_EQ(free_bytes, total);
  CHECK_EQ(cuMemAddressFree(range, 4 * bytes), CUDA_SUCCESS);
}

// --- signals, fork and exit ---

int* volatile g_nowhere = nullptr;

void SegmentationFault() {
  int* data = Managed<int>(4096);
  *data = 1;
  *g_nowhere = 1;
}

void TouchDeviceMemory() {
  int* data = nullptr;
  CUDA(cudaMalloc(&data, 4096));
  *data = 1;
}

void UseAfterFree() {
  int* data = Managed<int>(4096);
  *data = 1;
  CUDA(cudaFree(data));
  *data = 2;
}

void RaiseSegv() {
  int* data = Managed<int>(4096);
  *data = 1;
  raise(SIGSEGV);
}

void* volatile g_caught_address = nullptr;
void HostHandler(int, siginfo_t* info, void*) {
  g_caught_address = info->si_addr;
  _exit(info->si_addr == reinterpret_cast<void*>(0x10) ? 21 : 22);
}
struct sigaction g_before_host;
void ChainingHostHandler(int number, siginfo_t* info, void* context) {
  if (info->si_addr == reinterpret_cast<void*>(0x10)) _exit(23);
  if ((g_before_host.sa_flags & SA_SIGINFO) != 0) {
    g_before_host.sa_sigaction(number, info, context);
  } else {
    signal(number, SIG_DFL);
  }
}
void Install(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &g_before_host);
}

void HandlerBefore() {
  Install(HostHandler);
  int* data = Managed<int>(4096);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 2);
  *reinterpret_cast<volatile int*>(0x10) = 1;
}

// Installed over ours, and does not chain: the next launch puts ours in front again.
void HandlerAfter() {
  int* data = Managed<int>(4096);
  Install(HostHandler);
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 1);
  *reinterpret_cast<volatile int*>(0x10) = 1;
}

void HandlerAfterChains() {
  int* data = Managed<int>(4096);
  Install(ChainingHostHandler);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 2);
  *reinterpret_cast<volatile int*>(0x10) = 1;
}

// As above, but the fault is nobody's: handing it back and forth must end, in the default.
void HandlersGiveUp() {
  int* data = Managed<int>(4096);
  Install(ChainingHostHandler);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  *g_nowhere = 1;
}

void Fork() {
  int* data = Managed<int>(4 * kMiB);
  for (size_t i = 0; i < kMiB; ++i) data[i] = 1;
  std::atomic<bool> stop{false};
  std::thread busy([&] {  // holds the engine's lock as often as it can
    while (!stop) {
      void* memory = nullptr;
      CUDA(cudaMallocManaged(&memory, 4096));
      *static_cast<int*>(memory) = 1;
      CUDA(cudaFree(memory));
    }
  });
  for (int round = 0; round < 20; ++round) {
    Launch(data, kMiB, 1);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      void* memory = nullptr;
      if (cudaMallocManaged(&memory, 4096) != cudaErrorInitializationError) _exit(1);
      if (cudaGetLastError() != cudaErrorInitializationError) _exit(2);
      int count = 0;
      if (cudaGetDeviceCount(&count) != cudaErrorInitializationError) _exit(3);
      if (round % 2 == 0) exit(5);  // with all destructors
      // The driver's mappings are not inherited.
      *static_cast<volatile int*>(data) = 1;
      _exit(4);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (round % 2 == 0) {
      CHECK(WIFEXITED(status));
      CHECK_EQ(WEXITSTATUS(status), 5);
    } else {
      CHECK(WIFSIGNALED(status));
      CHECK_EQ(WTERMSIG(status), SIGSEGV);
    }
  }
  stop = true;
  busy.join();
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(data[7], 21);
  // The children left the folder alone.
  CHECK(access(static_cast<const UvmsimHost*>(FromDriver("uvmsim_host"))->root, F_OK) == 0);
}

// A process that forks before it uses CUDA: the child may.
void ForkFirst() {
  const pid_t child = fork();
  if (child != 0) {
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  int* data = Managed<int>(4096);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 2);
}

void ExitWhileBusy() {
  int* data = Managed<int>(128 * kMiB);
  Forever<<<1, 1>>>(data, 128 * kMiB / sizeof(int));
  CUDA(cudaGetLastError());
  for (int t = 0; t < 3; ++t) {
    std::thread([data, t] {
      for (size_t i = 0;; i = (i + 4099) % kMiB) static_cast<volatile int*>(data)[t * kMiB + i] = 1;
    }).detach();
  }
  usleep(50000);
  exit(7);
}

// With no mapping to spare the pages of a block cannot get protections of their own: that ends, one way or the other.
void NoMappingsLeft() {
  int* data = Managed<int>(4 * kMiB);
  for (size_t i = 0; i < kMiB; ++i) data[i] = 1;
  Launch(data, kMiB, 1);
  CUDA(cudaDeviceSynchronize());
  for (;;) {  // neighbours that cannot be merged
    const int protection = rand() % 2 != 0 ? PROT_READ : PROT_READ | PROT_WRITE;
    static bool shared = false;
    shared = !shared;
    if (mmap(nullptr, 4096, protection, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0) == MAP_FAILED)
      break;
  }
  for (size_t i = 0; i < kMiB; i += 4096) CHECK_EQ(data[i], 2);
}

// --- CUPTI ---

std::map<int, unsigned long long> g_sums;  // by counter kind
std::map<int, unsigned long long> g_counts;
std::map<unsigned long long, int> g_batches;  // by end
unsigned long long g_pc_low = ~0ull, g_kernels = 0;
std::string g_kernel_name;
unsigned long long g_bad_records = 0;

void CUPTIAPI RequestBuffer(uint8_t** buffer, size_t* size, size_t* most) {
  *size = 64 * 1024;
  *most = 0;
  *buffer = static_cast<uint8_t*>(aligned_alloc(8, *size));
}

void CUPTIAPI CompleteBuffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
      ++g_kernels;
      g_kernel_name = kernel->name;
      g_bad_records += kernel->end <= kernel->start;
    } else if (record->kind == CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER) {
      const auto* counter = reinterpret_cast<const CUpti_ActivityUnifiedMemoryCounter3*>(record);
      const int kind = counter->counterKind;
      g_sums[kind] += counter->value;
      ++g_counts[kind];
      g_bad_records += counter->processId != static_cast<uint32_t>(getpid());
      if (kind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD) {
        g_bad_records += counter->srcId != 0xFFFFFFFF || counter->dstId != 0 || counter->end <= counter->start;
      }
      if (kind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH) {
        g_bad_records += counter->srcId != 0 || counter->dstId != 0xFFFFFFFF || counter->end <= counter->start;
      }
      if (kind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT) {
        ++g_batches[counter->end];
        g_bad_records += counter->srcId != 0 || counter->flags == 0;
      }
      if (kind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT) {
        g_bad_records += counter->end != 0;
        if (counter->value < g_pc_low) g_pc_low = counter->value;
      }
    } else {
      ++g_bad_records;
    }
  }
  free(buffer);
}

#define CUPTI(call) CHECK_EQ(call, CUPTI_SUCCESS)

void StartCupti() {
  CUpti_ActivityUnifiedMemoryCounterConfig config = {};
  config.scope = CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_SCOPE_PROCESS_SINGLE_DEVICE;
  config.kind = CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD;
  config.enable = 1;
  uint32_t version = 0;
  CUPTI(cuptiGetVersion(&version));
  CHECK_EQ(version, static_cast<uint32_t>(CUPTI_API_VERSION));
  CHECK_EQ(cuptiActivityConfigureUnifiedMemoryCounter(&config, 1), CUPTI_ERROR_NOT_INITIALIZED);
  CUDA(cudaFree(nullptr));
  CUPTI(cuptiActivityRegisterCallbacks(RequestBuffer, CompleteBuffer));
  for (int kind = 1; kind < CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_COUNT; ++kind) {
    config.kind = static_cast<CUpti_ActivityUnifiedMemoryCounterKind>(kind);
    CUPTI(cuptiActivityConfigureUnifiedMemoryCounter(&config, 1));
  }
  config.kind = static_cast<CUpti_ActivityUnifiedMemoryCounterKind>(77);
  CHECK_EQ(cuptiActivityConfigureUnifiedMemoryCounter(&config, 1), CUPTI_ERROR_INVALID_PARAMETER);
  CUPTI(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER));
  CUPTI(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
  config.kind = CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD;
  CHECK(cuptiActivityConfigureUnifiedMemoryCounter(&config, 1) != CUPTI_SUCCESS);
}

void RunKnownBytes(size_t megabytes) {
  const size_t count = megabytes * kMiB / sizeof(int);
  int* data = Managed<int>(megabytes * kMiB);
  for (size_t i = 0; i < count; ++i) data[i] = 1;
  Launch(data, count, 1);
  CUDA(cudaDeviceSynchronize());
  for (size_t i = 0; i < count; ++i) CHECK_EQ(data[i], 2);
}

// A client that flushes gets every byte.
void CuptiComplete() {
  StartCupti();
  RunKnownBytes(64);
  CUPTI(cuptiActivityFlushAll(0));
  CHECK_EQ(g_sums[CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD], 67108864u);
  CHECK_EQ(g_sums[CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH], 67108864u);
  CHECK_EQ(g_batches.size(), 32u * 6);
  CHECK_EQ(g_counts[CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT], 2u * 32 * 6);
  CHECK_EQ(g_bad_records, 0u);
  CHECK_EQ(g_kernels, 1u);
  CHECK(strstr(g_kernel_name.c_str(), "Add") != nullptr);
  // The program counter of a fault is in this very program's loop, or in memset.
  Dl_info where;
  CHECK(dladdr(reinterpret_cast<void*>(g_pc_low), &where) != 0);
  CHECK(strstr(where.dli_fname, "sim_program") != nullptr);
  CHECK_EQ(Table().dropped_memory(), 0u);
  char path[64];
  bool found = false;
  for (int tid = getpid(); tid < getpid() + 64; ++tid) {  // the thread of the driver's tools
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
    FILE* file = fopen(path, "r");
    if (file == nullptr) continue;
    char name[32] = {};
    found |= fgets(name, sizeof name, file) != nullptr && strcmp(name, "UVM Tools Event\n") == 0;
    fclose(file);
  }
  CHECK(found);
}

// One that does not loses what the queue cannot hold, and is not told.
void CuptiUnflushed() {
  StartCupti();
  for (int i = 0; i < 10; ++i) RunKnownBytes(64);
  CUPTI(cuptiActivityFlushAll(0));
  unsigned long long records = 0;
  for (const auto& [kind, count] : g_counts) records += count;
  CHECK_EQ(records, 8192u);
  CHECK(g_sums[CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD] < 10 * 67108864ull);
  size_t dropped = 0;
  CUPTI(cuptiActivityGetNumDroppedRecords(nullptr, 0, &dropped));
  CHECK_EQ(dropped, 0u);
  CHECK(Table().dropped_memory() > 0);
}

// A drain thread, as a profiler has one.
void CuptiDrained() {
  StartCupti();
  std::atomic<bool> stop{false};
  std::thread drain([&] {
    while (!stop) {
      CUPTI(cuptiActivityFlushAll(0));
      usleep(1000);
    }
  });
  for (int i = 0; i < 10; ++i) RunKnownBytes(64);
  stop = true;
  drain.join();
  CUPTI(cuptiActivityFlushAll(0));
  CHECK_EQ(Table().dropped_memory(), 0u);
  CHECK_EQ(g_sums[CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD], Totals().host_to_device_bytes);
  CHECK_EQ(g_sums[CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH], Totals().device_to_host_bytes);
  CHECK_EQ(g_kernels, 10u);
}

// What the environment said.
void Profile() {
  cudaDeviceProp properties;
  CUDA(cudaGetDeviceProperties(&properties, 0));
  printf("%s %zu\n", properties.name, properties.totalGlobalMem);
}

const std::map<std::string, std::function<void()>> kCases = {
    {"known-bytes", KnownBytes},
    {"oversubscribe", Oversubscribe},
    {"concurrent", Concurrent},
    {"bottom-half", BottomHalf},
    {"advice", Advice},
    {"memory", Memory},
    {"work", Work},
    {"unmodelled", Unmodelled},
    {"illegal-address", IllegalAddress},
    {"entry-points", EntryPoints},
    {"virtual-memory", VirtualMemory},
    {"segmentation-fault", SegmentationFault},
    {"touch-device-memory", TouchDeviceMemory},
    {"use-after-free", UseAfterFree},
    {"raise-segv", RaiseSegv},
    {"handler-before", HandlerBefore},
    {"handler-after", HandlerAfter},
    {"handler-after-chains", HandlerAfterChains},
    {"handlers-give-up", HandlersGiveUp},
    {"fork", Fork},
    {"fork-first", ForkFirst},
    {"exit-while-busy", ExitWhileBusy},
    {"no-mappings-left", NoMappingsLeft},
    {"cupti-complete", CuptiComplete},
    {"cupti-unflushed", CuptiUnflushed},
    {"cupti-drained", CuptiDrained},
    {"profile", Profile},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && kCases.count(argv[1]) != 0) {
    kCases.at(argv[1])();
    return 0;
  }
  fprintf(stderr, "usage: sim_program <case>\n");
  return 2;
}
