// From the state of a run to its report.
//
// Every section is a function of its own in findings/; this is the list of them. A number that is not known stays
// absent; a section without rows says why; what could not be seen is listed. Several traces are one run: their numbers
// are added, but what belongs to the machine (a GPU's memory, a driver thread) is taken once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "analyzer/model/process_model.h"
#include "analyzer/symbols/symbolizer.h"
#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

struct ReportOptions {
  size_t top = 20;  // rows of the tables of allocations and kernels; what is beyond is summed up in one row; 0: all
  SymbolOptions symbols;
};

using Run = std::vector<std::unique_ptr<ProcessModel>>;

// `run` has at least one process, read successfully.
Report BuildReport(const Run& run, const ReportOptions& options);

}  // namespace uvmtrace::analyzer
