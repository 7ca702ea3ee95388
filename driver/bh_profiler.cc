// See bh_profiler.h.
#include "driver/bh_profiler.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "driver/bh_profiler_ring.h"
#include "driver/bh_profiler_stacks.h"
#include "driver/proc_file.h"
#include "record/diagnostics.h"
#include "record/recorder.h"
#include "record/source_thread.h"

namespace uvmtrace {
namespace {

constexpr const char* kSource = "bh_samples";
// With stacks of 40 frames a second's worth and more at full speed; with the deepest 0.2 s.
constexpr size_t kRingBytes = 256 * 1024;
// A ring is emptied this long after something came into it, or when it is a quarter full.
constexpr uint64_t kPatienceNs = 100'000'000;

// The ring of one thread. The sampler opens it, the profiler's thread reads and unmaps it.
struct PerfEvent {
  enum State : uint32_t {
    kFree,
    kOpen,
    kEnding,  // the thread is gone: read once more, then free
  };
  std::atomic<State> state{kFree};
  uint32_t kernel_thread = 0;
  perf_event_mmap_page* page = nullptr;

  size_t page_bytes() const { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  size_t mapped_bytes() const { return page_bytes() + kRingBytes; }
  // The kernel writes data_head after the records, and looks at data_tail before it writes over them.
  uint64_t head() const { return __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE); }
  uint64_t tail() const { return __atomic_load_n(&page->data_tail, __ATOMIC_RELAXED); }
};

struct Profiler {
  PerfEvent events[kMaxDriverThreads];
  KernelStacks stacks;
};

constinit BottomHalfProfilerOptions g_options;
constinit SourceThread g_thread;
constinit std::atomic<Profiler*> g_profiler{nullptr};  // pages of its own, where sampling is permitted
// The sampler's.
constinit bool g_wanted = false;
constinit bool g_ever_tried = false;
constinit char g_symbols_path[600] = {};
constinit char g_refused[800] = {};  // why the last thread that is not sampled is not
constinit uint64_t g_next_wake_ns = 0;
// Set when the symbols turn out to be unreadable: every further sample would be for nothing.
constinit std::atomic<bool> g_hopeless{false};

void Tell(SourceStateKind state, const char* reason) {
  Recorder::Get().SetSourceState(kSource, state, reason);
  if (state == SourceStateKind::kUnavailable) Log(LogLevel::kInfo, "%s: %s", kSource, reason);
}

// ---- The profiler's thread.

void CountLosses(const PerfRingCounts& counts, uint64_t without_stack) {
  Recorder& recorder = Recorder::Get();
  if (counts.lost != 0) recorder.CountLoss(kSource, "the ring was full", counts.lost);
  if (counts.throttled != 0)
    recorder.CountLoss(kSource, "pause of the kernel: sampling took too long", counts.throttled);
  if (counts.malformed != 0)
    recorder.CountLoss(kSource, "the ring held a record that makes no sense", counts.malformed);
  if (without_stack != 0) recorder.CountLoss(kSource, "stack without a definition", without_stack);
}

void TellHopeless(const KernelStacks& stacks) {
  if (g_hopeless.exchange(true, std::memory_order_relaxed)) return;
  char reason[600];
  DescribeSymbolsError(g_options.root, stacks.access(), stacks.error(), reason, sizeof reason);
  Tell(SourceStateKind::kUnavailable, reason);
}

void Drain(Profiler& profiler, PerfEvent& event) {
  const uint64_t head = event.head();
  const uint64_t tail = event.tail();
  if (head == tail) return;
  PerfRingCounts counts;
  uint64_t without_stack = 0;
  const PerfRing ring(reinterpret_cast<const uint8_t*>(event.page) + event.page_bytes(), kRingBytes);
  ring.Read(tail, head, &counts, [&](const PerfSample& sample) {
    BottomHalfSampleEvent recorded;
    recorded.time_ns = sample.time_ns;
    recorded.weight_ns = sample.period_ns;
    recorded.kernel_thread = event.kernel_thread;
    recorded.kernel_stack = profiler.stacks.Find(sample.frames);
    if (recorded.kernel_stack != 0) {
      Recorder::Get().Record(recorded);
    } else {
      ++without_stack;
    }
  });
  __atomic_store_n(&event.page->data_tail, head, __ATOMIC_RELEASE);
  CountLosses(counts, without_stack);
  if (profiler.stacks.symbols_missing()) TellHopeless(profiler.stacks);
}

void Unmap(PerfEvent& event) {
  munmap(event.page, event.mapped_bytes());
  event.page = nullptr;
  event.state.store(PerfEvent::kFree, std::memory_order_release);
}

void ProfilerThread() {
  Profiler& profiler = *g_profiler.load(std::memory_order_acquire);
  while (true) {
    const uint32_t taken = g_thread.take();
    const bool finish = g_thread.finish_requested();
    for (PerfEvent& event : profiler.events) {
      const PerfEvent::State state = event.state.load(std::memory_order_acquire);
      if (state == PerfEvent::kFree) continue;
      Drain(profiler, event);
      if (finish || state == PerfEvent::kEnding) Unmap(event);
    }
    if (finish) break;
    g_thread.PublishCpuTime();
    g_thread.Sleep(taken, Bell::kForever);
  }
  profiler.stacks.FreeSymbols();
}

// ---- The sampler's thread.

// The page and ring of a new event of this thread, or null with the reason. A thread that is gone gives no reason.
perf_event_mmap_page* OpenRing(uint32_t tid, char* reason, size_t reason_size) {
  reason[0] = '\0';
  const PerfCalls& perf = g_options.perf != nullptr ? *g_options.perf : kKernelPerf;
  perf_event_attr attributes = BottomHalfAttributes();
  const int descriptor = perf.open(&attributes, tid);
  if (descriptor < 0) {
    if (errno != ESRCH) DescribeOpenError(g_options.root, errno, reason, reason_size);
    return nullptr;
  }
  const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE)) + kRingBytes;
  void* const page = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  const int error = errno;
  // The mapping keeps the event. Without a descriptor the program cannot close it, nor inherit it by a fork.
  close(descriptor);
  if (page == MAP_FAILED) {
    DescribeMapError(g_options.root, error, reason, reason_size);
    return nullptr;
  }
  return static_cast<perf_event_mmap_page*>(page);
}

