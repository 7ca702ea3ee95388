// The thread of a source: it works every period while there is something to see, and otherwise sleeps without a period.
//
// Plain pthread and futex, because libuvmtrace.so has no C++ runtime. The thread blocks every signal, so that the
// kernel never picks it to run the host program's handler. A SourceThread lives in static storage and needs no
// destructor: the process may be torn down around it.
#pragma once

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdint>

#include "record/os/futex.h"
#include "record/os/thread_start.h"
#include "record/recorder.h"

namespace uvmtrace {

// The host's errno and signal mask survive what is done in its thread while one of these is in scope. A thread that is
// created meanwhile, by us or by libcupti, starts with all signals blocked.
class ErrnoKeeper {
 public:
  ErrnoKeeper() : saved_(errno) {}
  ~ErrnoKeeper() { errno = saved_; }
  ErrnoKeeper(const ErrnoKeeper&) = delete;
  ErrnoKeeper& operator=(const ErrnoKeeper&) = delete;

 private:
  int saved_;
};

class SignalBlocker {
 public:
  SignalBlocker() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~SignalBlocker() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }
  SignalBlocker(const SignalBlocker&) = delete;
  SignalBlocker& operator=(const SignalBlocker&) = delete;

 private:
  sigset_t saved_;
};

// A word that threads sleep on: take() before looking at the condition, Sleep(taken) after, Ring() by whoever changes
// it.
class Bell {
 public:
  static constexpr uint64_t kForever = INT64_MAX;

  uint32_t take() const { return rings_.load(std::memory_order_acquire); }

  void Ring() {
    rings_.fetch_add(1, std::memory_order_acq_rel);
    FutexWakeAll(&rings_);
  }

  // Until the bell has rung since `taken`, or until deadline_ns of CLOCK_MONOTONIC. May return early.
  void Sleep(uint32_t taken, uint64_t deadline_ns) {
    const uint64_t now_ns = NowNs();
    if (deadline_ns > now_ns) FutexWait(&rings_, taken, deadline_ns - now_ns);
  }

 private:
  std::atomic<uint32_t> rings_{0};
};

class SourceThread {
 public:
  // `body` polls finish_requested() and ends soon after it. Name: at most 15 characters.
  bool Start(const char* name, void (*body)()) {
    name_ = name;
    body_ = body;
    state_.store(kRunning, std::memory_order_release);
    SignalBlocker blocked;  // inherited by the thread: there is no instant at which it could take a signal
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const int error = CreateThread(&thread, &attributes, &Main, this);
    pthread_attr_destroy(&attributes);
    if (error != 0) state_.store(kNone, std::memory_order_release);
    return error == 0;
  }

  bool started() const { return state_.load(std::memory_order_acquire) != kNone; }

  // Whether the source has something to see. Cheap when nothing changes; wakes the thread when something does.
  void SetLive(bool live) {
    if (live_.load(std::memory_order_relaxed) == live) return;
    if (live_.exchange(live, std::memory_order_acq_rel) != live) bell_.Ring();
  }
  bool live() const { return live_.load(std::memory_order_acquire); }

  // Ends the thread's present sleep, or its next one if it is about to.
  void Wake() { bell_.Ring(); }

  // Asks the thread to end and waits for it. Returns whether it ended in time; true if it never ran.
  bool Finish(int timeout_ms) {
    if (!started()) return true;
    const uint64_t deadline_ns = NowNs() + static_cast<uint64_t>(timeout_ms > 0 ? timeout_ms : 0) * 1'000'000;
    finish_.store(true, std::memory_order_release);
    bell_.Ring();
    while (true) {
      const uint32_t taken = ended_.take();
      if (state_.load(std::memory_order_acquire) == kEnded) return true;
      if (NowNs() >= deadline_ns) return false;
      ended_.Sleep(taken, deadline_ns);
    }
  }

  // In a forked child: the thread is the parent's.
  void Abandon() {
    state_.store(kNone, std::memory_order_relaxed);
    live_.store(false, std::memory_order_relaxed);
    finish_.store(false, std::memory_order_relaxed);
    cpu_ns_.store(0, std::memory_order_relaxed);
  }
  bool finish_requested() const { return finish_.load(std::memory_order_acquire); }

  // For the thread itself: sleeps until the deadline, or until SetLive or Finish changes something after take().
  uint32_t take() const { return bell_.take(); }
  void Sleep(uint32_t taken, uint64_t deadline_ns) { bell_.Sleep(taken, deadline_ns); }

  // For the thread itself: publishes its CPU time. A pthread_t of a thread that may have ended cannot be asked for it.
  void PublishCpuTime() {
    timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    cpu_ns_.store(static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec),
                  std::memory_order_relaxed);
  }
  uint64_t cpu_ns() const { return cpu_ns_.load(std::memory_order_relaxed); }

 private:
  enum State : uint32_t { kNone, kRunning, kEnded };

  static void* Main(void* argument) {
    ThreadHasStarted();
    SourceThread* self = static_cast<SourceThread*>(argument);
    pthread_setname_np(pthread_self(), self->name_);
    self->body_();
    self->PublishCpuTime();
    self->state_.store(kEnded, std::memory_order_release);
    self->ended_.Ring();
    return nullptr;
  }

  const char* name_ = nullptr;
  void (*body_)() = nullptr;
  std::atomic<uint32_t> state_{kNone};
  std::atomic<bool> live_{false};
  std::atomic<bool> finish_{false};
  std::atomic<uint64_t> cpu_ns_{0};
  Bell bell_;
  Bell ended_;
};

}  // namespace uvmtrace
