// How a site is named and described in tables.
#pragma once

#include <string>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// The rows of `sites`, those first that cost most: time that GPUs waited, bytes that moved, memory held.
std::vector<const SiteRow*> SitesByCost(const Report& report);
// "a.cc:12 in Make()  x 8"
std::string SiteCell(const SiteRow& row);
// "managed, in turn": kind and pattern.
std::string UseCell(const SiteRow& row);

}  // namespace uvmtrace::analyzer
