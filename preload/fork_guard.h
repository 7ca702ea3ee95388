// Keeps forks and this library's use of the loader apart.
//
// A child of fork has the loader's data as they are at that instant: if another thread of ours is just then inside
// dlopen (for libunwind, for CUPTI), the child's next dlopen ends it with "Inconsistency detected by ld.so". So a fork
// waits until that thread is done, and the next one waits for the fork; both at most half a second, for whoever forks
// may hold the lock that the other one needs.
#pragma once

namespace uvmtrace {

// For the thread's life in a function that opens libraries. May be nested.
class LoaderWork {
 public:
  LoaderWork();
  ~LoaderWork();
  LoaderWork(const LoaderWork&) = delete;
  LoaderWork& operator=(const LoaderWork&) = delete;

 private:
  const bool owner_;
};

// From now on forks wait, and `in_child` runs in every forked child before fork returns. Once in a process's life.
void GuardForks(void (*in_child)());

}  // namespace uvmtrace
