// A report, or a difference of reports, for programs: protobuf's standard JSON mapping, with the field names of the .proto files.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace uvmtrace::analyzer {

// Ends with a newline. Empty if protobuf refuses the message, which would be a defect of ours.
std::string RenderJson(const google::protobuf::Message& message);

}  // namespace uvmtrace::analyzer
