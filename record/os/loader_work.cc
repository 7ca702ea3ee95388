#include "record/os/loader_work.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "record/os/futex.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constinit std::atomic<uint32_t> loader_owner{0};  // its tid

}  // namespace

// False: this thread has it already, or waited in vain.
bool AcquireLoader(uint64_t wait_ns) {
  const auto tid = static_cast<uint32_t>(syscall(SYS_gettid));
  const uint64_t deadline_ns = NowNs() + wait_ns;
  for (;;) {
    uint32_t seen = 0;
    if (loader_owner.compare_exchange_strong(seen, tid, std::memory_order_acq_rel)) return true;
    const uint64_t now_ns = NowNs();
    if (seen == tid || now_ns >= deadline_ns) return false;
    FutexWait(&loader_owner, seen, deadline_ns - now_ns);
  }
}

void ReleaseLoader() {
  loader_owner.store(0, std::memory_order_release);
  FutexWakeAll(&loader_owner);
}

void ResetLoader() { loader_owner.store(0, std::memory_order_relaxed); }

LoaderWork::LoaderWork(uint64_t wait_ns) : owner_(AcquireLoader(wait_ns)) {}

LoaderWork::~LoaderWork() {
  if (owner_) ReleaseLoader();
}

}  // namespace uvmtrace
