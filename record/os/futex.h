// Waiting and waking on a word, and a small lock, without pthread objects: a forked child can simply forget them, and
// both calls are async-signal-safe. errno is kept.
#pragma once

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "record/os/clocks.h"

namespace uvmtrace {

// Returns when woken, when the word is not `expected`, after the timeout, or for no reason: callers look again.
inline void FutexWait(void* word, uint32_t expected, uint64_t timeout_ns) {
  const int saved_errno = errno;
  timespec timeout = {static_cast<time_t>(timeout_ns / 1'000'000'000u), static_cast<long>(timeout_ns % 1'000'000'000u)};
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &timeout, nullptr, 0);
  errno = saved_errno;
}

inline void FutexWakeAll(void* word) {
  const int saved_errno = errno;
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  errno = saved_errno;
}

// Held for a table look-up or a few hundred bytes of encoding, never while calling into libc's locks.
//
// Taking it can fail. A signal handler may stand above the very thread that holds it, and end the process from there:
// it is told at once. Any other thread gives up after kWaitNs, because the holder may never run again.
class ShortLock {
 public:
  static constexpr uint64_t kWaitNs = 100'000'000;

  bool Lock() {
    uint32_t expected = kFree;
    if (!word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire) && !LockContended()) return false;
    holder_.store(Self(), std::memory_order_relaxed);
    return true;
  }
  void Unlock() {
    holder_.store(0, std::memory_order_relaxed);
    if (word_.exchange(kFree, std::memory_order_release) == kContended) FutexWakeAll(&word_);
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kContended = 2;

  // Another number in each thread.
  static uintptr_t Self() { return reinterpret_cast<uintptr_t>(__builtin_thread_pointer()); }

  __attribute__((noinline)) bool LockContended() {
    const uint64_t deadline_ns = NowNs() + kWaitNs;
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
      const uint64_t now_ns = NowNs();
      if (holder_.load(std::memory_order_relaxed) == Self() || now_ns >= deadline_ns) return false;
      FutexWait(&word_, kContended, deadline_ns - now_ns);
    }
    return true;
  }

  std::atomic<uint32_t> word_{kFree};
  std::atomic<uintptr_t> holder_{0};
};

class ShortLockGuard {
 public:
  explicit ShortLockGuard(ShortLock& lock) : lock_(lock), held_(lock.Lock()) {}
  ~ShortLockGuard() {
    if (held_) lock_.Unlock();
  }
  ShortLockGuard(const ShortLockGuard&) = delete;
  ShortLockGuard& operator=(const ShortLockGuard&) = delete;

  // False: what the lock guards must not be touched.
  explicit operator bool() const { return held_; }

 private:
  ShortLock& lock_;
  const bool held_;
};

}  // namespace uvmtrace
