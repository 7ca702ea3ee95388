// Keeps forks apart from what a forked child must not inherit half done.
//
// A child of fork has other threads' locks as they are at that instant, for ever. Two of them are not ours to reset:
// the loader's (a child of a process in which a thread of ours is inside dlopen dies at its next dlopen, of
// "Inconsistency detected by ld.so") and libunwind's (the child hangs in its first stack). So a fork waits until no
// thread is at either, and threads that come meanwhile wait for the fork; all at most half a second, for whoever forks
// may hold the lock that the other one needs. A child for which that was not enough does without libunwind. And it
// waits for threads of ours that have been created and do not run yet (record/thread_start.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "record/os/loader_work.h"

namespace uvmtrace {

// While a thread walks through its stack. Costs two additions to a word that few threads share. The thread is not
// cancelled meanwhile: libunwind asks the kernel whether memory is there, by calls that are cancellation points.
class StackWalk {
 public:
  StackWalk();
  ~StackWalk();
  StackWalk(const StackWalk&) = delete;
  StackWalk& operator=(const StackWalk&) = delete;

  // False: somebody forks, and does not get done.
  bool allowed() const { return walkers_ != nullptr; }

 private:
  std::atomic<uint32_t>* walkers_;
  int saved_cancel_state_;
};

// Forks wait from the time on at which this library is loaded. From now on `in_child` runs in every forked child before
// fork returns.
void AfterForksInChildren(void (*in_child)());

// In a child that was made past fork's handlers: nobody waited for it.
void ForgetForkGuard();

}  // namespace uvmtrace
