#include "preload/stacks/fork_guard.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "preload/stacks/stack.h"
#include "record/os/futex.h"
#include "record/os/loader_work.h"
#include "record/os/thread_start.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kWaitNs = LoaderWork::kWaitNs;

constinit std::atomic<uint32_t> forking{0};  // how many threads are about to fork

// Threads that walk a stack, by where their stacks lie.
struct alignas(64) Walkers {
  std::atomic<uint32_t> count{0};
};
constexpr size_t kWalkerWords = 16;
constinit Walkers walkers[kWalkerWords];

constinit std::atomic<void (*)()> child_handler{nullptr};
// Of the thread that forks.
__thread bool holds_loader __attribute__((tls_model("initial-exec"))) = false;
__thread bool walkers_gone __attribute__((tls_model("initial-exec"))) = false;

bool NobodyWalks() {
  for (const Walkers& word : walkers) {
    if (word.count.load(std::memory_order_seq_cst) != 0) return false;
  }
  return true;
}

void BeforeFork() {
  // One deadline for all that is waited for: a fork is held up by half a second at most.
  const uint64_t deadline_ns = NowNs() + kWaitNs;
  WaitForThreadStarts(deadline_ns);
  const uint64_t now_ns = NowNs();
  holds_loader = AcquireLoaderForFork(deadline_ns > now_ns ? deadline_ns - now_ns : 0);
  forking.fetch_add(1, std::memory_order_seq_cst);
  // A walk takes microseconds.
  while (!(walkers_gone = NobodyWalks()) && NowNs() < deadline_ns) sched_yield();
}

void AfterForkInParent() {
  forking.fetch_sub(1, std::memory_order_seq_cst);
  FutexWakeAll(&forking);
  if (holds_loader) ReleaseLoader();
}

void Reset() {
  ResetLoader();
  ResetThreadStarts();
  forking.store(0, std::memory_order_relaxed);
  for (Walkers& word : walkers) word.count.store(0, std::memory_order_relaxed);
}

void AfterForkInChild() {
  Reset();
  if (!walkers_gone) DistrustUnwinder();
  if (void (*const handler)() = child_handler.load(std::memory_order_acquire)) handler();
}

// Before main: a thread may look for callers in the loader's list before the session starts, while another one forks.
__attribute__((constructor)) void GuardFromTheStart() {
  pthread_atfork(&BeforeFork, &AfterForkInParent, &AfterForkInChild);
}

}  // namespace

StackWalk::StackWalk() {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &saved_cancel_state_);
  walkers_ = &walkers[reinterpret_cast<uintptr_t>(&holds_loader) >> 12 & (kWalkerWords - 1)].count;
  walkers_->fetch_add(1, std::memory_order_seq_cst);
  if (forking.load(std::memory_order_seq_cst) == 0) [[likely]]
    return;
  const uint64_t deadline_ns = NowNs() + kWaitNs;
  do {
    walkers_->fetch_sub(1, std::memory_order_seq_cst);
    for (uint32_t seen; (seen = forking.load(std::memory_order_seq_cst)) != 0;) {
      const uint64_t now_ns = NowNs();
      if (now_ns >= deadline_ns) {
        walkers_ = nullptr;
        return;
      }
      FutexWait(&forking, seen, deadline_ns - now_ns);
    }
    walkers_->fetch_add(1, std::memory_order_seq_cst);
  } while (forking.load(std::memory_order_seq_cst) != 0);
}

StackWalk::~StackWalk() {
  if (walkers_ != nullptr) walkers_->fetch_sub(1, std::memory_order_seq_cst);
  pthread_setcancelstate(saved_cancel_state_, nullptr);
}

void AfterForksInChildren(void (*in_child)()) { child_handler.store(in_child, std::memory_order_release); }

void ForgetForkGuard() {
  Reset();
  DistrustUnwinder();
}

}  // namespace uvmtrace
