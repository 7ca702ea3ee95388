// The cases of sim_program that read unified-memory records through the simulated CUPTI: in time, too late, and from a
// thread of their own, as profilers do.
#include <cupti.h>
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>

#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

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

}  // namespace

Cases CuptiCases() {
  return {
      {"cupti-complete", CuptiComplete},
      {"cupti-unflushed", CuptiUnflushed},
      {"cupti-drained", CuptiDrained},
  };
}

}  // namespace uvmsim::tests
