// How much memory this process may still take before something is killed for it.
#pragma once

#include <cstdint>

#include "record/event.h"

namespace uvmtrace {

// The least of what the machine has available and what the process's control group (version 2 or 1) leaves; UINT64_MAX
// where nothing limits it or nothing is told. `root` is "" or a folder that stands for /.
uint64_t MemoryLeftBytes(const char* root = "");

// The machine's memory, this process's part, and its control group's limit, now. Reads five small files or so.
HostMemory ReadHostMemory(const char* root = "");

}  // namespace uvmtrace
