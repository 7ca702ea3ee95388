// A CUDA program that reads the simulated driver's tools interface as a profiler would: sim_tools_program <case>. Exits
// 0 if all is as it should be; says what is not. Here are the cases of what the driver tells; the readers that it
// refuses or loses are in sim_tools_program_readers.cu.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "sim/include/uvmsim.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_tools_program.h"

namespace uvmsim::tests {
namespace {

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

uint64_t RawNow() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Over the GPU's capacity, so that there are evictions too: queue, counters and model agree to the byte.
void Complete() {
  Initialize();
  Queue queue(1 << 20);
  Counters all;
  Counters gpu(1);
  Counters cpu(0);
  const uint64_t start = RawNow();
  const size_t bytes = 80 * kMiB;
  char* data = Managed<char>(bytes);
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
  char* data = Managed<char>(16 * kMiB);
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
  char* data = Managed<char>(kBlock);
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
  char* data = Managed<char>(8 * kBlock);
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
  char* data = Managed<char>(2 * kBlock);
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
  char* data = Managed<char>(kBlock);
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
  char* data = Managed<char>(kBlock);
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
  char* other = Managed<char>(kBlock);
  CUDA(cudaMemAdvise(other, kBlock, cudaMemAdviseSetPreferredLocation, {cudaMemLocationTypeDevice, 0}));
  const uint64_t before = gpu[kCounterCpuFaults];
  other[0] = 1;
  CHECK_EQ(gpu[kCounterCpuFaults], before + 1);
}

__global__ void Compute() {}
void ComputeOnHost(const UvmsimLaunch* launch) { uvmsim_compute(launch, 200e6); }
UVMSIM_REGISTER(Compute, ComputeOnHost);

// The host and the GPU take a page from each other: after three moves it thrashes, then who faults has to wait, after
// ten moves the page stays on the host and the GPU maps it there, for 150 ms. UVMTRACE_SIM_TIME_SCALE is 0.
void Thrashing() {
  Initialize();
  Queue queue(1 << 12);
  char* data = Managed<char>(kBlock);
  std::vector<uint64_t> moved;
  const auto turn = [&] {
    const uint64_t before = Totals().migrations;
    TouchOnGpu(data, 4096);
    TouchOnCpu(data, 4096);
    moved.push_back(Totals().migrations - before);
  };
  for (int i = 0; i < 12; ++i) turn();
  Flush();
  uint64_t thrashing = 0, waits[2] = {}, ends = 0, mapped = 0;
  for (const ToolsEntry& entry : queue.Drain()) {
    if (entry.type == kToolsThrashing) {
      CHECK_EQ(entry.thrashing.processors, 3u);
      CHECK(entry.thrashing.address - reinterpret_cast<uint64_t>(data) < 65536);
      thrashing += entry.thrashing.bytes;
    }
    if (entry.type == kToolsThrottlingStart) ++waits[entry.throttling.processor];
    if (entry.type == kToolsThrottlingEnd) ++ends;
    if (entry.type == kToolsMapRemote && entry.map_remote.cause == 2) mapped += entry.map_remote.bytes;
  }
  CHECK_EQ(thrashing, 65536u);  // what one fault brings
  CHECK(waits[0] >= 3 && waits[1] >= 3);
  CHECK_EQ(ends, waits[0] + waits[1]);
  CHECK_EQ(mapped, 4096u);
  CHECK(moved[3] > 0 && moved[8] == 0 && moved[11] == 0);
  Compute<<<1, 1>>>();  // 200 ms: the pin is over
  CUDA(cudaDeviceSynchronize());
  turn();
  CHECK(moved.back() > 0);
}

// A GPU whose memory is too small for what it reads evicts, and that is not thrashing.
void CapacityIsNoThrashing() {
  Initialize();
  Queue queue(1 << 20);
  constexpr size_t kBytes = 80u << 20;
  char* data = Managed<char>(kBytes);
  for (int i = 0; i < 3; ++i) TouchOnGpu(data, kBytes);
  CHECK(Totals().evicted_bytes > kBytes);
  Flush();
  for (const ToolsEntry& entry : queue.Drain())
    CHECK(entry.type != kToolsThrashing && entry.type != kToolsThrottlingStart);
}

void FatalFault() {
  Initialize();
  Queue queue(64);
  char* data = Managed<char>(kBlock);
  CUDA(cudaFree(data));
  Touch<<<1, 32>>>(data + 8192, 1);
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  const std::vector<ToolsEntry> entries = queue.Drain();
  CHECK_EQ(entries.size(), 1u);
  CHECK_EQ(entries[0].type, kToolsFatalFault);
  CHECK_EQ(entries[0].fatal_fault.address, reinterpret_cast<uint64_t>(data) + 8192);
  CHECK_EQ(entries[0].fatal_fault.processor, 1);
}

Cases AllCases() {
  Cases all = {
      {"complete", Complete},
      {"overflow", Overflow},
      {"late", Late},
      {"wakes", Wakes},
      {"cpu-faults", CpuFaults},
      {"read-duplication", ReadDuplication},
      {"remote-maps", RemoteMaps},
      {"fatal-fault", FatalFault},
      {"thrashing", Thrashing},
      {"capacity", CapacityIsNoThrashing},
  };
  all.merge(ReaderCases());
  return all;
}

}  // namespace

void TouchOnGpu(char* data, size_t bytes) {
  Touch<<<64, 256>>>(data, bytes);
  CUDA(cudaGetLastError());
  CUDA(cudaDeviceSynchronize());
}

void TouchOnCpu(volatile char* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 4096) data[i] = data[i] + 1;
}

}  // namespace uvmsim::tests

int main(int argc, char** argv) {
  const uvmsim::tests::Cases cases = uvmsim::tests::AllCases();
  const auto found = argc == 2 ? cases.find(argv[1]) : cases.end();
  if (found == cases.end()) {
    fprintf(stderr, "usage: sim_tools_program <case>\n");
    return 2;
  }
  found->second();
  return 0;
}
