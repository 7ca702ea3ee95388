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
  for (;;) {
    while (!self->has_work_ || self->done_) self->changed_.Wait(&lock);
    // Nobody else looks at the fields below while has_work_ is set.
    const double work_ns = self->work_ns_;
    self->mutex_.Unlock();
    Interval interval;
    interval.start_ns = RealtimeNs();
    BurnCpuNs(work_ns);
    interval.end_ns = RealtimeNs();
    self->mutex_.Lock();
    self->interval_ = interval;
    self->done_ = true;
    self->changed_.NotifyAll();
  }
  return nullptr;
}

}  // namespace uvmsim
