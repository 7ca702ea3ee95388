// The drain thread and its life: see cupti_source.h.
#include "cupti/cupti_source.h"

#include <stdio.h>

#include <algorithm>
#include <atomic>

#include "cupti/audit.h"
#include "cupti/clock_watch.h"
#include "cupti/collection.h"
#include "cupti/counter_kinds.h"
#include "cupti/foreign_client.h"
#include "record/diagnostics.h"
#include "record/recorder.h"
#include "record/source_thread.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
// The driver hands over migrations some time after they happened: the drain goes on for a while after the last managed
// allocation is freed, and the last flush waits as long for latecomers.
constexpr uint64_t kLateRecordsNs = 30'000'000;
constexpr uint64_t kLastFlushStepNs = 5'000'000;
// While faults stream in a flush takes 10 to 30 ms.
constexpr uint64_t kHeldUpNs = 50'000'000;

constinit Collection g_collection;
constinit SourceThread g_thread;
constinit ClockWatch g_clocks;
constinit std::atomic<uint32_t> g_period_us{1000};
constinit std::atomic<uint64_t> g_last_flush_limit_ns{0};
constinit std::atomic<bool> g_take_over{false};
using Activity = uint64_t (*)();
constinit Activity g_activity = nullptr;
// How long unified memory may be at work without a record. A single kernel may fault for seconds, and its record comes
// when it has ended; records of migrations come at once.
constexpr uint64_t kPatienceNs = 2 * kSecondNs;
constexpr uint64_t kKernelsOnlyPatienceNs = 30 * kSecondNs;
// Kernel records do not pass through the driver's queue of fixed length: nothing of them is lost between flushes.
constexpr uint64_t kKernelsOnlyPeriodNs = 50'000'000;

// What the last flush said, so that a change is told once.
class Watch {
 public:
  void FlushResult(CUptiResult result) {
    if (result == CUPTI_SUCCESS) {
      if (!stopped_) return;
      if (ShutDown(reason_)) {
        g_collection.TellStopped(
            "after CUPTI was shut down another client of this process started it for itself, and gets its buffers: "
            "uvmtrace does not take them away");
        reason_ = result;
      } else if (reason_ != CUPTI_SUCCESS) {
        g_collection.TellResults();
        stopped_ = false;
      }
      next_try_ns_ = NowNs() + kSecondNs;
      return;
    }
    const uint64_t now_ns = NowNs();
    if (!stopped_ || result != reason_) {
      char reason[512];
      if (ShutDown(result)) {
        snprintf(reason, sizeof reason,
                 "CUPTI was shut down by another client of this process (cuptiFinalize; error %d while flushing); "
                 "uvmtrace tries again every second",
                 static_cast<int>(result));
      } else {
        DescribeCuptiError(result, reason, sizeof reason);
      }
      g_collection.TellStopped(reason);
      if (!stopped_) Recorder::Get().CountLoss("cupti", "CUPTI stopped working: what followed was not recorded", 1);
      stopped_ = true;
      reason_ = result;
      next_try_ns_ = now_ns + kSecondNs;
      return;
    }
    if (now_ns < next_try_ns_) return;
    next_try_ns_ = now_ns + kSecondNs;
    // Anything but a shut-down may pass by itself, and arming again could take another client's callbacks away.
    if (ShutDown(result) && g_collection.Arm()) stopped_ = false;
  }
  bool stopped() const { return stopped_; }
  uint64_t next_try_ns() const { return next_try_ns_; }

 private:
  static bool ShutDown(CUptiResult result) {
    return result == CUPTI_ERROR_NOT_INITIALIZED || result == CUPTI_ERROR_INVALID_OPERATION;
  }

  bool stopped_ = false;
  CUptiResult reason_ = CUPTI_SUCCESS;  // stopped by success: CUPTI works, for somebody else
  uint64_t next_try_ns_ = 0;
};

// Whether somebody else gets our records, and that it is told once.
class ForeignClient {
 public:
  void Tick() {
    const uint64_t now_ns = NowNs();
    const uint64_t activity = g_activity != nullptr ? g_activity() : 0;
    const uint64_t patience_ns = g_collection.unified_memory() ? kPatienceNs : kKernelsOnlyPatienceNs;
    switch (watch_.Tick(now_ns, activity, g_collection.delivered(), g_clocks.replaced(), patience_ns)) {
      case ForeignClientWatch::Verdict::kNoChange:
        return;
      case ForeignClientWatch::Verdict::kRecordsAgain:
        return g_collection.TellResults();
      case ForeignClientWatch::Verdict::kClock:
        return Tell(SourceStateKind::kActive,
                    "another CUPTI client of this process started and replaced CUPTI's clock; "
                    "it has most likely registered its own buffers, and gets our records");
      case ForeignClientWatch::Verdict::kSilence:
        Tell(SourceStateKind::kStopped,
             "unified memory was at work and no record came: another CUPTI client of this "
             "process has most likely registered its own buffers, and gets our records");
        Recorder::Get().CountLoss("cupti", "records went to another CUPTI client: not known how many", 1);
    }
  }

 private:
  static void Tell(SourceStateKind state, const char* what) {
    char clients[300];
    char reason[700];
    FindCuptiClients(clients, sizeof clients);
    snprintf(reason, sizeof reason, "%s; in this process: %s", what,
             clients[0] != '\0' ? clients : "none of the clients that are known");
    Recorder::Get().SetSourceState("cupti", state, reason);
    Log(LogLevel::kInfo, "cupti: %s", reason);
  }

  ForeignClientWatch watch_;
};

