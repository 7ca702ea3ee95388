// Time on the simulator's threads: the clock of CUPTI's records, and CPU time that is really burnt.
#pragma once

#include <cstdint>
#include <ctime>

namespace uvmsim {

inline uint64_t ReadClockNs(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// What CUPTI's records and cuptiGetTimestamp count in on Linux.
inline uint64_t RealtimeNs() { return ReadClockNs(CLOCK_REALTIME); }

// What the driver's tools events count in.
inline uint64_t RawNs() { return ReadClockNs(CLOCK_MONOTONIC_RAW); }

// Spins until the calling thread has used that much CPU time, as the driver's threads spin on their copies. CPU time,
// not wall time: on a loaded machine the thread's schedstat still says what was modelled.
inline void BurnCpuUntil(uint64_t thread_cpu_ns) {
  while (ReadClockNs(CLOCK_THREAD_CPUTIME_ID) < thread_cpu_ns) {
  }
}
inline void BurnCpuNs(double ns) {
  if (ns > 0) BurnCpuUntil(ReadClockNs(CLOCK_THREAD_CPUTIME_ID) + static_cast<uint64_t>(ns));
}

inline void SleepNs(double ns) {
  if (ns < 1000) return;
  timespec rest = {static_cast<time_t>(ns / 1e9), static_cast<long>(static_cast<uint64_t>(ns) % 1'000'000'000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, &rest) != 0) {
  }
}

}  // namespace uvmsim
