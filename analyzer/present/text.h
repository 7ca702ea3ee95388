// The report for a person at a terminal. Renders the Report message and knows nothing else.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

struct TextOptions {
  size_t width = 0;  // of the terminal; 0: there is none, tables are not cut
  bool color = false;
  bool stacks = false;                // under each allocation
  size_t top = 20;                    // rows of a table; 0: all
  bool tree = false;                  // call paths
  std::vector<std::string> sections;  // names of those to print; empty: the whole report
};

std::string RenderText(const Report& report, const TextOptions& options);
// Names that TextOptions::sections may hold, in the order of the report.
std::vector<std::string> SectionNames();

}  // namespace uvmtrace::analyzer
