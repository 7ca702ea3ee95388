// What differs between runs of a program before and after a change, row by row.
#pragma once

#include <string>
#include <vector>

#include "proto/diff.pb.h"
#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// Runs of one version. Both vectors are of one length, and not empty.
struct Version {
  std::vector<std::string> names;
  std::vector<Report> runs;
};

// Numbers that change by less than `threshold` (0.02: 2 %), or whose several runs overlap, are left out.
Diff Compare(const Version& base, const Version& changed, double threshold);

}  // namespace uvmtrace::analyzer
