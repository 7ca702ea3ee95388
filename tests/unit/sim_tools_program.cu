// A CUDA program that reads the simulated driver's tools interface as a profiler would: sim_tools_program <case>. Exits
// 0 if all is as it should be; says what is not.
#include <cuda.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "sim/engine/driver_tools_abi.h"
#include "sim/engine/tables.h"
#include "sim/include/uvmsim.h"
#include "sim/include/uvmsim_host.h"

namespace {

using namespace uvmsim;

constexpr size_t kMiB = 1 << 20;
constexpr size_t kBlock = 2 * kMiB;

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

__global__ void Touch(char* data, size_t bytes) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < bytes; i += step) data[i] += 1;
}
void TouchOnHost(const UvmsimLaunch* launch) {
  UvmsimForEachSpan(launch, UvmsimArgument<char*>(launch, 0), UvmsimArgument<size_t>(launch, 1), UVMSIM_READ_WRITE,
                    [](char* span, size_t n, size_t) {
                      for (size_t i = 0; i < n; ++i) span[i] += 1;
                    });
}
UVMSIM_REGISTER(Touch, TouchOnHost);

__global__ void Read(const char* data, size_t bytes, int* out) {
  if (threadIdx.x < bytes) *out = data[threadIdx.x];
}
void ReadOnHost(const UvmsimLaunch* launch) {
  UvmsimForEachSpan(launch, UvmsimArgument<const char*>(launch, 0), UvmsimArgument<size_t>(launch, 1), UVMSIM_READ,
                    [](const char*, size_t, size_t) {});
}
UVMSIM_REGISTER(Read, ReadOnHost);

void TouchOnGpu(char* data, size_t bytes) {
  Touch<<<64, 256>>>(data, bytes);
  CUDA(cudaGetLastError());
  CUDA(cudaDeviceSynchronize());
}

// Every page, so that no count depends on the prefetcher.
__attribute__((noinline)) void TouchOnCpu(volatile char* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 4096) data[i] = data[i] + 1;
}

char* Managed(size_t bytes) {
  void* memory = nullptr;
  CUDA(cudaMallocManaged(&memory, bytes));
  return static_cast<char*>(memory);
}

void* FromDriver(const char* name) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  CHECK(driver != nullptr);
  void* symbol = dlsym(driver, name);
  CHECK(symbol != nullptr);
  return symbol;
}

const UvmsimTools& Tools() {
  const auto* host = static_cast<const UvmsimHost*>(FromDriver("uvmsim_host"));
  CHECK(host->version >= 2 && host->tools != nullptr);
  return *host->tools;
}

EngineTotals Totals() {
  EngineTotals totals;
  static_cast<const CuptiTable*>(FromDriver("uvmsim_cupti_table"))->totals(&totals);
  return totals;
}

uint64_t RawNow() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int VaSpace() {
  int found[4];
  CHECK_EQ(Tools().find_va_spaces(found, 4), 1u);
  return found[0];
}

void Flush() {
  FlushArgument argument = {99};
  CHECK_EQ(Tools().control(VaSpace(), kFlushEvents, &argument), 0);
  CHECK_EQ(argument.status, 0u);
}

template <typename Word>
Word* Pages(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return static_cast<Word*>(memory);
}

uint32_t SetFlags(int descriptor, unsigned long number, uint64_t flags) {
  FlagsArgument argument = {flags, 99};
  CHECK_EQ(Tools().control(descriptor, number, &argument), 0);
  return argument.status;
}

constexpr uint64_t Bit(ToolsEventType type) { return uint64_t{1} << type; }
constexpr uint64_t kEverything = kToolsValidEvents;

