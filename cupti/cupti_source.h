// Unified-memory faults, migrations and kernels, as CUPTI's activity records tell them.
//
// libcupti is opened at run time. Only activity records are used, never cuptiSubscribe: a subscriber would silence a
// later torch.profiler. A drain thread of our own calls cuptiActivityFlushAll(0) every millisecond while managed memory
// exists, because CUPTI's ordinary flushing loses most migrations without counting them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

struct CuptiOptions {
  const char* cudart_path = nullptr;  // file of the loaded libcudart: libcupti is looked for beside it; may be null
  uint32_t drain_period_us = 1000;
  size_t buffer_bytes = size_t{64} << 20;  // for CUPTI's buffers, at most
  bool simulated = false;
  // Faults and migrations. Null: they are recorded. Else why not: another source does, and both would count twice.
  const char* unified_memory_off = nullptr;
  // Kernels as well. Without them CUPTI flushes without the context's lock, which a blocking call of the program holds.
  bool kernels = true;
  // With kernels: which call launched each, and when the host waited. Costs a record or two for each launch and wait.
  bool launches = false;
  // Grows whenever unified memory is at work in this process, as another source sees it: bytes moved and faults. When
  // it grows and no record comes, another CUPTI client has them. May be null.
  uint64_t (*activity)() = nullptr;
};

// Finds and configures CUPTI, starts the drain thread. Call once, from a host thread, after cuInit has succeeded and
// before the first managed allocation is handed to the host program. Every result goes into the trace as a source
// state; nothing is returned because nothing can be done about it here.
void StartCupti(const CuptiOptions& options);

// The trace says why CUPTI was not used ("calls" detail, ...). Instead of StartCupti.
void DisableCupti(const char* reason);

// From now on faults and migrations as well, after StartCupti without them: the source that recorded them has failed.
// Done by the drain thread; without one nothing happens.
void TakeOverUnifiedMemory();

// Whether managed memory exists. While it does not, the drain thread wakes once a second only, for kernels and clocks.
void SetCuptiManagedMemoryLive(bool live);

// The last flush, in the drain thread, watched: after timeout_ms it is given up, and counted as a loss.
void FinishCupti(int timeout_ms);

// In a forked child: forget.
void AbandonCuptiAfterFork();

// CPU time of the drain thread so far.
uint64_t CuptiThreadCpuNs();

// cuptiGetVersion, 0 before StartCupti or without CUPTI.
uint32_t CuptiVersion();

}  // namespace uvmtrace
