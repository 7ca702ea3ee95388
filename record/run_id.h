// A number that all processes of one traced command share, and no other command has.
//
// It is made from what every process of the tree can see without talking to the others: the topmost ancestor that was
// itself preloaded, and of that the random addresses that its exec was given (/proc/<pid>/auxv). A forked process has
// the addresses of its parent. So a forked worker, an exec'd child, the parent, and a daemon whose parents are gone all
// agree, and tomorrow's run differs, though it may have the same pid, in a container where that is always 1. Where
// addresses are not random, or not to be read, the ancestor's pid and start time take their place.
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
