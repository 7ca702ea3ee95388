#include "sim/engine/device_queue.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace uvmsim {
namespace {

constexpr uint64_t kNever = ~uint64_t{0};

double& At(std::vector<double>* times, int device) {
  if (times->size() <= static_cast<size_t>(device)) times->resize(static_cast<size_t>(device) + 1);
  return (*times)[static_cast<size_t>(device)];
}

}  // namespace

bool DeviceQueue::Start() {
  default_end_ns_.resize(1);
  blocking_end_ns_.resize(1);
  if (!StartThread("uvmsim GPU0", &DeviceQueue::Run, this)) return false;
  Lock lock(&mutex_);
  while (tid_ == 0) changed_.Wait(&lock);
  return true;
}

DeviceQueue::Ticket DeviceQueue::Submit(const std::shared_ptr<Lane>& lane, Work work) {
  work.submitted_ns = clock_.HostNow();
  Lock lock(&mutex_);
  work.ticket = ++submitted_;
  pending_[work.ticket] = lane->device_;
  if (lane->waiting_.empty() && !lane->running_) lanes_.push_back(lane);
  lane->waiting_.push_back(std::move(work));
  changed_.NotifyAll();
  return submitted_;
}

void DeviceQueue::WaitForTicket(Ticket ticket) {
  Lock lock(&mutex_);
  while (pending_.count(ticket) != 0 && !frozen_) changed_.Wait(&lock);
}

void DeviceQueue::Wait(const std::shared_ptr<Lane>& lane, Ticket ticket) {
  WaitForTicket(ticket);
  double end_ns = 0;
  {
    Lock lock(&mutex_);
    end_ns = lane->end_ns_;
  }
  clock_.HostReached(end_ns);
}

void DeviceQueue::WaitForDevice(int device) {
  const auto meant = [&](int other) { return device == kAllDevices || other == device; };
  double end_ns = 0;
  {
    Lock lock(&mutex_);
    const Ticket last = submitted_;
    const auto busy = [&] {
      return std::any_of(pending_.begin(), pending_.upper_bound(last),
                         [&](const auto& entry) { return meant(entry.second); });
    };
    while (busy() && !frozen_) changed_.Wait(&lock);
    for (size_t i = 0; i < latest_end_ns_.size(); ++i) {
      if (meant(static_cast<int>(i))) end_ns = std::max(end_ns, latest_end_ns_[i]);
    }
  }
  clock_.HostReached(end_ns);
}

bool DeviceQueue::IsComplete(Ticket ticket) {
  Lock lock(&mutex_);
  return pending_.count(ticket) == 0;
}

void DeviceQueue::Freeze() {
  Lock lock(&mutex_);
  frozen_ = true;
  changed_.NotifyAll();
}

void DeviceQueue::StopHereIfFrozen() {
  Lock lock(&mutex_);
  while (frozen_) changed_.Wait(&lock);
}

bool DeviceQueue::IsIdle(const std::shared_ptr<Lane>& lane) {
  Lock lock(&mutex_);
  const auto busy = [&] {
    return std::any_of(lanes_.begin(), lanes_.end(),
                       [&](const auto& other) { return other == lane || WaitsForLocked(*lane, *other); });
  };
  if (clock_.FollowsRealTime()) return !busy();
  while (busy() && !frozen_) changed_.Wait(&lock);
  return StartLocked(*lane, {}) <= clock_.HostNow();
}

// The default stream for the others of its device, and they for it.
bool DeviceQueue::WaitsForLocked(const Lane& lane, const Lane& other) const {
  return &other != &lane && lane.blocking_ && other.blocking_ && other.device_ == lane.device_ &&
         (lane.is_default_ || other.is_default_);
}

bool DeviceQueue::MayRunLocked(const Lane& lane) const {
  if (lane.running_ || lane.waiting_.empty()) return false;
  const Work& work = lane.waiting_.front();
  if (pending_.count(work.after) != 0) return false;
  if (!lane.blocking_) return true;
  return std::none_of(lanes_.begin(), lanes_.end(), [&](const std::shared_ptr<Lane>& other) {
    if (!WaitsForLocked(lane, *other)) return false;
    const Ticket oldest = other->running_ ? other->current_.ticket : other->waiting_.front().ticket;
    return oldest < work.ticket;
  });
}

