// Findings as changes that can be applied: which action, to the memory of which site.
//
// Not every finding can be tried without touching the code. What cannot stays in the file as a comment, with the
// reason.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "analyzer/advise/site_paths.h"
#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

struct Change {
  std::string finding;  // its id
  std::string site;     // key
  std::string place;
  std::string reason;
  std::string gain;
  std::vector<std::string> actions;
  // False: it may as well cost time, because what decides is not in the trace (whether the CPU writes, how often memory
  // is used again). Such a change stands in the file as a comment; uvmtrace tune tries it.
  bool certain = true;
};

struct Changes {
  std::vector<Change> changes;        // the largest gain first
  std::vector<std::string> left_out;  // one sentence each
};

Changes ChangesOf(const Report& report, const std::map<std::string, SitePaths>& paths);

// The text of the apply file.
std::string ApplyFileText(const Report& report, const Changes& changes, const std::map<std::string, SitePaths>& paths);

}  // namespace uvmtrace::analyzer
