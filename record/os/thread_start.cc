#include "record/os/thread_start.h"

#include <atomic>

#include "record/os/futex.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constinit std::atomic<uint32_t> starting{0};

}  // namespace

int CreateThread(pthread_t* thread, const pthread_attr_t* attributes, void* (*main)(void*), void* argument) {
  starting.fetch_add(1, std::memory_order_acq_rel);
  const int error = pthread_create(thread, attributes, main, argument);
  if (error != 0) ThreadHasStarted();
  return error;
}

void ThreadHasStarted() {
  starting.fetch_sub(1, std::memory_order_acq_rel);
  FutexWakeAll(&starting);
}

bool WaitForThreadStarts(uint64_t deadline_ns) {
  for (uint32_t seen; (seen = starting.load(std::memory_order_acquire)) != 0;) {
    const uint64_t now_ns = NowNs();
    if (now_ns >= deadline_ns) return false;
    FutexWait(&starting, seen, deadline_ns - now_ns);
  }
  return true;
}

void ResetThreadStarts() { starting.store(0, std::memory_order_relaxed); }

}  // namespace uvmtrace