DeviceQueue::Lane* DeviceQueue::PickLocked() {
  Lane* first = nullptr;
  for (const std::shared_ptr<Lane>& lane : lanes_) {
    if (!MayRunLocked(*lane)) continue;
    if (first == nullptr || lane->waiting_.front().ticket < first->waiting_.front().ticket) first = lane.get();
  }
  return first;
}

double DeviceQueue::StartLocked(const Lane& lane, const Work& work) const {
  const double start = std::max(work.submitted_ns, lane.end_ns_);
  if (!lane.blocking_) return start;
  const std::vector<double>& others = lane.is_default_ ? blocking_end_ns_ : default_end_ns_;
  const auto device = static_cast<size_t>(lane.device_);
  return device < others.size() ? std::max(start, others[device]) : start;
}

void DeviceQueue::ExecuteLocked(Lane* lane) {
  lane->current_ = std::move(lane->waiting_.front());
  lane->waiting_.pop_front();
  lane->running_ = true;
  const double start_ns = StartLocked(*lane, lane->current_);
  mutex_.Unlock();
  clock_.BeginExecution();
  const double end_ns = std::max(lane->current_.execute(start_ns), start_ns);
  lane->current_.execute = nullptr;  // its destructors too, before it counts as done
  mutex_.Lock();
  lane->end_ns_ = end_ns;
  double& latest = At(&latest_end_ns_, lane->device_);
  latest = std::max(latest, end_ns);
  if (lane->is_default_) At(&default_end_ns_, lane->device_) = end_ns;
  if (lane->blocking_) {
    double& blocking = At(&blocking_end_ns_, lane->device_);
    blocking = std::max(blocking, end_ns);
  }
  clock_.EndExecution(end_ns);
}

void DeviceQueue::FinishLocked(Lane* lane) {
  if (lane->current_.complete) {
    mutex_.Unlock();
    lane->current_.complete();
    lane->current_.complete = nullptr;
    mutex_.Lock();
  }
  pending_.erase(lane->current_.ticket);
  lane->running_ = false;
  if (lane->waiting_.empty()) {
    lanes_.erase(std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& other) { return other.get() == lane; }));
  }
  changed_.NotifyAll();
}

// One piece of work whose end has come. False if there is none.
bool DeviceQueue::CompleteLocked(uint64_t now_ns) {
  for (const std::shared_ptr<Lane>& lane : lanes_) {
    if (!lane->running_ || clock_.Real(lane->end_ns_) > now_ns) continue;
    FinishLocked(lane.get());
    return true;
  }
  return false;
}

uint64_t DeviceQueue::NextEndLocked() const {
  uint64_t next = kNever;
  for (const std::shared_ptr<Lane>& lane : lanes_) {
    if (lane->running_) next = std::min(next, clock_.Real(lane->end_ns_));
  }
  return next;
}

void* DeviceQueue::Run(void* self_pointer) {
  auto* self = static_cast<DeviceQueue*>(self_pointer);
  Lock lock(&self->mutex_);
  self->tid_ = gettid();
  self->changed_.NotifyAll();
  for (;;) {
    if (self->frozen_) {
      self->changed_.Wait(&lock);
      continue;
    }
    const uint64_t now_ns = VirtualClock::MonotonicNs();
    if (self->CompleteLocked(now_ns)) continue;
    if (Lane* lane = self->PickLocked()) {
      self->ExecuteLocked(lane);
      continue;
    }
    const uint64_t next_ns = self->NextEndLocked();
    if (next_ns == kNever) {
      self->changed_.Wait(&lock);
    } else if (next_ns > now_ns) {
      self->changed_.WaitFor(&lock, next_ns - now_ns);
    }
  }
  return nullptr;
}

}  // namespace uvmsim
