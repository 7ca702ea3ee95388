// The report for programs: protobuf's standard JSON mapping, with the field names of report.proto.
#pragma once

#include <string>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// Ends with a newline. Empty if protobuf refuses the message, which would be a defect of ours.
std::string RenderJson(const Report& report);

}  // namespace uvmtrace::analyzer
