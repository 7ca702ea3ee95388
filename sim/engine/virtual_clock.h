// The simulator's own time, in nanoseconds since it started: what modelled work takes. Events and UvmsimNowNs() tell
// it.
//
// With a time scale above 0 it runs with the real clock, one virtual nanosecond in `scale` real ones: real(t) = start +
// held + t * scale. While the device thread executes a piece of work nobody knows yet how long that takes, and the
// clock stands still for those who read it. Afterwards it is where the real clock says, or, if the simulator needed
// longer than the model says, at the end of the work: `held` grows by the difference. So that no time stamp is in the
// future, whoever reports a piece of work waits until real(its end) has come.
//
// With scale 0 nothing waits, and the real clock says nothing about virtual time. Each host thread has a time of its
// own: it moves when the thread waits for work, or does what the model charges to it. Work begins no earlier than the
// time of the thread that submitted it. Virtual times then depend on the program's calls alone, and are the same in
// every run.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

#include "sim/engine/clock.h"

namespace uvmsim {

class VirtualClock {
 public:
  explicit VirtualClock(double scale) : scale_(scale), start_ns_(MonotonicNs()) {}

  bool FollowsRealTime() const { return scale_ > 0; }
  static uint64_t MonotonicNs() { return ReadClockNs(CLOCK_MONOTONIC); }

  // The calling host thread's time.
  double HostNow() {
    if (FollowsRealTime()) return VirtualNow();
    double& mine = ThreadTime();
    if (mine < 0) mine = newest_ns_.load(std::memory_order_relaxed);
    return mine;
  }
  // The calling thread has seen something that is over at `time_ns`.
  void HostReached(double time_ns) {
    if (FollowsRealTime()) return;
    double& mine = ThreadTime();
    mine = std::max(HostNow(), time_ns);
    double newest = newest_ns_.load(std::memory_order_relaxed);
    while (newest < mine && !newest_ns_.compare_exchange_weak(newest, mine, std::memory_order_relaxed)) {
    }
  }
  // The calling thread has worked that long. With a scale it does so by burning the time itself.
  void HostWorked(double ns) {
    if (!FollowsRealTime() && ns > 0) HostReached(HostNow() + ns);
  }

  // CLOCK_MONOTONIC at which virtual `time_ns` comes, or came; 0 where nothing waits.
  uint64_t Real(double time_ns) const {
    if (!FollowsRealTime()) return 0;
    return start_ns_ + held_ns_.load() + static_cast<uint64_t>(std::ceil(time_ns * scale_));
  }
  // The device thread, around each piece of work. `end_ns` is its virtual end.
  void BeginExecution() {
    Change([&] { still_at_ns_ = MonotonicNs(); });
  }
  void EndExecution(double end_ns) {
    Change([&] {
      const uint64_t now_ns = MonotonicNs();
      // Work that may have ended before it was executed, beside another stream's, takes no time now.
      const uint64_t due_ns = std::max(Real(end_ns), still_at_ns_.load());
      if (FollowsRealTime() && now_ns > due_ns) held_ns_ += now_ns - due_ns;
      still_at_ns_ = 0;
    });
  }

 private:
  double VirtualNow() const {
    for (;;) {
      const uint32_t version = version_.load();
      const uint64_t still_at_ns = still_at_ns_;
      const uint64_t origin_ns = start_ns_ + held_ns_;
      const uint64_t now_ns = MonotonicNs();
      if (version % 2 != 0 || version_.load() != version) continue;
      const uint64_t at_ns = still_at_ns != 0 ? still_at_ns : now_ns;
      return at_ns > origin_ns ? static_cast<double>(at_ns - origin_ns) / scale_ : 0;
    }
  }
  // Only the device thread writes; `version_` is odd meanwhile, so that nobody reads half of it.
  template <typename Write>
  void Change(Write write) {
    ++version_;
    write();
    ++version_;
  }
  // Negative: not set yet. In the thread's static block: a page fault handler must not allocate it.
  static double& ThreadTime() {
    static thread_local double time __attribute__((tls_model("initial-exec"))) = -1;
    return time;
  }

  const double scale_;
  const uint64_t start_ns_;
  std::atomic<uint32_t> version_{0};
  std::atomic<uint64_t> held_ns_{0};
  std::atomic<uint64_t> still_at_ns_{0};  // 0: it runs
  std::atomic<double> newest_ns_{0};
};

}  // namespace uvmsim
