// Keeps forks apart from what the library does in the loader.
//
// A forked child has the loader's locks as they are at that instant, for ever: if another thread is inside dlopen or
// dl_iterate_phdr then, the child hangs at its next dlopen, or dies there of "Inconsistency detected by ld.so". Whoever
// of us calls the loader says so by a LoaderWork, and a fork waits for it (preload/stacks/fork_guard.h); at most half
// a second, for whoever forks may hold the lock that the other one needs.
#pragma once

#include <cstdint>

namespace uvmtrace {

class LoaderWork {
 public:
  static constexpr uint64_t kWaitNs = 500'000'000;
  // Of the writer's last chunk: the process waits for it, and no longer than half a second.
  static constexpr uint64_t kLastWaitNs = 200'000'000;
  // Of a host thread that looks something up once: another may be starting the sources for longer.
  static constexpr uint64_t kLookupWaitNs = 20'000'000;

  // Waits so long for another thread that is at it, or that forks. May be nested.
  explicit LoaderWork(uint64_t wait_ns = kWaitNs);
  ~LoaderWork();
  LoaderWork(const LoaderWork&) = delete;
  LoaderWork& operator=(const LoaderWork&) = delete;

  // False: nested, or waited in vain. A thread whose work can wait then leaves it for later.
  bool owner() const { return owner_; }

 private:
  const bool owner_;
};

// What LoaderWork does, for fork's handlers. Others wait for a fork as long as it takes, up to kWaitNs.
bool AcquireLoaderForFork(uint64_t wait_ns);
void ReleaseLoader();
// In a forked child.
void ResetLoader();

}  // namespace uvmtrace
