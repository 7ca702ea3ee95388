// See tools_queue.h.
#include "driver/tools_queue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "driver/proc_file.h"
#include "record/os/clocks.h"
#include "driver/tools_advice.h"

namespace uvmtrace {
namespace {

// Events of the ten seconds before the queue was opened cannot be in it; more would be a clock of another kind.
constexpr uint64_t kOldestNs = 10'000'000'000;
// A poll wakes the reader when this much of the ring is filled, if its period has not done so before.
constexpr uint32_t kThresholdDivisor = 64;

}  // namespace

uint64_t MonotonicRawNs() { return ReadClockNs(CLOCK_MONOTONIC_RAW); }

bool ToolsQueue::Map(uint32_t entries) {
  page_bytes_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t bytes = page_bytes_ + size_t{entries} * kToolsEntryBytes;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  if (madvise(memory, bytes, MADV_DONTFORK) != 0) {
    const int error = errno;
    munmap(memory, bytes);
    errno = error;
    return false;
  }
  madvise(memory, bytes, MADV_HUGEPAGE);  // quicker to fill; no matter if not
  memory_ = memory;
  memory_bytes_ = bytes;
  entries_ = entries;
  return true;
}

void ToolsQueue::Unmap() {
  if (memory_ != nullptr) munmap(memory_, memory_bytes_);
  memory_ = nullptr;
}

bool ToolsQueue::Open(const ToolsCalls& calls, int va_space, uint32_t most_entries, uint64_t events, char* reason,
                      size_t reason_size, bool* wrong_va_space) {
  *wrong_va_space = false;
  calls_ = &calls;
  for (uint32_t entries = most_entries; entries >= kFewestEntries; entries /= 4) {
    if (!descriptor_.Open(calls)) {
      DescribeNoDevice(errno, reason, reason_size);
      return false;
    }
    if (!Map(entries)) {
      const int error = errno;
      descriptor_.Close();
      snprintf(reason, reason_size, "no memory for a queue: %s; raise the limit of address space (ulimit -v)",
               ErrorText(error).text);
      continue;
    }
    uint8_t* const ring = static_cast<uint8_t*>(memory_) + page_bytes_;
    ToolsControl* const control = new (memory_) ToolsControl;
    ToolsTrackerRequest request;
    request.queue = ring;
    request.entries = entries;
    request.control = control;
    request.va_space = va_space;
    ToolsAnswer answer = InitTracker(calls, descriptor_.number(), request);
    if (!answer.ok()) {
      DescribeRefusal(calls, "an event queue", answer, reason, reason_size);
      descriptor_.Close();
      Unmap();
      if (answer.short_of_memory()) continue;
      *wrong_va_space = true;
      return false;
    }
    reader_.Attach(ring, entries, control, MonotonicRawNs() - kOldestNs);
    if (reader_.insane() != nullptr) {
      DescribeStrangeQueue(calls, reader_.insane(), reason, reason_size);
      Close();
      return false;
    }
    answer = SetThreshold(calls, descriptor_.number(), entries / kThresholdDivisor);
    if (!answer.ok()) {
      DescribeRefusal(calls, "a threshold for its event queue", answer, reason, reason_size);
      Close();
      return false;
    }
    answer = Enable(events);
    if (!answer.ok()) {
      DescribeRefusal(calls, "to put events into its queue", answer, reason, reason_size);
      Close();
      return false;
    }
    return true;
  }
  return false;
}

ToolsAnswer ToolsQueue::Enable(uint64_t events) {
  if (!descriptor_.StillOurs()) return {EBADF, 0};
  return events == 0 ? ToolsAnswer() : EnableEvents(*calls_, descriptor_.number(), events);
}

ToolsAnswer ToolsQueue::Disable(uint64_t events) {
  if (!descriptor_.StillOurs()) return {EBADF, 0};
  return events == 0 ? ToolsAnswer() : DisableEvents(*calls_, descriptor_.number(), events);
}

void ToolsQueue::Close() {
  descriptor_.Close();
  // Where the program took the descriptor away a copy of it may live on. The driver then writes into pages that it has
  // pinned and nobody sees any more.
  Unmap();
}

void ToolsQueue::Abandon() {
  descriptor_.Close();
  memory_ = nullptr;
  reader_ = QueueReader();
}

}  // namespace uvmtrace