class Queue {
 public:
  explicit Queue(uint32_t entries, uint64_t events = kEverything) : entries_(entries) {
    descriptor = Tools().open_device();
    CHECK(descriptor >= 0);
    ring = Pages<ToolsEntry>(entries * sizeof(ToolsEntry));
    control = Pages<ToolsControl>(4096);
    InitEventTrackerArgument argument = {};
    argument.queue = reinterpret_cast<uint64_t>(ring);
    argument.queue_entries = entries;
    argument.control = reinterpret_cast<uint64_t>(control);
    argument.all_processors = 1;
    argument.va_space_descriptor = static_cast<uint32_t>(VaSpace());
    argument.status = 99;
    CHECK_EQ(Tools().control(descriptor, kInitEventTracker, &argument), 0);
    CHECK_EQ(argument.status, 0u);
    CHECK_EQ(SetFlags(descriptor, kEnableEvents, events), 0u);
  }
  std::vector<ToolsEntry> Drain() {
    std::vector<ToolsEntry> read;
    uint32_t get = __atomic_load_n(&control->get_behind, __ATOMIC_RELAXED);
    const uint32_t put = __atomic_load_n(&control->put_behind, __ATOMIC_ACQUIRE);
    for (; get != put; get = (get + 1) & (entries_ - 1)) read.push_back(ring[get]);
    __atomic_store_n(&control->get_ahead, get, __ATOMIC_RELEASE);
    __atomic_store_n(&control->get_behind, get, __ATOMIC_RELEASE);
    return read;
  }
  bool Readable(int timeout_ms) const {
    pollfd wanted = {descriptor, POLLIN, 0};
    return poll(&wanted, 1, timeout_ms) == 1 && (wanted.revents & POLLIN) != 0;
  }

  int descriptor;
  ToolsEntry* ring;
  ToolsControl* control;

 private:
  uint32_t entries_;
};

class Counters {
 public:
  // Of all processors, or of number `processor` in the table.
  explicit Counters(int processor = -1) {
    uint8_t uuids[kToolsProcessors][16];
    UuidTableArgument table = {reinterpret_cast<uint64_t>(uuids), 99};
    CHECK_EQ(Tools().control(VaSpace(), kGetProcessorUuidTable, &table), 0);
    CHECK_EQ(table.status, 0u);
    descriptor = Tools().open_device();
    values = Pages<uint64_t>(4096);
    InitEventTrackerArgument argument = {};
    argument.control = reinterpret_cast<uint64_t>(values);
    argument.all_processors = processor < 0;
    if (processor >= 0) memcpy(argument.processor, uuids[processor], 16);
    argument.va_space_descriptor = static_cast<uint32_t>(VaSpace());
    CHECK_EQ(Tools().control(descriptor, kInitEventTracker, &argument), 0);
    CHECK_EQ(argument.status, 0u);
    CHECK_EQ(SetFlags(descriptor, kEnableCounters, 0x387), 0u);
  }
  uint64_t operator[](ToolsCounter counter) const { return __atomic_load_n(&values[counter], __ATOMIC_RELAXED); }
  int descriptor;
  uint64_t* values;
};

struct Sums {
  explicit Sums(const std::vector<ToolsEntry>& entries) {
    for (const ToolsEntry& entry : entries) {
      ++count[entry.type];
      if (entry.type == kToolsMigration) {
        CHECK((entry.migration.source == 0) != (entry.migration.destination == 0));
        (entry.migration.source == 0 ? to_device : to_host) += entry.migration.bytes;
        by_cause[entry.migration.cause] += entry.migration.bytes;
        CHECK(entry.migration.begin <= entry.migration.end);
      } else if (entry.type == kToolsGpuFault) {
        faults.insert({entry.gpu_fault.batch, entry.gpu_fault.address});
        CHECK_EQ(entry.gpu_fault.gpu, 1);
      } else if (entry.type == kToolsGpuFaultReplay) {
        replays.insert(entry.replay.batch);
      }
    }
  }
  std::map<int, uint64_t> count;
  std::map<int, uint64_t> by_cause;
  uint64_t to_device = 0;
  uint64_t to_host = 0;
  std::set<std::pair<uint32_t, uint64_t>> faults;  // batch and page
  std::set<uint32_t> replays;
};

void Initialize() { CUDA(cudaFree(nullptr)); }

// --- cases ---

