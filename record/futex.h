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

namespace uvmtrace {

// Returns when woken, when the word is not `expected`, after the timeout, or for no reason: callers look again.
inline void FutexWait(std::atomic<uint32_t>* word, uint32_t expected, uint64_t timeout_ns) {
  const int saved_errno = errno;
  timespec timeout = {static_cast<time_t>(timeout_ns / 1'000'000'000u), static_cast<long>(timeout_ns % 1'000'000'000u)};
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &timeout, nullptr, 0);
  errno = saved_errno;
}

inline void FutexWakeAll(std::atomic<uint32_t>* word) {
  const int saved_errno = errno;
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  errno = saved_errno;
}

// Held for a table look-up or a few hundred bytes of encoding, never while calling into libc's locks.
class ShortLock {
 public:
  void Lock() {
    uint32_t expected = kFree;
    if (word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire)) return;
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree) FutexWait(&word_, kContended, 100'000'000);
  }
  void Unlock() {
    if (word_.exchange(kFree, std::memory_order_release) == kContended) FutexWakeAll(&word_);
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kContended = 2;
  std::atomic<uint32_t> word_{kFree};
};

class ShortLockGuard {
 public:
  explicit ShortLockGuard(ShortLock& lock) : lock_(lock) { lock_.Lock(); }
  ~ShortLockGuard() { lock_.Unlock(); }
  ShortLockGuard(const ShortLockGuard&) = delete;
  ShortLockGuard& operator=(const ShortLockGuard&) = delete;

 private:
  ShortLock& lock_;
};

}  // namespace uvmtrace
