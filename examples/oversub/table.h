// The results, for people (Markdown) and for scripts (JSON).
#pragma once

#include <cstdio>
#include <vector>

#include "examples/common/machine.h"
#include "examples/oversub/experiment.h"
#include "examples/oversub/plan.h"

namespace oversub {

void PrintPlan(FILE* out, const Plan& plan);
void PrintResult(FILE* out, const Plan& plan, const Result& result);

// Times in seconds, sizes in bytes. host_to_device_bytes and device_to_host_bytes are those of struct Traffic.
std::string ToJson(const examples::Machine& machine, const Plan& plan, const std::vector<Result>& results);

}  // namespace oversub
