// Threads and locks of the simulator: they live beside a host program's threads and signal handlers.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <cstdint>
#include <ctime>
#include <initializer_list>

namespace uvmsim {

// The signals that an engine thread, or a thread inside of the engine, must not be interrupted by: a handler that
// touches managed memory would fault and want the engine's lock a second time. Faults of the thread itself stay
// deliverable.
inline sigset_t AsynchronousSignals() {
  sigset_t set;
  sigfillset(&set);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&set, signal);
  return set;
}

class Mutex {
 public:
  void Lock() { pthread_mutex_lock(&mutex_); }
  void Unlock() { pthread_mutex_unlock(&mutex_); }
  pthread_mutex_t* native() { return &mutex_; }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

class Lock {
 public:
  explicit Lock(Mutex* mutex) : mutex_(mutex) {
    const sigset_t block = AsynchronousSignals();
    pthread_sigmask(SIG_BLOCK, &block, &saved_);
    mutex_->Lock();
  }
  ~Lock() {
    mutex_->Unlock();
    pthread_sigmask(SIG_SETMASK, &saved_, nullptr);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  Mutex* mutex() { return mutex_; }

 private:
  Mutex* mutex_;
  sigset_t saved_;
};

class Condition {
 public:
  void Wait(Lock* lock) { pthread_cond_wait(&condition_, lock->mutex()->native()); }
  void WaitFor(Lock* lock, uint64_t ns) {
    timespec until = {};
    clock_gettime(CLOCK_MONOTONIC, &until);
    const uint64_t nanoseconds = static_cast<uint64_t>(until.tv_nsec) + ns;
    until.tv_sec += static_cast<time_t>(nanoseconds / 1'000'000'000);
    until.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
    pthread_cond_clockwait(&condition_, lock->mutex()->native(), CLOCK_MONOTONIC, &until);
  }
  void NotifyAll() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};

// Starts a detached thread that blocks the host's signals. False if the system has none left.
inline bool StartThread(const char* name, void* (*body)(void*), void* argument) {
  const sigset_t block = AsynchronousSignals();
  sigset_t saved;
  pthread_sigmask(SIG_BLOCK, &block, &saved);
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, body, argument);
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  if (error != 0) return false;
  pthread_setname_np(thread, name);
  pthread_detach(thread);
  return true;
}

}  // namespace uvmsim
