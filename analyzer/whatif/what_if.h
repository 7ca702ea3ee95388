// What a change would do to faults, bytes and time, told by replaying the trace's own faults and calls through the
// driver's policy (analyzer/reconstruct/) with the change among them.
//
// Counts and bytes follow from the policy. Times are this trace's own: a batch of faults took a part that does not
// depend on its bytes and a part that does, and both are fitted to the recorded batches. The same replay without the
// change stands beside it, so that a reader sees how far it can be trusted.
//
// What the replay cannot know: an access that found its page is in no trace. So memory that comes by another way is
// used as the faults say and no more, and a smaller GPU can be asked for only where the trace shows evictions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/findings/report_builder.h"
#include "analyzer/whatif/trace_rows.h"

namespace uvmtrace::analyzer {

struct Question {
  struct Prefetch {
    std::string site;
    std::string kernel;  // empty: any
  };
  struct Advice {
    std::string site;
    std::string what;
  };
  std::vector<Prefetch> prefetches;
  std::vector<Advice> advice;
  std::vector<std::string> pinned;
  std::optional<uint64_t> capacity_bytes;
  std::optional<double> link_bytes_per_second;
  bool prefetch_off = false;
};

struct Paging {
  uint64_t fault_entries = 0;
  uint64_t fault_batches = 0;
  uint64_t cpu_faults = 0;
  uint64_t faulted_bytes = 0;  // to GPUs, because of faults
  uint64_t called_bytes = 0;   // to GPUs, by calls
  uint64_t to_host_bytes = 0;
  uint64_t evicted_bytes = 0;   // part of it
  uint64_t in_place_bytes = 0;  // at least: read over the link
  uint64_t stall_ns = 0;
  uint64_t bh_ns = 0;
  uint64_t call_copy_ns = 0;  // what the calls' bytes take on the link
  uint64_t bytes() const { return faulted_bytes + called_bytes + to_host_bytes; }
};

struct Answer {
  Paging recorded;
  Paging unchanged;
  Paging changed;
  double bytes_error = 0;  // of the unchanged replay
  double faults_error = 0;
  bool evictions = false;  // the trace shows some
  bool rate_known = false;
  double rate_bytes_per_second = 0;  // of bulk copies
  uint64_t added_calls = 0;
  std::vector<std::string> notes;
};

// False, with a cause, where the question makes no sense for this trace.
bool AnswerQuestion(const Run& run, const Report& report, const SymbolOptions& symbols, const Question& question,
                    Answer* answer, std::string* cause);

}  // namespace uvmtrace::analyzer
