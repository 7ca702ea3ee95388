// The call paths of a run's sites as an apply file names them: by file and symbol, or by Python function. The library
// in the next process compares them with its own stacks (preload/apply/site_match.h), so nothing in them may depend on
// where files are loaded, or on a line.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "analyzer/findings/report_builder.h"

namespace uvmtrace::analyzer {

struct SitePaths {
  std::vector<std::string> paths;   // "program!symbol < program!main", innermost first
  std::vector<std::string> python;  // "step (train.py) < <module> (train.py)"
  std::string variable;             // of a __managed__ variable
  bool empty() const { return paths.empty() && python.empty() && variable.empty(); }
};

// By key of the SiteRow.
std::map<std::string, SitePaths> PathsOfSites(const Run& run, const SymbolOptions& symbols);

}  // namespace uvmtrace::analyzer
