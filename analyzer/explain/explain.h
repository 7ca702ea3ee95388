// From the rows of a report to its sentences: findings, the headline and the verdict.
#pragma once

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// Sets `findings`, `headline` and `verdict` from the other fields. Call it once, last.
void Explain(Report* report);

}  // namespace uvmtrace::analyzer
