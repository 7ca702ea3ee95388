// Where the driver's bottom-half threads spend their CPU time: samples of their kernel stacks, about a thousand for
// each second of it.
//
// "UVM GPU<n> BH" burns up to a whole core, and whether that goes into copying, unmapping from the CPU, mapping or
// waiting decides what a program can do about it. The kernel takes the samples into a ring of ours for each thread. A
// thread of its own, "uvmtrace-profile", names and records them; it is started when the first ring exists, and is
// woken by the sampler only when there is something in a ring: while no page faults, nothing runs. The sampler itself
// does not do it, because reading the kernel's symbols takes about 0.1 s, and would tear a hole into the counters.
//
// The source state is "bh_samples", and samples that are missing are counted under that name.
#pragma once

#include <cstdint>

#include "driver/bh_profiler_access.h"
#include "driver/kernel_threads.h"

namespace uvmtrace {

struct BottomHalfProfilerOptions {
  const char* root = "";            // "" or the folder that the simulator shows instead of /; kept
  const char* off = nullptr;        // why samples are not wanted; null: they are
  const PerfCalls* perf = nullptr;  // null: the kernel's, and none under a root
};

// All of these but the last two belong to one thread, the sampler's.
void StartBottomHalfProfiler(const BottomHalfProfilerOptions& options);
// A bottom-half thread appeared; `kernel_thread` is its definition in the trace.
void ProfileBottomHalf(const FoundThread& thread, uint32_t kernel_thread);
// It has ended. What it left in its ring is still recorded.
void EndBottomHalfProfile(uint32_t kernel_thread);
// To be called every few milliseconds: sees to it that rings are emptied in time.
void WatchBottomHalfRings(uint64_t now_ns);
// Records what is left, and ends. At most timeout_ms.
void FinishBottomHalfProfiler(int timeout_ms);

// CPU time of the profiler's thread so far.
uint64_t BottomHalfProfilerCpuNs();

// In a forked child: forget. The rings are not there: the kernel does not copy them.
void AbandonBottomHalfProfilerAfterFork();

}  // namespace uvmtrace
