// Everything that one recording shares between the host's threads and the writer.
//
// It lives in pages of its own that are never given back: a thread may be inside Record while the process ends, and a
// forked child forgets the whole recording by forgetting one pointer, without taking a lock that some thread of the
// parent may have held.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cstdint>

#include "record/definitions.h"
#include "record/interner.h"
#include "record/loss_table.h"
#include "record/os/futex.h"
#include "record/output_file.h"
#include "record/ring_registry.h"

namespace uvmtrace {

struct Session {
  enum Start : uint32_t { kStarting, kStarted, kStartFailed };

  pid_t pid = 0;
  uint32_t epoch = 0;
  uint64_t run_id = 0;
  void (*end_for_host)() = nullptr;
  uint64_t max_file_bytes = 0;

  RingRegistry rings;
  StringInterner strings;
  Definitions definitions;
  LossTable losses;
  OutputFile file;

  // Events of threads that got no ring, by type.
  std::atomic<uint64_t> lost_without_ring[kEventTypeCount] = {};

  // Futex words. `wake` is 1 when the writer has a reason not to sleep. A flush takes a number from `flushes_requested`
  // and waits until `flushes_done` has reached it.
  std::atomic<uint32_t> wake{0};
  std::atomic<uint32_t> start{kStarting};
  std::atomic<uint32_t> flushes_requested{0};
  std::atomic<uint32_t> flushes_done{0};

  std::atomic<bool> close_requested{false};
  std::atomic<bool> writing_fails{false};  // the last chunk could not be written

  std::atomic<bool> writer_ended{false};
  std::atomic<uint64_t> writer_cpu_ns{0};  // once it has ended
  clockid_t writer_clock = CLOCK_THREAD_CPUTIME_ID;

  void WakeWriter() {
    if (wake.load(std::memory_order_relaxed) == 0 && wake.exchange(1, std::memory_order_release) == 0) {
      FutexWakeAll(&wake);
    }
  }
};

}  // namespace uvmtrace
