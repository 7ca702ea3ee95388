// One run of one mode: initialise, prefill, the rest of the first cycle, further cycles; each timed, each checked.
#pragma once

#include <string>
#include <vector>

#include "examples/oversub/mode.h"
#include "examples/oversub/plan.h"
#include "examples/oversub/visit_kernel.h"

namespace oversub {

struct Phase {
  std::string name;  // "prefill", "rest of 1st cycle", "2nd cycle", ...: they do not overlap
  double seconds = 0;
  Traffic traffic;
};

struct Result {
  std::string mode;
  std::vector<Phase> phases;
  // Outside the timers above.
  double allocation_seconds = 0;  // without pinning
  double pinning_seconds = 0;
  double initialisation_seconds = 0;
  double verify_host_seconds = 0;  // only with --verify-host, which also moves Traffic:
  Traffic verify_host_traffic;

  uint64_t repetition = 0;

  // The columns of the table. The first cycle includes the prefill.
  double prefill_seconds() const { return phases[0].seconds; }
  double first_cycle_seconds() const { return phases[0].seconds + phases[1].seconds; }
  double total_seconds() const;
  Traffic total_traffic() const;  // of all cycles, without verify_host_traffic
};

// Throws examples::WrongData with the first mismatch, CudaError, or std::runtime_error when the time limit has passed.
Result RunExperiment(const std::string& mode_name, const Plan& plan, Visitor* visitor);

}  // namespace oversub