// Over the GPU's capacity, so that there are evictions too: queue, counters and model agree to the byte.
void Complete() {
  Initialize();
  Queue queue(1 << 20);
  Counters all;
  Counters gpu(1);
  Counters cpu(0);
  const uint64_t start = RawNow();
  const size_t bytes = 80 * kMiB;
  char* data = Managed(bytes);
  TouchOnCpu(data, bytes);
  TouchOnGpu(data, bytes);
  TouchOnCpu(data, bytes);
  CUDA(cudaMemPrefetchAsync(data, 16 * kMiB, {cudaMemLocationTypeDevice, 0}, 0, nullptr));
  CUDA(cudaMemPrefetchAsync(data, 16 * kMiB, {cudaMemLocationTypeHost, 0}, 0, nullptr));
  CUDA(cudaDeviceSynchronize());
  Flush();
  const std::vector<ToolsEntry> entries = queue.Drain();
  const Sums sums(entries);
  const EngineTotals totals = Totals();
  CHECK_EQ(totals.host_to_device_bytes, 96 * kMiB);
  CHECK_EQ(totals.device_to_host_bytes, 96 * kMiB);
  CHECK_EQ(sums.to_device, totals.host_to_device_bytes);
  CHECK_EQ(sums.to_host, totals.device_to_host_bytes);
  CHECK(totals.evicted_bytes >= 16 * kMiB);
  CHECK_EQ(sums.by_cause.at(4), totals.evicted_bytes);
  CHECK_EQ(sums.by_cause.at(1), 32 * kMiB);
  CHECK_EQ(sums.count.at(kToolsCpuFault), totals.cpu_faults);
  CHECK_EQ(sums.faults.size(), totals.gpu_faults);
  // The kernel touched each page as a whole: four warps.
  CHECK_EQ(sums.count.at(kToolsGpuFault), 4 * totals.gpu_faults);
  CHECK_EQ(sums.replays.size(), totals.gpu_fault_batches);
  CHECK_EQ(sums.count.at(kToolsGpuFaultReplay), totals.gpu_fault_batches);
  CHECK_EQ(sums.count.at(kToolsMigration), totals.migrations);
  for (const Counters* counters : {&all, &gpu}) {
    CHECK_EQ((*counters)[kCounterHostToDeviceBytes], totals.host_to_device_bytes);
    CHECK_EQ((*counters)[kCounterDeviceToHostBytes], totals.device_to_host_bytes);
    CHECK_EQ((*counters)[kCounterGpuFaults], totals.gpu_faults);
    CHECK_EQ(counters->values[7] + counters->values[8], 0u);
  }
  CHECK_EQ(all[kCounterCpuFaults], totals.cpu_faults);
  CHECK_EQ(gpu[kCounterCpuFaults], 0u);
  CHECK_EQ(cpu[kCounterCpuFaults], totals.cpu_faults);
  CHECK_EQ(cpu[kCounterHostToDeviceBytes] + cpu[kCounterDeviceToHostBytes] + cpu[kCounterGpuFaults], 0u);
  for (uint64_t dropped : queue.control->dropped) CHECK_EQ(dropped, 0u);

  // Times are of CLOCK_MONOTONIC_RAW, and every batch's faults come before its replay.
  const uint64_t end = RawNow();
  std::map<uint32_t, uint64_t> last_fault;
  for (const ToolsEntry& entry : entries) {
    uint64_t time = 0;
    if (entry.type == kToolsCpuFault) time = entry.cpu_fault.time;
    if (entry.type == kToolsMigration) time = entry.migration.begin;
    if (entry.type == kToolsGpuFault) {
      time = entry.gpu_fault.time;
      last_fault[entry.gpu_fault.batch] = std::max(last_fault[entry.gpu_fault.batch], time);
    }
    if (entry.type == kToolsGpuFaultReplay) {
      time = entry.replay.time;
      CHECK(last_fault.count(entry.replay.batch) == 1 && last_fault[entry.replay.batch] <= time);
    }
    CHECK(start <= time && time <= end);
  }
}

