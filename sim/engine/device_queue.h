// The GPU's front end: one thread that executes the work of all streams in the order in which it was submitted.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "sim/engine/thread.h"

namespace uvmsim {

class DeviceQueue {
 public:
  using Ticket = uint64_t;  // grows with every submission; 0 is always complete

  bool Start();
  Ticket Submit(std::function<void()> work);
  void Wait(Ticket ticket);
  bool IsComplete(Ticket ticket);
  Ticket last_submitted();
  // Whether the calling thread is the device's.
  bool OnDeviceThread() const;
  // From now on nothing more is executed: the process is about to end. What is running is left alone.
  void Freeze();
  // Blocks for ever once frozen: called by a kernel model before it looks at memory that may be going away.
  void StopHereIfFrozen();

 private:
  static void* Run(void* self);

  Mutex mutex_;
  Condition changed_;
  std::deque<std::function<void()>> queue_;
  Ticket submitted_ = 0;
  Ticket completed_ = 0;
  bool frozen_ = false;
  int tid_ = 0;
};

}  // namespace uvmsim
