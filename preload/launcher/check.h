// uvmtrace check: what would be recorded here, and what would cure what would not.
//
// It asks the recorder: a child, this program again, runs under libuvmtrace.so at the default detail and makes the
// recorder start everything (probe.h); its trace then says what each source met. To look at devices, /proc and
// permissions from here would be a second opinion about the same things, and could differ from what a recorded
// program meets: libraries that are found by the program's own path, the driver's refusals, the queue's self-test.
#pragma once

#include "preload/launcher/environment.h"

namespace uvmtrace::launcher {

struct CheckOptions {
  bool json = false;
  Simulation simulation;
};

// Exit status: 0 if the detail "exact" would be complete here, 1 if not, kUsage if it cannot be told.
int Check(const CheckOptions& options);

}  // namespace uvmtrace::launcher
