#include "sim/engine/tools_queue.h"

#include <unistd.h>

#include <algorithm>

namespace uvmsim {

// What a thread's name holds of "UVM Tools Event Queue".
constexpr char kThreadName[] = "UVM Tools Event";

// Events wait here for a thread that only has to wake up.
constexpr uint32_t kPendingEntries = 1 << 16;

bool ToolsQueue::Ring::Push(const CuptiMemoryRecord& record) {
  if (count == capacity) return false;
  records[(first + count++) % capacity] = record;
  return true;
}

bool ToolsQueue::Ring::Pop(CuptiMemoryRecord* record) {
  if (count == 0) return false;
  *record = records[first];
  first = (first + 1) % capacity;
  --count;
  return true;
}

ToolsQueue::ToolsQueue(uint32_t entries, void (*started)(int tid))
    : pending_(std::max(kPendingEntries, entries)), delivered_(entries), started_(started) {}

void ToolsQueue::Enable(uint32_t counter_kinds) {
  bool start = false;
  {
    Lock lock(&mutex_);
    enabled_ = counter_kinds;
    start = counter_kinds != 0 && !running_;
    running_ |= start;
  }
  if (!start) return;
  const bool started = StartThread(kThreadName, &ToolsQueue::Run, this);
  Lock lock(&mutex_);
  if (!started) {
    running_ = false;
    enabled_ = 0;
  }
  // The driver's thread is there before any profiler asks for it; who looks for this one now must find it.
  while (started && !visible_) changed_.Wait(&lock);
}

void ToolsQueue::Push(const CuptiMemoryRecord& record) {
  if (!Wants(record.counter_kind)) return;
  Lock lock(&mutex_);
  if (!pending_.Push(record)) dropped_.fetch_add(1, std::memory_order_relaxed);
  if (pending_.count == 1) changed_.NotifyAll();
}

void ToolsQueue::Flush() {
  Lock lock(&mutex_);
  while (running_ && pending_.count != 0) changed_.Wait(&lock);
}

size_t ToolsQueue::Read(CuptiMemoryRecord* records, size_t capacity) {
  Lock lock(&mutex_);
  size_t count = 0;
  while (count < capacity && delivered_.Pop(&records[count])) ++count;
  return count;
}

void* ToolsQueue::Run(void* self_pointer) {
  auto* self = static_cast<ToolsQueue*>(self_pointer);
  pthread_setname_np(pthread_self(), kThreadName);  // before anybody can look for it
  self->started_(gettid());
  Lock lock(&self->mutex_);
  self->visible_ = true;
  for (;;) {
    CuptiMemoryRecord record;
    while (self->pending_.Pop(&record)) {
      if (!self->delivered_.Push(record)) self->dropped_.fetch_add(1, std::memory_order_relaxed);
    }
    self->changed_.NotifyAll();
    self->changed_.Wait(&lock);
  }
  return nullptr;
}

}  // namespace uvmsim
