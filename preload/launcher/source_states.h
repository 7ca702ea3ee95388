// What a trace says of its sources: the last state of each.
//
// The launcher knows no protobuf, and the report's reader needs it; of the whole trace this reads one field, by the
// frame that proto/FORMAT.md describes. A file that ends anywhere, or holds anything, gives what was read before that.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "proto/schema.h"

namespace uvmtrace::launcher {

struct SourceState {
  SourceStateKind kind = SourceStateKind::kUnknown;
  std::string reason;
};
using SourceStates = std::map<std::string, SourceState>;

SourceStates ParseSourceStates(std::string_view trace);
// Of a file; empty where it cannot be read.
SourceStates ReadSourceStates(const std::string& path);

}  // namespace uvmtrace::launcher
