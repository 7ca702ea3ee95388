#include "preload/fork_guard.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "record/futex.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kWaitNs = 500'000'000;

constinit std::atomic<uint32_t> owner_tid{0};
using ChildHandler = void (*)();
constinit ChildHandler child_handler = nullptr;
constinit bool held_for_fork = false;  // written and read by the thread that holds it

// False: this thread has it already, or waited in vain.
bool Acquire() {
  const auto tid = static_cast<uint32_t>(syscall(SYS_gettid));
  const uint64_t deadline_ns = NowNs() + kWaitNs;
  for (;;) {
    uint32_t seen = 0;
    if (owner_tid.compare_exchange_strong(seen, tid, std::memory_order_acq_rel)) return true;
    const uint64_t now_ns = NowNs();
    if (seen == tid || now_ns >= deadline_ns) return false;
    FutexWait(&owner_tid, seen, deadline_ns - now_ns);
  }
}

void Release() {
  owner_tid.store(0, std::memory_order_release);
  FutexWakeAll(&owner_tid);
}

void BeforeFork() {
  if (Acquire()) held_for_fork = true;
}

void AfterForkInParent() {
  if (!held_for_fork || owner_tid.load(std::memory_order_relaxed) != static_cast<uint32_t>(syscall(SYS_gettid))) return;
  held_for_fork = false;
  Release();
}

void AfterForkInChild() {
  held_for_fork = false;
  owner_tid.store(0, std::memory_order_relaxed);
  child_handler();
}

}  // namespace

LoaderWork::LoaderWork() : owner_(Acquire()) {}

LoaderWork::~LoaderWork() {
  if (owner_) Release();
}

void GuardForks(void (*in_child)()) {
  child_handler = in_child;
  pthread_atfork(&BeforeFork, &AfterForkInParent, &AfterForkInChild);
}

}  // namespace uvmtrace
