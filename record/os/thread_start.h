// Keeps forks apart from threads of ours that do not run yet.
//
// Between pthread_create and the first line of a thread of ours stands other people's code: a sanitizer's runtime, or a
// tool that interposes pthread_create, sets the thread up there and holds locks of its own meanwhile. A child that is
// forked at that instant finds such a lock taken for ever, and its own writer thread never comes to run. So each of our
// threads is announced by whoever creates it, and a fork waits until it runs (preload/stacks/fork_guard.h).
#pragma once

#include <pthread.h>

#include <cstdint>

namespace uvmtrace {

// pthread_create; `main` must call ThreadHasStarted before anything else.
int CreateThread(pthread_t* thread, const pthread_attr_t* attributes, void* (*main)(void*), void* argument);
void ThreadHasStarted();

// False: some thread has been created and did not run by the deadline (CLOCK_MONOTONIC).
bool WaitForThreadStarts(uint64_t deadline_ns);
// In a forked child.
void ResetThreadStarts();

}  // namespace uvmtrace
