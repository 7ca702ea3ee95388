// The GPUs' front end: streams, and one thread that executes their work.
//
// Work of one stream runs in order. What a stream waits for is what CUDA says: events, and the default stream of its
// device, which waits for all streams that do not decline it, as they wait for it. Among what may run, what was
// submitted first is executed first. Executing it (the host functions, the paging model) is one thing, the time it
// takes on the virtual clock another: while work is "running" on that clock, the thread executes other streams' work.
// Its reports are made when its end has come.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "sim/engine/thread.h"
#include "sim/engine/virtual_clock.h"

namespace uvmsim {

class DeviceQueue {
 public:
  using Ticket = uint64_t;  // grows with every submission; 0 is always complete

  struct Work {
    // On the device thread. Gets the virtual time at which the work may begin, and returns that at which it ends.
    std::function<double(double start_ns)> execute;
    std::function<void()> complete;  // when that end has come; may be empty
    Ticket after = 0;                // not before this is complete
    // The queue's own.
    Ticket ticket = 0;
    double submitted_ns = 0;
  };

  // A stream's work. Outlives the stream while there is some.
  class Lane {
   public:
    // `blocking`: waits for the device's default stream, and that for it.
    Lane(int device, bool blocking, bool is_default) : device_(device), blocking_(blocking), is_default_(is_default) {}
    int device() const { return device_; }

   private:
    friend class DeviceQueue;
    const int device_;
    const bool blocking_;
    const bool is_default_;
    // Under the queue's lock.
    std::deque<Work> waiting_;
    bool running_ = false;
    Work current_;
    double end_ns_ = 0;  // of all that has been executed
  };

  explicit DeviceQueue(VirtualClock* clock) : clock_(*clock) {}
  bool Start();
  Ticket Submit(const std::shared_ptr<Lane>& lane, Work work);
  // Wait and WaitForDevice let the calling thread's virtual time reach the end of what it waited for.
  void Wait(const std::shared_ptr<Lane>& lane, Ticket ticket);
  // What was submitted before, to one device or to all.
  void WaitForDevice(int device);
  static constexpr int kAllDevices = -1;
  void WaitForTicket(Ticket ticket);  // and nothing about time
  // Whether work that is submitted now could begin at once, at the calling thread's time. Where nothing waits that is
  // known once the earlier work has been executed, so that this waits for it there.
  bool IsIdle(const std::shared_ptr<Lane>& lane);
  bool IsComplete(Ticket ticket);
  // From now on nothing more is executed: the process is about to end. What is running is left alone.
  void Freeze();
  // Blocks for ever once frozen: called by a kernel model before it looks at memory that may be going away.
  void StopHereIfFrozen();

 private:
  static void* Run(void* self);
  bool MayRunLocked(const Lane& lane) const;
  bool WaitsForLocked(const Lane& lane, const Lane& other) const;
  Lane* PickLocked();
  double StartLocked(const Lane& lane, const Work& work) const;
  void ExecuteLocked(Lane* lane);
  bool CompleteLocked(uint64_t now_ns);
  uint64_t NextEndLocked() const;
  void FinishLocked(Lane* lane);

  VirtualClock& clock_;
  Mutex mutex_;
  Condition changed_;
  std::vector<std::shared_ptr<Lane>> lanes_;  // with work
  std::map<Ticket, int> pending_;             // -> device
  std::vector<double> default_end_ns_;        // by device: of the default stream's work
  std::vector<double> blocking_end_ns_;       // by device: of the work that the default stream waits for
  std::vector<double> latest_end_ns_;         // by device: of all its work
  Ticket submitted_ = 0;
  bool frozen_ = false;
  int tid_ = 0;
};

}  // namespace uvmsim
