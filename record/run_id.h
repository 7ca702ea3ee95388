// A number that all processes of one traced command share, and no other command has.
//
// It is made from what every process of the tree can see without talking to the others: the identity of the topmost
// ancestor that was itself preloaded. So a forked worker, an exec'd child and the parent agree, and tomorrow's run
// differs, though it may have the same pid, as in a container, where that is always 1. What was forked after the first
// CUDA call agrees even when its parents are gone; a daemon that left them before is a run of its own.
#pragma once

#include <cstdint>

namespace uvmtrace {

// `proc` is the folder to read instead of /proc, `pid` the process to start with. Never 0.
uint64_t RunId(const char* proc, int pid);

// Of this process. The same in a forked child that asks later.
uint64_t RunId();

// Whether no ancestor of the process was preloaded.
bool IsRunRoot(const char* proc, int pid);
bool IsRunRoot();

}  // namespace uvmtrace
