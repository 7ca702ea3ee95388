// What our part of intercepted calls takes of the program's time, estimated: a clock read at each end of every call
// would be a good part of it.
//
// The first calls of a thread are all timed, since they find nothing prepared (no ring, cold unwinder); after that one
// of 64 stands for the 63 before it. Calls with a stack cost several times as much as others, so the two kinds are
// counted apart. What a call does by way of other intercepted calls beneath it (a runtime call goes through the driver)
// is not included: they add a name, which takes a few nanoseconds.
#pragma once

#include <atomic>
#include <cstdint>

namespace uvmtrace {

// Of one thread and kind of call. All zero at first.
struct CallTiming {
  static constexpr uint8_t kFirstCalls = 16;
  static constexpr uint8_t kPeriod = 64;
  // Longer than any call of ours takes that finds everything prepared: the thread was not running. Such a call stands
  // for itself alone, and the next one for the others.
  static constexpr uint64_t kInterruptedNs = 20'000;

  uint8_t left = 0;   // calls until the next one to be timed
  uint8_t first = 0;  // timed so far, up to kFirstCalls

  // To be asked once for each call: whether it is to be timed. If so, Add or Skip tells how that went.
  bool Due() {
    if (left == 0) [[unlikely]]
      return true;
    --left;
    return false;
  }
  // The timed call took so long. Returns the calls that it stands for.
  uint64_t Add(uint64_t cost_ns) {
    if (first < kFirstCalls) {
      ++first;
      left = first < kFirstCalls ? 0 : kPeriod - 1;
      return 1;
    }
    if (cost_ns > kInterruptedNs) return 1;
    left = kPeriod - 1;
    return kPeriod;
  }
  // It was not recorded, so nothing was learnt.
  void Skip() { left = kPeriod - 1; }
};

// In all threads, since the session started.
extern constinit std::atomic<uint64_t> calls_cost_ns;

}  // namespace uvmtrace
