// A difference for people: at a terminal, or in a pull request. Both show the same rows.
#pragma once

#include <cstddef>
#include <string>

#include "proto/diff.pb.h"

namespace uvmtrace::analyzer {

struct DiffTextOptions {
  size_t width = 0;  // of the terminal; 0: there is none, tables are not cut
  bool color = false;
  size_t top = 10;  // rows of a section; 0: all
};

std::string RenderText(const Diff& diff, const DiffTextOptions& options);
std::string RenderMarkdown(const Diff& diff, const DiffTextOptions& options);

}  // namespace uvmtrace::analyzer
