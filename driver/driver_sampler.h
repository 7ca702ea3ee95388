// What the kernel tells about the nvidia-uvm driver without privileges: the CPU time of its threads, its parameters,
// the CPU time of this process, the driver's own counters of what this process moved (exact_counters.h), and where its
// threads spend their time (bh_profiler.h).
//
// "UVM GPU<n> BH" services the page faults of one GPU for every process on the machine; "UVM Tools Event Queue" works
// only because a profiler is attached, so its time is our own cost. A sampler thread reads their schedstat, and the
// process's user and system time, every 10 ms while managed memory exists and ten times a second otherwise. In a
// container the threads may be invisible: the trace then says so. Memory (the host's, this process's, each device's) is
// sampled twice a second, the links' byte counters as link_pace.h says where pinned or registered memory exists.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

struct PerfCalls;   // driver/bh_profiler_access.h
struct ToolsCalls;  // driver/tools_interface.h
struct DeviceUuid;

struct DriverSamplerOptions {
  const char* root = "";  // "" or the folder that the simulator shows instead of /
  uint32_t period_us = 10'000;
  // CPU time of uvmtrace's other threads, for ProcessSampleEvent::tool_ns. May be null.
  uint64_t (*other_tool_threads_cpu_ns)() = nullptr;
  // Why the driver's own counters are not wanted; null: they are. They add about 3 % to a fault-driven phase.
  const char* exact_counters_off = nullptr;
  const ToolsCalls* tools = nullptr;  // null: the kernel's, and none under a root
  // CUDA's devices by ordinal: each gets counters of its own.
  const DeviceUuid* devices = nullptr;
  size_t device_count = 0;
  // Why samples of the bottom-half threads' stacks are not wanted; null: they are.
  const char* bottom_half_stacks_off = nullptr;
  const PerfCalls* perf = nullptr;  // null: the kernel's, and none under a root
  // Records a ToolSampleEvent: called by the sampler's thread about once a second while it samples. May be null.
  void (*record_own_cost)() = nullptr;
  // dlsym without the recorder's own doors; null: NVML (link counters, device memory) is not used.
  void* (*nvml_lookup)(void* library, const char* name) = nullptr;
};

// Opens the driver's counters before it returns. Its thread then reads module parameters, finds the driver's threads
// and their GPUs, and samples. Call once, after cuInit succeeded, when there is a context and before the first managed
// allocation is handed out. A BH thread exists only while a process uses unified memory on its GPU, so the search goes
// on until one is found.
void StartDriverSampler(const DriverSamplerOptions& options);

// Managed memory exists: sampled every period instead of ten times a second.
void SetDriverManagedMemoryLive(bool live);
// Memory exists that a GPU reads in place over its link: the link's counters are sampled. Any thread.
void SetDriverHostMemoryLive(bool live);

// One last sample of everything, then the thread ends. At most timeout_ms.
void FinishDriverSampler(int timeout_ms);

// CPU time so far of the sampler's thread, as of its last sample, and of the one that it has for stacks.
uint64_t DriverSamplerCpuNs();
uint64_t DriverProfilerCpuNs();

// In a forked child: forget.
void AbandonDriverSamplerAfterFork();

}  // namespace uvmtrace
