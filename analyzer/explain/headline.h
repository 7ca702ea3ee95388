// The first sentence of the report: what it cost, and whose memory it was.
#pragma once

#include <string>

#include "analyzer/explain/evidence.h"

namespace uvmtrace::analyzer {

// After the findings. Never empty.
std::string Headline(const Evidence& evidence);
// After the findings: sets `headline`.
void AddHeadline(Report* report);

}  // namespace uvmtrace::analyzer
