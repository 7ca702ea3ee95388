// What UVMTRACE_* in the environment asks for. Nothing here can fail: a name or a value that is not understood costs
// one line of warning and leaves the default.
//
//   UVMTRACE_OUT        trace.pb   where to write: %p is the pid, %h the host
//   UVMTRACE_DETAIL     full       calls, light, sampled, full or auto: see Detail
//   UVMTRACE_SOURCE     auto       who tells of faults and migrations: queue, cupti, or auto, the first that works
//   UVMTRACE_MAX_OVERHEAD  10      percent, 1 to 1000: from where on detail auto records samples of migrations only
//   UVMTRACE_STACKS     32         frames of a call stack, 0 for none, at most 128
//   UVMTRACE_BUFFER_MB  64         memory for all rings, 4 to 4096
//   UVMTRACE_MAX_MB                size of the trace at which events are no longer written, 1 to 1048576; none by
//                                  default
//   UVMTRACE_LOG        warn       quiet, warn, info, debug
//   UVMTRACE_CHILDREN   1          0: only the process that was started with the library, not its children
//   UVMTRACE_KERNELS               by default kernels and copies; 1: launches and waits as well; 0: none of them, so
//                                  that CUPTI needs no lock that a blocking call holds
//   UVMTRACE_BH_STACKS             1 or 0: samples of where the driver's bottom-half threads spend their time; by
//                                  default 1 at the details full and auto
//   UVMTRACE_DRAIN_US   1000       period of the CUPTI drain thread, 100 to 1000000
//   UVMTRACE_SAMPLE_MS  10         period of the driver sampler, 1 to 10000
//
// UVMTRACE_SIM_* are the simulator's and are not looked at.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

#include "record/diagnostics.h"

namespace uvmtrace {

inline constexpr int kMaximumStackFrames = 128;

enum class Detail : uint8_t {
  kFull,     // every fault and migration
  kCalls,    // no unified-memory source: the program's fault path is untouched
  kLight,    // faults and exact totals, no migrations
  kSampled,  // as light, and migrations for 5 % of the time
  kAuto,     // full; sampled from when full would cost more than UVMTRACE_MAX_OVERHEAD
};
// "full", as the variable has it.
const char* DetailName(Detail detail);

enum class Source : uint8_t { kAuto, kQueue, kCupti };

struct Config {
  char out[PATH_MAX] = "trace.pb";
  Detail detail = Detail::kFull;
  Source source = Source::kAuto;
  uint32_t max_overhead_percent = 10;
  int stack_frames = 32;
  size_t buffer_bytes = size_t{64} << 20;
  uint64_t max_file_bytes = 0;  // 0: no limit
  LogLevel log = LogLevel::kWarn;
  bool children = true;
  bool kernels = true;
  bool launches = false;  // which call launched a kernel, and waits: with UVMTRACE_KERNELS=1
  enum class BottomHalfStacks : uint8_t { kByDetail, kOff, kOn };
  BottomHalfStacks bottom_half_stacks = BottomHalfStacks::kByDetail;  // on at full and auto
  bool audit = false;
  uint32_t drain_period_us = 1000;
  uint32_t sample_period_us = 10'000;
};

// Reads a list of "NAME=value" that ends with a null pointer. `warn` gets one line, without a newline, for each
// variable that is not understood.
void ReadConfig(const char* const* environment, Config* config, void (*warn)(const char* line));

}  // namespace uvmtrace
