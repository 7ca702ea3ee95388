// The number that all files of one run share: those of the process that was preloaded and of its descendants, through
// fork and exec, without a word in the host's environment.
#pragma once

#include <cstdint>

namespace uvmtrace {

// A hash of the boot, and of the pid and start time of the outermost ancestor that, like every process between, was
// started with this library in LD_PRELOAD or CUDA_INJECTION64_PATH. A process whose ancestor has ended is a run of its
// own.
uint64_t FindRunId();

}  // namespace uvmtrace