// Whether the thread that has the tid now is the one that was found: another one may have got it meanwhile.
bool IsThread(const FoundThread& thread) {
  char path[600];
  char line[1024];
  ThreadStat stat;
  snprintf(path, sizeof path, "%s/proc/%u/stat", g_options.root, thread.tid);
  return ReadSmallFile(path, line, sizeof line) > 0 && ParseThreadStat(line, &stat) &&
         stat.start_ticks == thread.start_ticks;
}

// The profiler with its thread, made when they are needed. Null with the reason.
Profiler* StartedProfiler(char* reason, size_t reason_size) {
  Profiler* profiler = g_profiler.load(std::memory_order_relaxed);
  if (profiler == nullptr) {
    void* const memory = MapPages(sizeof(Profiler));
    if (memory == nullptr) {
      snprintf(reason, reason_size, "no memory left for it");
      return nullptr;
    }
    profiler = new (memory) Profiler;
    profiler->stacks.SetSymbolsPath(g_symbols_path);
    g_profiler.store(profiler, std::memory_order_release);
  }
  if (!g_thread.started() && !g_thread.Start("uvmtrace-profile", &ProfilerThread)) {
    snprintf(reason, reason_size, "no thread could be created for it; raise the limit of threads (ulimit -u)");
    return nullptr;
  }
  return profiler;
}

// Opens the thread's ring. False with the reason, which is empty if the thread is gone.
bool Open(const FoundThread& thread, uint32_t kernel_thread, char* reason, size_t reason_size) {
  perf_event_mmap_page* const page = OpenRing(thread.tid, reason, reason_size);
  if (page == nullptr) return false;
  const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE)) + kRingBytes;
  auto give_up = [&] {
    munmap(page, bytes);
    return false;
  };
  if (!IsThread(thread)) return give_up();
  int error = 0;
  const KernelSymbols::Access access = KernelSymbols::Peek(g_symbols_path, &error);
  if (access != KernelSymbols::Access::kReadable) {
    DescribeSymbolsError(g_options.root, access, error, reason, reason_size);
    return give_up();
  }
  Profiler* const profiler = StartedProfiler(reason, reason_size);
  if (profiler == nullptr) return give_up();
  for (PerfEvent& event : profiler->events) {
    if (event.state.load(std::memory_order_acquire) != PerfEvent::kFree) continue;
    event.page = page;
    event.kernel_thread = kernel_thread;
    event.state.store(PerfEvent::kOpen, std::memory_order_release);
    return true;
  }
  snprintf(reason, reason_size, "there are more threads than rings");
  return give_up();
}

