// What a hazard is called, what happened, and what to do about it, in words. Nothing here decides anything.
#pragma once

#include <string>

#include "analyzer/model/hazards.h"
#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

std::string HazardName(HazardKind kind);
std::string HazardSeverity(HazardKind kind);
std::string EndedByName(EndedBy ended_by);

// From a row that has everything but its sentences.
std::string WhatHappened(HazardKind kind, const HazardRow& row);
std::string WhatToDo(HazardKind kind, const HazardRow& row);

}  // namespace uvmtrace::analyzer
