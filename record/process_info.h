// What the recorder knows about its process by itself: pid, command line, clocks at the start, memory, version.
#pragma once

#include <string_view>

#include "record/wire.h"

namespace uvmtrace {

// Appends fields of Process (not the message's tag and length).
void AppendProcessInfo(WireBuffer& out, std::string_view detail);

}  // namespace uvmtrace
