// One run of the program under the recorder, and how long its parts took.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// Nanoseconds by the name of what took them: phases that the program named, and the rows below.
using Durations = std::map<std::string, uint64_t>;

inline constexpr const char* kRunTime = "(the run, from its first CUDA call)";
inline constexpr const char* kModelTime = "(paging, by the simulator's model)";
inline constexpr const char* kFaultWait = "(the GPU waited for page faults)";

Durations DurationsOf(const Report& report);

// What a change is judged by: the phases if the program names any, else the run. Times in a simulated run are those of
// the machine that simulates, so that is judged by what its faults and bytes cost in the driver's model.
uint64_t ScoreOf(const Report& report, const Durations& durations);

struct Trial {
  int exit_status = 0;  // as a shell has it
  size_t output = 0;    // a hash of what the program printed
  bool recorded = false;
  Durations durations;
  uint64_t score = 0;
  Report report;
};

struct TrialOptions {
  std::string launcher;                  // uvmtrace
  std::vector<std::string> run_options;  // of uvmtrace run
  std::vector<std::string> program;
};

// Runs the program once. Its output goes to `folder`/output, the trace to `folder`/trace.pb. `apply_file` may be empty.
Trial RunTrial(const TrialOptions& options, const std::string& folder, const std::string& apply_file);

}  // namespace uvmtrace::analyzer
