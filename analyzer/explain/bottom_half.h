// What the driver's bottom-half threads cost, and whether this program's faults explain it.
#pragma once

#include <optional>
#include <string>

#include "analyzer/explain/evidence.h"

namespace uvmtrace::analyzer {

struct BottomHalfCost {
  const BottomHalfRow* thread = nullptr;  // the busiest
  uint64_t cpu_ns = 0;
  uint64_t observer_ns = 0;  // part of cpu_ns that only recording caused
  uint64_t service_ns = 0;   // that the batches of its own GPU took
  bool faults_known = false;
  // The service took at least half of its CPU time. Else other work did: other processes, access counters, ATS.
  bool explained = false;
};

// nullopt: no thread's CPU time is known.
std::optional<BottomHalfCost> BottomHalfCostOf(const Evidence& evidence);
// Faults of one GPU took that long; of all where there is one thread, or no row for each GPU.
uint64_t ServiceNsOf(const Evidence& evidence, const std::string& device_uuid);
// "UVM GPU1 BH: 0.1 % of a core, none of it for this program."; empty: not known.
std::string BottomHalfInShort(const Evidence& evidence);
// "UVM GPU1 BH: one core, fully, for 74.4 ms while pages faulted: 50.2 ms of its own, 30.2 ms for the recording";
// empty: not known.
std::string BottomHalfInFaults(const Evidence& evidence);
// The whole of it; empty: nothing is known and nothing was to be.
std::string BottomHalfSentence(const Evidence& evidence);

}  // namespace uvmtrace::analyzer