// A reader that does not read: what fits is there, the rest is counted by type.
void Overflow() {
  Initialize();
  constexpr uint32_t kEntries = 256;
  Queue queue(kEntries);
  char* data = Managed(16 * kMiB);
  TouchOnCpu(data, 16 * kMiB);
  TouchOnGpu(data, 16 * kMiB);
  Flush();
  const Sums sums(queue.Drain());
  const EngineTotals totals = Totals();
  const auto seen = [&](ToolsEventType type) {
    const auto found = sums.count.find(type);
    return queue.control->dropped[type] + (found == sums.count.end() ? 0 : found->second);
  };
  CHECK_EQ(seen(kToolsCpuFault), totals.cpu_faults);
  CHECK_EQ(seen(kToolsGpuFault), 4 * totals.gpu_faults);
  CHECK_EQ(seen(kToolsMigration), totals.migrations);
  CHECK_EQ(seen(kToolsGpuFaultReplay), totals.gpu_fault_batches);
  uint64_t delivered = 0;
  for (const auto& [type, count] : sums.count) delivered += count;
  CHECK_EQ(delivered, kEntries - 1);  // one entry always stays free
  CHECK(queue.control->dropped[kToolsMigration] > 0);
  // It is usable again once it was read.
  const uint64_t dropped = queue.control->dropped[kToolsGpuFault];
  TouchOnCpu(data, kBlock);
  CHECK(queue.Drain().size() > 0);
  CHECK_EQ(queue.control->dropped[kToolsGpuFault], dropped);
}

