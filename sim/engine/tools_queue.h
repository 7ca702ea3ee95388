// The driver's tools events on their way to CUPTI: the thread "UVM Tools Event" moves them into a bounded queue, and
// what finds the queue full is lost without a word, as with the real driver.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sim/engine/tables.h"
#include "sim/engine/thread.h"

namespace uvmsim {

class ToolsQueue {
 public:
  // `started(tid)` is called when the thread runs; `entries` is the capacity of the queue.
  ToolsQueue(uint32_t entries, void (*started)(int tid));

  // Starts the thread at the first call with a kind.
  void Enable(uint32_t counter_kinds);
  bool Wants(uint32_t counter_kind) const { return (enabled_.load(std::memory_order_relaxed) >> counter_kind) & 1; }

  // Allocates nothing: also called from the page fault handler.
  void Push(const CuptiMemoryRecord& record);
  void Flush();
  size_t Read(CuptiMemoryRecord* records, size_t capacity);
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  struct Ring {
    explicit Ring(uint32_t size) : records(new CuptiMemoryRecord[size]), capacity(size) {}
    bool Push(const CuptiMemoryRecord& record);
    bool Pop(CuptiMemoryRecord* record);
    std::unique_ptr<CuptiMemoryRecord[]> records;
    uint32_t capacity;
    uint32_t first = 0;
    uint32_t count = 0;
  };
  static void* Run(void* self);

  Mutex mutex_;
  Condition changed_;
  Ring pending_;    // between the fault handlers and the thread
  Ring delivered_;  // between the thread and CUPTI
  std::atomic<uint32_t> enabled_{0};
  std::atomic<uint64_t> dropped_{0};
  bool running_ = false;
  bool visible_ = false;  // the thread has its name, and its place in the simulated /proc
  void (*started_)(int tid);
};

}  // namespace uvmsim
