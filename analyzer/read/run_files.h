// Which trace files belong together: every process of a run writes one, and they share a run id.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/read/status.h"

namespace uvmtrace::analyzer {

struct RunFiles {
  std::vector<std::string> files;  // of the newest run, by name
  size_t other_runs = 0;           // files of other runs in the same folder
  size_t empty_files = 0;          // called *.pb: of processes whose recording was never begun
};

// The newest run among the folder's traces, by when its first process began. Folders beneath it, files called *.old and
// files that are no traces are passed over; a trace that is still being written counts. An error if there is none.
Status FindNewestRun(const std::string& folder, RunFiles* found);

// How many traces of other processes of the same run stand beside this file. A copy of it is none.
size_t CountSiblings(const std::string& path);

}  // namespace uvmtrace::analyzer