bool AnyOpen() {
  const Profiler* const profiler = g_profiler.load(std::memory_order_relaxed);
  if (profiler == nullptr) return false;
  for (const PerfEvent& event : profiler->events) {
    if (event.state.load(std::memory_order_relaxed) == PerfEvent::kOpen) return true;
  }
  return false;
}

void TellState() {
  if (g_hopeless.load(std::memory_order_relaxed)) return;
  if (AnyOpen()) {
    Tell(SourceStateKind::kActive, g_refused);
  } else if (g_refused[0] != '\0') {
    Tell(SourceStateKind::kUnavailable, g_refused);
  } else if (g_ever_tried) {
    Tell(SourceStateKind::kStopped, "the driver's thread has ended");
  }
}

}  // namespace

void StartBottomHalfProfiler(const BottomHalfProfilerOptions& options) {
  g_options = options;
  snprintf(g_symbols_path, sizeof g_symbols_path, "%s/proc/kallsyms", options.root);
  g_wanted = false;
  g_ever_tried = false;
  g_refused[0] = '\0';
  g_next_wake_ns = 0;
  g_hopeless.store(false, std::memory_order_relaxed);
  if (options.off != nullptr) {
    Tell(SourceStateKind::kDisabled, options.off);
  } else if (options.root[0] != '\0' && options.perf == nullptr) {
    Tell(SourceStateKind::kUnavailable, "simulated: the thread's stacks are not the driver's");
  } else {
    g_wanted = true;
    Tell(SourceStateKind::kIdle, "no BH thread yet: the state of bh_threads says why");
  }
}

void ProfileBottomHalf(const FoundThread& thread, uint32_t kernel_thread) {
  if (!g_wanted) return;
  char reason[600];
  if (Open(thread, kernel_thread, reason, sizeof reason)) {
    g_ever_tried = true;
  } else if (reason[0] != '\0') {
    g_ever_tried = true;
    snprintf(g_refused, sizeof g_refused, "%s: %s", thread.name, reason);
  }
  TellState();
}

void EndBottomHalfProfile(uint32_t kernel_thread) {
  Profiler* const profiler = g_profiler.load(std::memory_order_relaxed);
  if (!g_wanted || profiler == nullptr) return;
  for (PerfEvent& event : profiler->events) {
    // kernel_thread is written by this thread alone.
    if (event.kernel_thread != kernel_thread) continue;
    PerfEvent::State open = PerfEvent::kOpen;
    if (event.state.compare_exchange_strong(open, PerfEvent::kEnding, std::memory_order_acq_rel)) g_thread.Wake();
  }
  TellState();
}

void WatchBottomHalfRings(uint64_t now_ns) {
  Profiler* const profiler = g_profiler.load(std::memory_order_relaxed);
  if (!g_wanted || profiler == nullptr) return;
  uint64_t most = 0;
  for (const PerfEvent& event : profiler->events) {
    // An open ring becomes no other but by this thread.
    if (event.state.load(std::memory_order_acquire) == PerfEvent::kOpen) {
      most = std::max(most, event.head() - event.tail());
    }
  }
  if (most == 0 || (most < kRingBytes / 4 && now_ns < g_next_wake_ns)) return;
  g_next_wake_ns = now_ns + kPatienceNs;
  g_thread.Wake();
}

void FinishBottomHalfProfiler(int timeout_ms) {
  if (!g_wanted) return;
  if (!g_ever_tried) {
    Tell(SourceStateKind::kUnavailable, "no BH thread was found to sample: the state of bh_threads says why");
  }
  if (g_thread.Finish(timeout_ms)) return;
  Recorder::Get().CountLoss(kSource, "last samples were not read in time", 1);
}

uint64_t BottomHalfProfilerCpuNs() { return g_thread.cpu_ns(); }

void AbandonBottomHalfProfilerAfterFork() {
  g_wanted = false;
  g_profiler.store(nullptr, std::memory_order_relaxed);
  g_thread.Abandon();
}

}  // namespace uvmtrace