// The last batch's migrations and replay wait for the next one, or for a flush.
void Late() {
  Initialize();
  Queue queue(1 << 12);
  char* data = Managed(kBlock);
  TouchOnCpu(data, kBlock);
  Flush();
  queue.Drain();
  TouchOnGpu(data, 4096);
  usleep(50'000);
  const Sums before(queue.Drain());
  CHECK_EQ(before.faults.size(), 1u);
  CHECK_EQ(before.count.count(kToolsMigration) + before.count.count(kToolsGpuFaultReplay), 0u);
  TouchOnGpu(data + kMiB, 4096);  // progress
  for (int i = 0; i < 1000 && queue.control->put_behind == queue.control->get_behind; ++i) usleep(1000);
  usleep(50'000);
  const Sums next(queue.Drain());
  CHECK_EQ(next.faults.size(), 1u);
  CHECK_EQ(next.to_device, 65536u);
  CHECK_EQ(next.replays.size(), 1u);
  CHECK_EQ(*next.replays.begin(), before.faults.begin()->first);
  Flush();
  const Sums flushed(queue.Drain());
  CHECK_EQ(flushed.to_device, 65536u);
  CHECK_EQ(flushed.replays.size(), 1u);
  CHECK_EQ(flushed.faults.size(), 0u);

  // What is disabled before it was delivered is gone, although it was asked for when it happened.
  TouchOnGpu(data + kMiB / 2, 4096);
  CHECK_EQ(SetFlags(queue.descriptor, kDisableEvents, Bit(kToolsMigration)), 0u);
  Flush();
  const Sums disabled(queue.Drain());
  CHECK_EQ(disabled.count.count(kToolsMigration), 0u);
  CHECK_EQ(disabled.replays.size(), 1u);
  CHECK_EQ(queue.control->dropped[kToolsMigration], 0u);
}

void Wakes() {
  Initialize();
  Queue queue(64, Bit(kToolsCpuFault));
  ThresholdArgument threshold = {5, 99};
  CHECK_EQ(Tools().control(queue.descriptor, kSetNotificationThreshold, &threshold), 0);
  CHECK_EQ(threshold.status, 0u);
  char* data = Managed(8 * kBlock);
  for (int i = 0; i < 4; ++i) data[i * kBlock] = 1;
  CHECK(!queue.Readable(20));
  std::thread waiter([&] { CHECK(queue.Readable(10'000)); });
  usleep(20'000);
  data[4 * kBlock] = 1;
  waiter.join();
  CHECK(queue.Readable(0));  // a level, and not an edge
  CHECK_EQ(queue.Drain().size(), 5u);
  for (int i = 0; i < 1000 && queue.Readable(0); ++i) usleep(1000);
  CHECK(!queue.Readable(0));
  data[5 * kBlock] = 1;
  CHECK(!queue.Readable(20));
  threshold.threshold = 1;
  CHECK_EQ(Tools().control(queue.descriptor, kSetNotificationThreshold, &threshold), 0);
  CHECK(queue.Readable(1000));
}

// The address of the instruction, and the thread, that faulted.
void CpuFaults() {
  Initialize();
  Queue queue(1 << 12, Bit(kToolsCpuFault));
  char* data = Managed(2 * kBlock);
  std::atomic<pid_t> thread_id{0};
  std::thread thread([&] {
    thread_id = gettid();
    TouchOnCpu(data + kBlock + 4096, 1);
  });
  thread.join();
  const std::vector<ToolsEntry> entries = queue.Drain();
  CHECK_EQ(entries.size(), 1u);
  const CpuFaultEntry& fault = entries[0].cpu_fault;
  CHECK_EQ(fault.thread, static_cast<uint32_t>(thread_id));
  CHECK(fault.thread != static_cast<uint32_t>(getpid()));
  CHECK_EQ(fault.process, static_cast<uint32_t>(getpid()));
  CHECK_EQ(fault.address, reinterpret_cast<uint64_t>(data) + kBlock + 4096);
  const uint64_t function = reinterpret_cast<uint64_t>(&TouchOnCpu);
  CHECK(fault.program_counter >= function && fault.program_counter < function + 512);
  CHECK(fault.cpu < 4096);
}

void ReadDuplication() {
  Initialize();
  Queue queue(1 << 12);
  char* data = Managed(kBlock);
  TouchOnCpu(data, kBlock);
  CUDA(cudaMemAdvise(data, kBlock, cudaMemAdviseSetReadMostly, {cudaMemLocationTypeDevice, 0}));
  Read<<<1, 64>>>(data, kBlock, nullptr);
  CUDA(cudaDeviceSynchronize());
  TouchOnCpu(data, 2 * 4096);  // writes: two pages have one copy again
  Flush();
  uint64_t duplicated = 0;
  std::set<uint64_t> invalidated;
  for (const ToolsEntry& entry : queue.Drain()) {
    if (entry.type == kToolsReadDuplicate) {
      CHECK_EQ(entry.read_duplicate.processors, 3u);  // CPU and GPU 1
      duplicated += entry.read_duplicate.bytes;
      CHECK_EQ(entry.read_duplicate.bytes, 4096u);
    } else if (entry.type == kToolsReadDuplicateInvalidate) {
      CHECK_EQ(entry.read_duplicate_invalidate.resident, 0);
      invalidated.insert(entry.read_duplicate_invalidate.address);
    }
  }
  CHECK_EQ(duplicated, kBlock);
  CHECK_EQ(invalidated.size(), 2u);
  CHECK_EQ(*invalidated.begin(), reinterpret_cast<uint64_t>(data));
}

void RemoteMaps() {
  Initialize();
  Queue queue(1 << 12);
  Counters gpu(1);
  char* data = Managed(kBlock);
  TouchOnCpu(data, kBlock);
  CUDA(cudaMemAdvise(data, kBlock, cudaMemAdviseSetPreferredLocation, {cudaMemLocationTypeHost, 0}));
  CUDA(cudaMemAdvise(data, kBlock, cudaMemAdviseSetAccessedBy, {cudaMemLocationTypeDevice, 0}));
  Flush();
  uint64_t mapped = 0;
  for (const ToolsEntry& entry : queue.Drain()) {
    if (entry.type != kToolsMapRemote) continue;
    CHECK_EQ(entry.map_remote.processor, 1);
    CHECK_EQ(entry.map_remote.memory, 0);
    CHECK_EQ(entry.map_remote.cause, 3);
    mapped += entry.map_remote.bytes;
  }
  CHECK_EQ(mapped, kBlock);
  // A CPU fault on memory that prefers the GPU counts there as well.
  char* other = Managed(kBlock);
  CUDA(cudaMemAdvise(other, kBlock, cudaMemAdviseSetPreferredLocation, {cudaMemLocationTypeDevice, 0}));
  const uint64_t before = gpu[kCounterCpuFaults];
  other[0] = 1;
  CHECK_EQ(gpu[kCounterCpuFaults], before + 1);
}

void FatalFault() {
  Initialize();
  Queue queue(64);
  char* data = Managed(kBlock);
  CUDA(cudaFree(data));
  Touch<<<1, 32>>>(data + 8192, 1);
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  const std::vector<ToolsEntry> entries = queue.Drain();
  CHECK_EQ(entries.size(), 1u);
  CHECK_EQ(entries[0].type, kToolsFatalFault);
  CHECK_EQ(entries[0].fatal_fault.address, reinterpret_cast<uint64_t>(data) + 8192);
  CHECK_EQ(entries[0].fatal_fault.processor, 1);
}

void Refuses() {
  const UvmsimTools& tools = Tools();
  int found[2];
  CHECK_EQ(tools.find_va_spaces(found, 2), 0u);  // CUDA has not started
  const int early = tools.open_device();
  CHECK(early >= 0);
  InitEventTrackerArgument argument = {};
  ToolsEntry* ring = Pages<ToolsEntry>(64 * sizeof(ToolsEntry));
  argument.queue = reinterpret_cast<uint64_t>(ring);
  argument.queue_entries = 64;
  argument.control = reinterpret_cast<uint64_t>(Pages<char>(4096));
  argument.va_space_descriptor = static_cast<uint32_t>(early);
  const auto initialize = [&](int descriptor) {
    InitEventTrackerArgument copy = argument;
    copy.status = 99;
    CHECK_EQ(tools.control(descriptor, kInitEventTracker, &copy), 0);
    return copy.status;
  };
  CHECK_EQ(initialize(early), kStatusInsufficientPermissions);
  Initialize();
  argument.va_space_descriptor = 0;
  CHECK_EQ(initialize(early), kStatusInsufficientPermissions);
  argument.va_space_descriptor = static_cast<uint32_t>(VaSpace());
  for (uint64_t entries : {uint64_t{1}, uint64_t{3}, uint64_t{63}, uint64_t{1} << 33}) {
    argument.queue_entries = entries;
    CHECK_EQ(initialize(early), kStatusInvalidArgument);
  }
  argument.queue_entries = 64;
  argument.queue += 64;
  CHECK_EQ(initialize(early), kStatusInvalidAddress);
  argument.queue = 4096;  // nothing is mapped there
  CHECK_EQ(initialize(early), kStatusInvalidArgument);
  argument.queue = reinterpret_cast<uint64_t>(Managed(kBlock));
  CHECK_EQ(initialize(early), kStatusInvalidArgument);
  argument.queue = reinterpret_cast<uint64_t>(ring);
  CHECK_EQ(SetFlags(early, kEnableEvents, 2), kStatusInvalidArgument);  // no tracker yet
  CHECK_EQ(tools.control(early, kInitEventTrackerV2, &argument), 0);
  CHECK_EQ(argument.status, kStatusNotSupported);
  // A copy of the descriptor is as good, and the original may be closed.
  const int copy = fcntl(early, F_DUPFD_CLOEXEC, 300);
  close(early);
  CHECK_EQ(initialize(copy), kStatusOk);
  CHECK_EQ(initialize(copy), kStatusInvalidArgument);  // once only
  CHECK_EQ(SetFlags(copy, kEnableCounters, 1), kStatusInvalidArgument);
  CHECK_EQ(SetFlags(copy, kEnableEvents, uint64_t{1} << 62), kStatusInvalidArgument);
  CHECK_EQ(SetFlags(copy, kEnableEvents, 1), kStatusInvalidArgument);
  CHECK_EQ(SetFlags(copy, kEnableEvents, kEverything), kStatusOk);
  FlushArgument flush = {};
  CHECK(tools.control(copy, 4711, &flush) == -1 && errno == EINVAL);
  CHECK(tools.control(VaSpace(), kEnableEvents, &flush) == -1 && errno == EINVAL);
  CHECK(tools.control(1, kFlushEvents, &flush) == -1 && errno == ENOTTY);
  CHECK(tools.control(-1, kFlushEvents, &flush) == -1 && errno == EBADF);
  CHECK(tools.control(copy, kEnableEvents, nullptr) == -1 && errno == EFAULT);
}

// A reader that goes away while the driver writes, with and without its memory, or that writes nonsense.
void Vanishes() {
  Initialize();
  char* data = Managed(32 * kMiB);
  TouchOnCpu(data, 32 * kMiB);
  std::atomic<bool> stop{false};
  std::thread gpu([&] {
    while (!stop) {
      TouchOnGpu(data, 32 * kMiB);
      CUDA(cudaMemPrefetchAsync(data, 32 * kMiB, {cudaMemLocationTypeHost, 0}, 0, nullptr));
      CUDA(cudaDeviceSynchronize());
    }
  });
  for (int round = 0; round < 30; ++round) {
    Queue queue(1 << 10);
    Counters counters;
    usleep(2000);
    if (round % 3 == 0) munmap(queue.ring, 64 << 10);  // pinned: the driver goes on
    if (round % 3 == 1) {
      queue.control->get_behind = 0xdeadbeef;
      queue.control->put_behind = 0x12345678;
      queue.control->get_ahead = 0xffffffff;
      usleep(2000);
    }
    close(queue.descriptor);
    if (round % 3 != 0) munmap(queue.ring, 64 << 10);
    munmap(queue.control, 4096);
    close(counters.descriptor);
    munmap(counters.values, 4096);
  }
  stop = true;
  gpu.join();
}

void Fork() {
  Initialize();
  Queue queue(1 << 12);
  Counters counters;
  char* data = Managed(kBlock);
  const pid_t child = fork();
  if (child == 0) {
    int found[2];
    CHECK_EQ(Tools().find_va_spaces(found, 2), 0u);
    CHECK(Tools().open_device() == -1 && errno == ENODEV);
    FlagsArgument flags = {kEverything, 0};
    CHECK(Tools().control(queue.descriptor, kEnableEvents, &flags) == -1 && errno == ENODEV);
    close(queue.descriptor);
    _exit(33);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
  data[0] = 1;
  CHECK_EQ(counters[kCounterCpuFaults], 1u);
  CHECK_EQ(queue.Drain().size(), 1u);
}

// A program that becomes a daemon closes all that it finds, and gets the numbers for files of its own.
void EverythingClosed() {
  Initialize();
  Queue queue(64, Bit(kToolsCpuFault));
  ThresholdArgument threshold = {1, 0};
  CHECK_EQ(Tools().control(queue.descriptor, kSetNotificationThreshold, &threshold), 0);
  char* data = Managed(8 * kBlock);
  char name[] = "/tmp/uvmsim-closed-XXXXXX";
  const int file = mkstemp(name);
  CHECK(file >= 0);
  unlink(name);
  std::vector<int> closed;
  for (int i = 3; i < 1024; ++i) {
    if (i != file && fcntl(i, F_GETFD) >= 0) closed.push_back(i);
  }
  for (int i : closed) CHECK_EQ(dup2(file, i), i);
  for (int i = 0; i < 8; ++i) {
    data[i * kBlock] = 1;
    usleep(2000);
    queue.Drain();
  }
  TouchOnGpu(data, kBlock);
  CHECK_EQ(lseek(file, 0, SEEK_END), 0);  // nobody wrote into it
  int found[2];
  CHECK_EQ(Tools().find_va_spaces(found, 2), 0u);
}

const std::map<std::string, void (*)()> kCases = {
    {"complete", Complete},
    {"overflow", Overflow},
    {"late", Late},
    {"wakes", Wakes},
    {"cpu-faults", CpuFaults},
    {"read-duplication", ReadDuplication},
    {"remote-maps", RemoteMaps},
    {"fatal-fault", FatalFault},
    {"refuses", Refuses},
    {"vanishes", Vanishes},
    {"fork", Fork},
    {"everything-closed", EverythingClosed},
};

}  // namespace

int main(int argc, char** argv) {
  const auto found = argc == 2 ? kCases.find(argv[1]) : kCases.end();
  if (found == kCases.end()) {
    fprintf(stderr, "usage: sim_tools_program <case>\n");
    return 2;
  }
  found->second();
  return 0;
}
