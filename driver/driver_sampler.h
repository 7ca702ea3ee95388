// What the kernel tells about the nvidia-uvm driver without privileges: the CPU time of its threads, its parameters,
// and the CPU time of this process.
//
// "UVM GPU<n> BH" services the page faults of one GPU for every process on the machine; "UVM Tools Event Queue" works
// only because a profiler is attached, so its time is our own cost. A sampler thread reads their schedstat, and the
// process's user and system time, every 10 ms while managed memory exists. In a container the threads may be invisible:
// the trace then says so.
#pragma once

#include <cstdint>

namespace uvmtrace {

struct DriverSamplerOptions {
  const char* root = "";  // "" or the folder that the simulator shows instead of /
  uint32_t period_us = 10'000;
  // CPU time of uvmtrace's other threads, for ProcessSampleEvent::tool_ns. May be null.
  uint64_t (*other_tool_threads_cpu_ns)() = nullptr;
};

// Reads module parameters, finds the threads and their GPUs, starts the sampler thread. Call once, after cuInit
// succeeded: a BH thread exists only while a process uses unified memory on its GPU, so the search goes on until one is
// found.
void StartDriverSampler(const DriverSamplerOptions& options);

void SetDriverManagedMemoryLive(bool live);

// One last sample of everything, then the thread ends. At most timeout_ms.
void FinishDriverSampler(int timeout_ms);

// In a forked child: forget.
void AbandonDriverSamplerAfterFork();

}  // namespace uvmtrace
