// What the faults of a trace say moved, and how far the driver's counters agree.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/read/status.h"
#include "analyzer/reconstruct/rows.h"

namespace uvmtrace::reconstruct {

struct Reconstruction {
  std::vector<Migration> rows;  // in the order of time
  // As the driver counted them, both directions; 0: it counted none, or there are no counters.
  uint64_t exact_bytes = 0;
  uint64_t unexplained_bytes = 0;
  uint64_t since_ns = 0;  // when the first of those moved, CLOCK_MONOTONIC; 0: there are none
  double explained_share = 1;
  bool counters = false;
  bool faults = false;  // the driver's queue told of any
  // Where the detail records migrations in windows only: what was recorded in them, of that the pages that were told to
  // have moved the same way then, and when the first of the others moved, 0: there are none.
  uint64_t window_bytes = 0;
  uint64_t window_agreed_bytes = 0;
  uint64_t window_since_ns = 0;
  struct Copies {
    uint64_t exact_bytes = 0;  // of all the time
    uint64_t window_bytes = 0;
    uint64_t window_ns = 0;
  };
  Copies to_device;
  Copies to_host;
};

analyzer::Status ReconstructTrace(const std::string& path, Reconstruction* reconstruction);

}  // namespace uvmtrace::reconstruct
