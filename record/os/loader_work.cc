#include "record/os/loader_work.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "record/os/futex.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr uint32_t kForks = 0x80000000;  // beside its tid

constinit std::atomic<uint32_t> loader_owner{0};  // its tid

bool Acquire(uint64_t wait_ns, uint32_t why) {
  const auto tid = static_cast<uint32_t>(syscall(SYS_gettid));
  const uint64_t start_ns = NowNs();
  for (;;) {
    uint32_t seen = 0;
    if (loader_owner.compare_exchange_strong(seen, tid | why, std::memory_order_acq_rel)) return true;
    // A fork needs nothing of the loader's, so it is over soon, and who does not wait for it spoils its child.
    const uint64_t deadline_ns = start_ns + ((seen & kForks) != 0 ? std::max(wait_ns, LoaderWork::kWaitNs) : wait_ns);
    const uint64_t now_ns = NowNs();
    if ((seen & ~kForks) == tid || now_ns >= deadline_ns) return false;
    FutexWait(&loader_owner, seen, deadline_ns - now_ns);
  }
}

}  // namespace

bool AcquireLoaderForFork(uint64_t wait_ns) { return Acquire(wait_ns, kForks); }

void ReleaseLoader() {
  loader_owner.store(0, std::memory_order_release);
  FutexWakeAll(&loader_owner);
}

void ResetLoader() { loader_owner.store(0, std::memory_order_relaxed); }

LoaderWork::LoaderWork(uint64_t wait_ns) : owner_(Acquire(wait_ns, 0)) {}

LoaderWork::~LoaderWork() {
  if (owner_) ReleaseLoader();
}

}  // namespace uvmtrace
