#include "sim/engine/device_queue.h"

#include <unistd.h>

#include <utility>

namespace uvmsim {

bool DeviceQueue::Start() {
  if (!StartThread("uvmsim GPU0", &DeviceQueue::Run, this)) return false;
  Lock lock(&mutex_);
  while (tid_ == 0) changed_.Wait(&lock);
  return true;
}

DeviceQueue::Ticket DeviceQueue::Submit(std::function<void()> work) {
  Lock lock(&mutex_);
  queue_.push_back(std::move(work));
  changed_.NotifyAll();
  return ++submitted_;
}

void DeviceQueue::Wait(Ticket ticket) {
  Lock lock(&mutex_);
  while (completed_ < ticket && !frozen_) changed_.Wait(&lock);
}

bool DeviceQueue::IsComplete(Ticket ticket) {
  Lock lock(&mutex_);
  return completed_ >= ticket;
}

DeviceQueue::Ticket DeviceQueue::last_submitted() {
  Lock lock(&mutex_);
  return submitted_;
}

bool DeviceQueue::OnDeviceThread() const { return gettid() == tid_; }

void DeviceQueue::Freeze() {
  Lock lock(&mutex_);
  frozen_ = true;
  changed_.NotifyAll();
}

void DeviceQueue::StopHereIfFrozen() {
  Lock lock(&mutex_);
  while (frozen_) changed_.Wait(&lock);
}

void* DeviceQueue::Run(void* self_pointer) {
  auto* self = static_cast<DeviceQueue*>(self_pointer);
  Lock lock(&self->mutex_);
  self->tid_ = gettid();
  self->changed_.NotifyAll();
  for (;;) {
    while (self->queue_.empty() || self->frozen_) self->changed_.Wait(&lock);
    std::function<void()> work = std::move(self->queue_.front());
    self->queue_.pop_front();
    self->mutex_.Unlock();
    work();
    work = nullptr;  // its destructors too, before it counts as done
    self->mutex_.Lock();
    ++self->completed_;
    self->changed_.NotifyAll();
  }
  return nullptr;
}

}  // namespace uvmsim
