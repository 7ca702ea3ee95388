// Finds the call site of before that a call site of after has grown out of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// By key of a site that only `changed` has: the key of the site that only `base` has whose call path shares most with
// it, from the outermost frame inwards and from the innermost outwards. Both are of one kind of memory and share at
// least half of the longer path. A site takes part in one pair.
std::map<std::string, std::string> AlignSites(const std::vector<SiteRow>& base, const std::vector<SiteRow>& changed);

}  // namespace uvmtrace::analyzer
