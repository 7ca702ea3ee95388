#include "sim/engine/bottom_half.h"

#include <unistd.h>

#include <cstdio>

#include "sim/engine/clock.h"

namespace uvmsim {

bool BottomHalf::Start(int gpu) {
  char name[16];
  snprintf(name, sizeof name, "UVM GPU%d BH", gpu);
  if (!StartThread(name, &BottomHalf::Run, this)) return false;
  Lock lock(&mutex_);
  while (tid_ == 0) changed_.Wait(&lock);
  return true;
}

Interval BottomHalf::Service(double cpu_ns) {
  Lock lock(&mutex_);
  while (has_work_) changed_.Wait(&lock);  // another caller's batch
  work_ns_ = cpu_ns;
  interval_.Start();  // the fault is there: waking up is part of its service
  has_work_ = true;
  done_ = false;
  serviced_ns_ += cpu_ns;
  changed_.NotifyAll();
  while (!done_) changed_.Wait(&lock);
  has_work_ = false;
  const Interval interval = interval_;
  changed_.NotifyAll();
  return interval;
}

void* BottomHalf::Run(void* self_pointer) {
  auto* self = static_cast<BottomHalf*>(self_pointer);
  Lock lock(&self->mutex_);
  self->tid_ = gettid();
  self->changed_.NotifyAll();
  uint64_t settled_ns = ReadClockNs(CLOCK_THREAD_CPUTIME_ID);
  for (;;) {
    while (!self->has_work_ || self->done_) self->changed_.Wait(&lock);
    // Nobody else looks at the fields below while has_work_ is set.
    const double work_ns = self->work_ns_;
    self->mutex_.Unlock();
    // Going to sleep and waking up between the batches has cost CPU time as well; it counts as part of this one, so
    // that the thread's sum is the modelled one.
    BurnCpuUntil(settled_ns + static_cast<uint64_t>(work_ns));
    settled_ns = ReadClockNs(CLOCK_THREAD_CPUTIME_ID);
    self->interval_.End();
    self->mutex_.Lock();
    self->done_ = true;
    self->changed_.NotifyAll();
  }
  return nullptr;
}

}  // namespace uvmsim
