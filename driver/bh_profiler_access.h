// Asking the kernel for samples of one of its threads, and saying what would permit it where it refuses.
//
// Two permissions are needed: perf_event_open on a thread of root's with kernel stacks (CAP_PERFMON), and addresses in
// /proc/kallsyms (CAP_SYSLOG). Root has both; in a container a seccomp filter may forbid the call itself. A user can
// only act on the right one, so the refusals are told apart.
#pragma once

#include <linux/perf_event.h>

#include <cstddef>
#include <cstdint>

#include "driver/kernel_symbols.h"

namespace uvmtrace {

// What is asked of the kernel; a test refuses with its own.
struct PerfCalls {
  int (*open)(perf_event_attr* attributes, uint32_t tid);  // a descriptor, or -1 with errno
};
extern const PerfCalls kKernelPerf;

// The thread's CPU time between two samples. About 1 kHz, but neither a multiple nor a simple fraction of the periods
// with which schedulers and timers of 100, 250 or 1000 Hz strike: those would be met always or never.
inline constexpr uint64_t kBottomHalfPeriodNs = 977'021;

// Samples of a thread's kernel stacks by its own CPU clock: a thread that sleeps gives none, and costs nothing.
perf_event_attr BottomHalfAttributes();

// Why perf_event_open failed with this errno, and what would cure it. `root`: "" or the folder that stands for /.
void DescribeOpenError(const char* root, int error, char* reason, size_t reason_size);

// The same for mmap of the ring.
void DescribeMapError(const char* root, int error, char* reason, size_t reason_size);

// The same for kernel symbols; `error` is the errno if they are kUnreadable.
void DescribeSymbolsError(const char* root, KernelSymbols::Access access, int error, char* reason, size_t reason_size);

}  // namespace uvmtrace
