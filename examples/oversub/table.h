// The results, for people (Markdown) and for scripts (JSON).
#pragma once

#include <cstdio>
#include <vector>

#include "examples/common/rows.h"
#include "examples/oversub/experiment.h"
#include "examples/oversub/plan.h"

namespace oversub {

void PrintPlan(FILE* out, const Plan& plan);
void PrintResult(FILE* out, const Plan& plan, const Result& result);

// One row for a run of a mode. Bytes are those of struct Traffic.
examples::Row ToRow(const Plan& plan, const Result& result);

// Modes side by side, with their ratio to "pinned" where that has run; of repetitions the median and the range.
void PrintSummary(FILE* out, const std::vector<examples::Row>& rows);

}  // namespace oversub
