// Stacks of the driver's fault-servicing threads, taken once for each thread however many processes sampled it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/findings/report_builder.h"

namespace uvmtrace::analyzer {

struct SampledStack {
  std::vector<std::string_view> frames;  // innermost first; empty: the stack is not in the trace
  uint64_t samples = 0;
  uint64_t weight_ns = 0;
};

struct SampledDriverThread {
  std::string name;
  std::string device_uuid;  // 16 bytes; empty: not known
  std::vector<SampledStack> stacks;
};

// Views into `run`.
std::vector<SampledDriverThread> SampledStacksOf(const Run& run);

// Why there is no sample, in words.
std::string WhyNoStacks(const Run& run);

// One line for each stack: "thread;outermost;...;innermost samples", which flame graph tools read.
std::string FoldedStacks(const Run& run);

}  // namespace uvmtrace::analyzer
