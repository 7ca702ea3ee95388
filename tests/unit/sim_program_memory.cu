// The cases of sim_program that are about memory: what is where, what moves, what it costs, and what each kind of it
// allows.
#include <cuda.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "sim/include/uvmsim_host.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

unsigned long long ThreadCpuNs(int tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/schedstat";
  FILE* file = fopen(path.c_str(), "r");
  CHECK(file != nullptr);
  unsigned long long run = 0;
  CHECK_EQ(fscanf(file, "%llu", &run), 1);
  fclose(file);
  return run;
}

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
      LaunchCheckAndBump(data, count, 100 + static_cast<int>(cycle), wrong);
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

}  // namespace

Cases MemoryCases() {
  return {
      {"known-bytes", KnownBytes},
      {"oversubscribe", Oversubscribe},
      {"concurrent", Concurrent},
      {"bottom-half", BottomHalf},
      {"advice", Advice},
      {"memory", Memory},
      {"virtual-memory", VirtualMemory},
  };
}

}  // namespace uvmsim::tests
