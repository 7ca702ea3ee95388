// Which thread has which ring.
//
// A thread gets a ring at its first event: a free one of a thread that ended, or new memory while the budget lasts.
// Rings are linked into a list that only grows, so the writer walks it without a lock and a thread may be interrupted
// anywhere.
//
//   free --Attach--> attaching --> in use --thread ends--> orphaned --writer has drained it--> free
//
// That a thread ended is told by a pthread key's destructor, or, where that could not be set without malloc, found by
// the writer's sweep.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "record/recorder.h"
#include "record/ring.h"

namespace uvmtrace {

struct ThreadRing {
  // kLeft: its thread has another one now, and may come back to this one (Ring::WasLeft). It is drained, and never
  // given to another thread.
  enum State : uint32_t { kFree, kAttaching, kInUse, kOrphaned, kLeft };

  ThreadRing* next = nullptr;  // never changes once the ring is in the list
  RingKind kind = RingKind::kHost;
  std::atomic<uint32_t> state{kFree};
  // Written between kAttaching and kInUse.
  uint32_t tid = 0;         // 0: the ring is nobody's own (SharedSource)
  uint32_t generation = 0;  // how many threads have had this ring
  char thread_name[16] = {};

  // The writer's.
  uint64_t drain_until = 0;
  uint32_t named_generation = 0;
  bool last_drain = false;

  Ring ring;
};

class RingRegistry {
 public:
  static constexpr size_t kHostRingBytes = 256 * 1024;
  static constexpr size_t kSourceRingBytes = 4 * 1024 * 1024;
  static constexpr size_t kSmallestRingBytes = 64 * 1024;

  void SetBudget(size_t bytes) { budget_bytes_ = bytes; }

  // A ring for the calling thread, null if there is no memory for one. Async-signal-safe. Near the end of the budget
  // rings are smaller rather than missing.
  enum class Owner : uint8_t { kThisThread, kNobody };
  ThreadRing* Attach(RingKind kind, Owner owner = Owner::kThisThread);

  // The thread that had the ring has ended, or does not want it any more.
  static void Orphan(ThreadRing* ring) { ring->state.store(ThreadRing::kOrphaned, std::memory_order_release); }

  static void Leave(ThreadRing* ring) { ring->state.store(ThreadRing::kLeft, std::memory_order_release); }

  // The rest is the writer's.
  ThreadRing* first() const { return first_.load(std::memory_order_acquire); }
  void Recycle(ThreadRing* ring);
  // Orphans the rings of threads of this process that no longer exist.
  void OrphanRingsOfDeadThreads(pid_t pid);

 private:
  ThreadRing* TakeFree(RingKind kind);
  ThreadRing* Create(RingKind kind);
  static void Occupy(ThreadRing* ring, Owner owner);

  std::atomic<ThreadRing*> first_{nullptr};
  std::atomic<uint32_t> free_rings_[2] = {};
  std::atomic<size_t> used_bytes_{0};
  size_t budget_bytes_ = 0;
};

}  // namespace uvmtrace
