// What happened over time, as rows of small bars.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

struct Strip {
  std::string name;  // "to GPU", "GPU faults"
  std::string bars;  // one character a column: a space is nothing, a full block the peak
  std::string peak;  // "up to 4.08 GB/s"
};

struct Strips {
  std::vector<Strip> rows;  // of what happened at all
  size_t columns = 0;
  uint64_t start_ns = 0;  // since the start of the trace
  uint64_t column_ns = 0;
};

// At most `widest` columns. No rows where the trace is too short to have a shape.
Strips MakeStrips(const Report& report, size_t widest);

}  // namespace uvmtrace::analyzer