// Flushes that took so long that the driver's queue for CUPTI may have run over meanwhile.
class HeldUpFlushes {
 public:
  CUptiResult Flush() {
    const uint64_t start_ns = NowNs();
    const CUptiResult result = g_collection.Flush(false);
    const uint64_t took_ns = NowNs() - start_ns;
    if (took_ns > kHeldUpNs) Tell(took_ns);
    return result;
  }

 private:
  void Tell(uint64_t took_ns) {
    ++count_;
    longest_ns_ = std::max(longest_ns_, took_ns);
    char reason[400];
    snprintf(reason, sizeof reason,
             "%llu flush%s held up, the longest for %llu ms: a call of the program that waits for the GPU, such as "
             "cudaMemcpy, held a lock that CUPTI needs for kernel records, and what the driver's queue could not keep "
             "meanwhile was lost without a count; UVMTRACE_KERNELS=0 avoids most of it",
             static_cast<unsigned long long>(count_), count_ == 1 ? " was" : "es were",
             static_cast<unsigned long long>(longest_ns_ / 1'000'000));
    Recorder::Get().SetSourceState("cupti.flush", SourceStateKind::kActive, reason);
  }

  uint64_t count_ = 0;
  uint64_t longest_ns_ = 0;
};

// Latecomers first, then everything, complete or not. cuptiFinalize and disabling are left out: up to CUDA 13.3 they
// take two seconds.
void LastFlush(Watch* watch, HeldUpFlushes* flushes, bool recently_live) {
  if (recently_live) {
    const uint64_t limit_ns = std::min(kLateRecordsNs, g_last_flush_limit_ns.load(std::memory_order_acquire));
    const uint64_t end_ns = NowNs() + limit_ns;
    while (NowNs() < end_ns) {
      if (flushes->Flush() != CUPTI_SUCCESS) break;
      const timespec step{0, static_cast<long>(kLastFlushStepNs)};
      nanosleep(&step, nullptr);
    }
  }
  watch->FlushResult(g_collection.Flush(true));
  g_clocks.Tick(&g_collection.api(), true);
}

void DrainThread() {
  Recorder::Get().BecomeSource();
  Watch watch;
  HeldUpFlushes flushes;
  ForeignClient foreign;
  uint64_t live_until_ns = 0;
  g_clocks.Tick(&g_collection.api(), true);
  while (true) {
    const uint32_t taken = g_thread.take();
    const uint64_t now_ns = NowNs();
    const bool live = g_thread.live();
    if (live) live_until_ns = now_ns + kLateRecordsNs;
    if (g_thread.finish_requested()) {
      LastFlush(&watch, &flushes, now_ns < live_until_ns + kSecondNs);
      return;
    }
    if (g_take_over.exchange(false, std::memory_order_acq_rel)) g_collection.AddUnifiedMemory();
    watch.FlushResult(flushes.Flush());
    g_clocks.Tick(&g_collection.api(), false);
    if (!watch.stopped()) foreign.Tick();
    g_thread.PublishCpuTime();
    // Without managed memory there are still kernels, and clocks that run apart: once a second is enough for those.
    uint64_t wake_ns = now_ns + kSecondNs;
    if (now_ns < live_until_ns) {
      wake_ns = now_ns + (g_collection.unified_memory() ? g_period_us.load(std::memory_order_relaxed) * uint64_t{1000}
                                                        : kKernelsOnlyPeriodNs);
    }
    if (watch.stopped()) wake_ns = std::max(wake_ns, watch.next_try_ns());
    g_thread.Sleep(taken, wake_ns);
  }
}

}  // namespace

void StartCupti(const CuptiOptions& options) {
  ErrnoKeeper keep_errno;
  SignalBlocker blocked;  // CUPTI's own threads start in here
  g_period_us.store(std::max(options.drain_period_us, 50u), std::memory_order_relaxed);
  g_activity = options.activity;
  if (!g_collection.Open({.cudart_path = options.cudart_path,
                          .simulated = options.simulated,
                          .kernels = options.kernels,
                          .launches = options.launches,
                          .buffer_bytes = options.buffer_bytes,
                          .unified_memory_off = options.unified_memory_off})) {
    return;
  }
  Log(LogLevel::kInfo, "using %s", g_collection.description());
  if (!g_thread.Start("uvmtrace-cupti", &DrainThread)) {
    Recorder::Get().SetSourceState(
        "cupti", SourceStateKind::kActive,
        "no thread could be created to drain CUPTI: most migrations will be missing. Raise the limit of threads");
  }
}

void DisableCupti(const char* reason) { Collection::TellAll(SourceStateKind::kDisabled, reason); }

void TakeOverUnifiedMemory() { g_take_over.store(true, std::memory_order_release); }

void SetCuptiManagedMemoryLive(bool live) { g_thread.SetLive(live); }

void FinishCupti(int timeout_ms) {
  ErrnoKeeper keep_errno;
  // A quarter of the time for latecomers, the rest for the flush itself.
  g_last_flush_limit_ns.store(static_cast<uint64_t>(std::max(timeout_ms, 0)) * 250'000, std::memory_order_release);
  const bool finished = g_thread.Finish(timeout_ms);
  FinishAudit();
  if (finished) return;
  Recorder::Get().CountLoss("cupti", "last flush did not return in time", 1);
  Recorder::Get().SetSourceState("cupti", SourceStateKind::kStopped,
                                 "the last flush did not return in time; the last records are missing");
}

void AbandonCuptiAfterFork() {
  g_collection.Abandon();
  AbandonAuditAfterFork();
  g_thread.Abandon();
  g_clocks = ClockWatch();
  g_take_over.store(false, std::memory_order_relaxed);
}

uint64_t CuptiThreadCpuNs() { return g_thread.cpu_ns(); }

uint32_t CuptiVersion() { return g_collection.version(); }

}  // namespace uvmtrace
