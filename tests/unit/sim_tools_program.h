// The driver's tools interface as a profiler uses it, for the cases of sim_tools_program: queues of events, trackers of
// counters, what a queue's events add up to, and memory that the CPU and the GPU touch.
#pragma once

#include <dlfcn.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "sim/engine/driver_tools_abi.h"
#include "sim/include/uvmsim_host.h"
#include "tests/unit/sim_check.h"

namespace uvmsim::tests {

inline constexpr size_t kBlock = 2 * kMiB;

// CUDA starts; before, there is no address space to read.
inline void Initialize() { CUDA(cudaFree(nullptr)); }

// Adds one to each of `bytes` bytes, and waits.
void TouchOnGpu(char* data, size_t bytes);

// Every page, so that no count depends on the prefetcher.
__attribute__((noinline)) void TouchOnCpu(volatile char* data, size_t bytes);

inline const UvmsimTools& Tools() {
  const auto* host = static_cast<const UvmsimHost*>(FromDriver("uvmsim_host", RTLD_NOW));
  CHECK(host->version >= 2 && host->tools != nullptr);
  return *host->tools;
}

inline int VaSpace() {
  int found[4];
  CHECK_EQ(Tools().find_va_spaces(found, 4), 1u);
  return found[0];
}

inline void Flush() {
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

inline uint32_t SetFlags(int descriptor, unsigned long number, uint64_t flags) {
  FlagsArgument argument = {flags, 99};
  CHECK_EQ(Tools().control(descriptor, number, &argument), 0);
  return argument.status;
}

constexpr uint64_t Bit(ToolsEventType type) { return uint64_t{1} << type; }
inline constexpr uint64_t kEverything = kToolsValidEvents;

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

// Readers that the driver refuses, or that go away.
Cases ReaderCases();

}  // namespace uvmsim::tests
