// See ring_registry.h.
#include "record/ring_registry.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>

#include "record/memory.h"

namespace uvmtrace {

void RingRegistry::Occupy(ThreadRing* ring, Owner owner) {
  const int saved_errno = errno;
  ring->tid = owner == Owner::kNobody ? 0 : static_cast<uint32_t>(syscall(SYS_gettid));
  // Read here and not by the writer: the thread may be gone before the writer looks.
  if (prctl(PR_GET_NAME, ring->thread_name) != 0) ring->thread_name[0] = 0;
  ++ring->generation;
  errno = saved_errno;
  ring->state.store(ThreadRing::kInUse, std::memory_order_release);
}

ThreadRing* RingRegistry::TakeFree(RingKind kind) {
  // The count keeps the threads that get no ring from walking the list at each of their events.
  if (free_rings_[static_cast<int>(kind)].load(std::memory_order_relaxed) == 0) return nullptr;
  for (ThreadRing* ring = first(); ring != nullptr; ring = ring->next) {
    uint32_t expected = ThreadRing::kFree;
    if (ring->kind == kind &&
        ring->state.compare_exchange_strong(expected, ThreadRing::kAttaching, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
      free_rings_[static_cast<int>(kind)].fetch_sub(1, std::memory_order_relaxed);
      return ring;
    }
  }
  return nullptr;
}

ThreadRing* RingRegistry::Create(RingKind kind) {
  for (size_t capacity = kind == RingKind::kSource ? kSourceRingBytes : kHostRingBytes; capacity >= kSmallestRingBytes;
       capacity /= 2) {
    if (used_bytes_.fetch_add(capacity, std::memory_order_relaxed) + capacity > budget_bytes_) {
      used_bytes_.fetch_sub(capacity, std::memory_order_relaxed);
      continue;
    }
    constexpr size_t kHeaderBytes = RoundUpToPages(sizeof(ThreadRing));
    uint8_t* memory = static_cast<uint8_t*>(MapPages(kHeaderBytes + capacity));
    if (memory == nullptr) {
      used_bytes_.fetch_sub(capacity, std::memory_order_relaxed);
      continue;
    }
    ThreadRing* ring = new (memory) ThreadRing;
    ring->kind = kind;
    ring->state.store(ThreadRing::kAttaching, std::memory_order_relaxed);
    ring->ring.Initialize(memory + kHeaderBytes, capacity);
    ThreadRing* next = first_.load(std::memory_order_relaxed);
    do {
      ring->next = next;
    } while (!first_.compare_exchange_weak(next, ring, std::memory_order_release, std::memory_order_relaxed));
    return ring;
  }
  return nullptr;
}

ThreadRing* RingRegistry::Attach(RingKind kind, Owner owner) {
  ThreadRing* ring = TakeFree(kind);
  if (ring == nullptr) ring = Create(kind);
  if (ring != nullptr) Occupy(ring, owner);
  return ring;
}

void RingRegistry::Recycle(ThreadRing* ring) {
  ring->state.store(ThreadRing::kFree, std::memory_order_release);
  free_rings_[static_cast<int>(ring->kind)].fetch_add(1, std::memory_order_relaxed);
}

void RingRegistry::OrphanRingsOfDeadThreads(pid_t pid) {
  for (ThreadRing* ring = first(); ring != nullptr; ring = ring->next) {
    uint32_t state = ring->state.load(std::memory_order_acquire);
    if (state != ThreadRing::kInUse || ring->tid == 0) continue;
    // Signal 0 only asks. Anything but "no such thread" (a seccomp filter's EPERM) proves nothing.
    if (syscall(SYS_tgkill, pid, static_cast<pid_t>(ring->tid), 0) == 0 || errno != ESRCH) continue;
    ring->state.compare_exchange_strong(state, ThreadRing::kOrphaned, std::memory_order_acq_rel);
  }
}

}  // namespace uvmtrace
