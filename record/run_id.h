// A number that all processes of one traced command share, and no other command has.
//
// It is made from what every process of the tree can see without talking to the others: the identity of the topmost
// ancestor that was itself preloaded. So a forked worker, an exec'd child and the parent agree, and tomorrow's run
// differs.
#pragma once

#include <cstdint>

namespace uvmtrace {

// `proc` is the folder to read instead of /proc, `pid` the process to start with. Never 0.
uint64_t RunId(const char* proc, int pid);

// Of this process.
uint64_t RunId();

}  // namespace uvmtrace
