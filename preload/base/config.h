// What UVMTRACE_* in the environment asks for. Nothing here can fail: a name or a value that is not understood costs
// one line of warning and leaves the default.
//
// clang-format off
//   UVMTRACE_OUT        trace.pb   where to write: %p is the pid, %h the host
//   UVMTRACE_DETAIL     exact      calls, light, sampled, exact or full: see Detail. auto, an older name, is exact
//   UVMTRACE_SOURCE     auto       who tells of faults and migrations: queue, cupti, or auto, the first that works
//   UVMTRACE_APPLY                 a file of changes to make: uvmtrace-apply(5); none by default
//   UVMTRACE_STACKS     32         frames of a call stack, 0 for none, at most 128
//   UVMTRACE_BUFFER_MB  64         memory for all rings, 4 to 4096
//   UVMTRACE_MAX_MB                size of the trace at which events are no longer written, 1 to 1048576; none by
//                                  default
//   UVMTRACE_LOG        warn       quiet, warn, info, debug
//   UVMTRACE_CHILDREN   1          0: only the process that was started with the library, not its children
//   UVMTRACE_KERNELS               by default kernels and copies; 1: launches and waits as well; 0: none of them, so
//                                  that CUPTI needs no lock that a blocking call holds
//   UVMTRACE_BH_STACKS             1 or 0: samples of where the driver's bottom-half threads spend their time; by
//                                  default 1 at the detail full
//   UVMTRACE_AUDIT      0          1: CUPTI counts the API calls as well
//   UVMTRACE_DRAIN_US   1000       period of the CUPTI drain thread, 100 to 1000000
//   UVMTRACE_SAMPLE_MS  10         period of the driver sampler, 1 to 10000
//
// UVMTRACE_MAX_OVERHEAD belonged to an older detail: it is accepted and has no effect.
// clang-format on
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
  kExact,    // every fault and exact totals, from which the analyzer reconstructs migrations; 1 % of these as a check
  kCalls,    // no unified-memory source: the program's fault path is untouched
  kLight,    // as exact, without the check
  kSampled,  // as exact, with migrations for 5 % of the time
  kFull,     // every fault and migration
};
// "exact", as the variable has it.
const char* DetailName(Detail detail);

enum class Source : uint8_t { kAuto, kQueue, kCupti };

struct Config {
  char out[PATH_MAX] = "trace.pb";
  Detail detail = Detail::kExact;
  Source source = Source::kAuto;
  int stack_frames = 32;
  size_t buffer_bytes = size_t{64} << 20;
  uint64_t max_file_bytes = 0;  // 0: no limit
  LogLevel log = LogLevel::kWarn;
  bool children = true;
  bool kernels = true;
  bool launches = false;  // which call launched a kernel, and waits: with UVMTRACE_KERNELS=1
  enum class BottomHalfStacks : uint8_t { kByDetail, kOff, kOn };
  BottomHalfStacks bottom_half_stacks = BottomHalfStacks::kByDetail;  // on at full
  bool audit = false;
  uint32_t drain_period_us = 1000;
  uint32_t sample_period_us = 10'000;
};

// Reads a list of "NAME=value" that ends with a null pointer. `warn` gets one line, without a newline, for each
// variable that is not understood.
void ReadConfig(const char* const* environment, Config* config, void (*warn)(const char* line));

}  // namespace uvmtrace
