// The sampler thread and its life: see driver_sampler.h.
#include "driver/driver_sampler.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>

#include "driver/bh_profiler.h"
#include "driver/exact_counters.h"
#include "driver/memory_left.h"
#include "driver/module_parameters.h"
#include "driver/nvml_sampler.h"
#include "driver/thread_sampler.h"
#include "record/recorder.h"
#include "record/source_thread.h"

namespace uvmtrace {
namespace {

// Between two searches for address spaces of the driver that came since.
constexpr uint64_t kLookPeriodNs = 2'000'000'000;

constinit DriverSamplerOptions g_options;
constinit char g_root[512] = {};
constinit DeviceUuid g_devices[kMaxDevices] = {};
constinit SourceThread g_thread;
constinit ThreadSampler g_threads;
constinit ExactCounters g_counters;
constinit NvmlSampler g_nvml;
constinit std::atomic<bool> g_host_memory_live{false};
constinit uint64_t g_next_own_cost_ns = 0;

constexpr uint64_t kOwnCostPeriodNs = 1'000'000'000;
constexpr uint64_t kMemoryPeriodNs = 500'000'000;
// The link's counters wrap each 68 ms at most: read well before. Two fields take 0.3 ms, 1.3 % of a core.
constexpr uint64_t kLinkPeriodNs = 25'000'000;
constexpr uint64_t kLinkAfterNs = 100'000'000;
// Without managed memory the driver's threads and the process are still looked at, ten times a second: a program may
// have pinned memory alone, and the BH thread other processes' work. A process that does nothing is looked at less and
// less often, so that its trace hardly grows.
constexpr uint64_t kCalmPeriodNs = 100'000'000;
constexpr uint64_t kIdlePeriodNs = 4'000'000'000;
// Part of what FinishDriverSampler is given. The kernel's symbols may have to be read in it.
constexpr int kFinishProfilerMs = 200;

uint64_t ToNs(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_usec) * 1000;
}

// What the process used of a CPU since the last sample, without our own threads, tells whether it does anything.
constinit uint64_t g_last_cpu_ns = 0;
constinit uint64_t g_last_sample_ns = 0;
constinit bool g_idle = false;

void SampleProcess(uint64_t now_ns) {
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return;
  g_thread.PublishCpuTime();
  ProcessSampleEvent event;
  event.time_ns = now_ns;
  event.user_ns = ToNs(usage.ru_utime);
  event.system_ns = ToNs(usage.ru_stime);
  event.tool_ns = g_thread.cpu_ns() + BottomHalfProfilerCpuNs();
  if (g_options.other_tool_threads_cpu_ns != nullptr) event.tool_ns += g_options.other_tool_threads_cpu_ns();
  Recorder::Get().Record(event);
  const uint64_t cpu_ns = event.user_ns + event.system_ns - std::min(event.tool_ns, event.user_ns + event.system_ns);
  g_idle = cpu_ns < g_last_cpu_ns + (now_ns - g_last_sample_ns) / 100;
  g_last_cpu_ns = cpu_ns;
  g_last_sample_ns = now_ns;
}

void SampleMemory(uint64_t now_ns) {
  HostMemorySampleEvent event;
  event.time_ns = now_ns;
  event.memory = ReadHostMemory();  // the real one, also beneath a simulated driver
  Recorder::Get().Record(event);
  g_nvml.SampleMemory(now_ns);
}

void SampleAll(bool first_or_last) {
  const uint64_t now_ns = NowNs();
  g_counters.Sample(now_ns, first_or_last);
  g_threads.Sample(now_ns);
  SampleProcess(now_ns);
  WatchBottomHalfRings(now_ns);
  if (g_options.record_own_cost != nullptr && now_ns >= g_next_own_cost_ns) {
    g_next_own_cost_ns = now_ns + kOwnCostPeriodNs;
    g_options.record_own_cost();
  }
}

void SamplerThread() {
  Recorder& recorder = Recorder::Get();
  recorder.BecomeSource();
  RecordModuleParameters(g_root);
  recorder.SetSourceState("process_time", SourceStateKind::kActive);
  g_threads.SetRoot(g_root);
  g_next_own_cost_ns = 0;
  StartBottomHalfProfiler({.root = g_root, .off = g_options.bottom_half_stacks_off, .perf = g_options.perf});
  if (g_options.nvml_lookup != nullptr) g_nvml.Open(g_options.nvml_lookup, g_devices, g_options.device_count);
  bool was_live = g_thread.live();
  bool ever_live = was_live;
  bool had_links = false;
  uint64_t links_until_ns = 0;
  g_threads.Search(ever_live);
  SampleAll(true);
  SampleMemory(NowNs());
  const uint64_t busy_period_ns = static_cast<uint64_t>(std::max(g_options.period_us, 100u)) * 1000;
  uint64_t next_look_ns = 0;
  uint64_t next_sample_ns = 0;
  uint64_t next_link_ns = 0;
  uint64_t next_memory_ns = NowNs() + kMemoryPeriodNs;
  uint64_t calm_period_ns = kCalmPeriodNs;
  while (true) {
    const uint32_t taken = g_thread.take();
    const uint64_t now_ns = NowNs();
    const bool live = g_thread.live();
    // A while longer than the memory lives, so that the last bytes are counted, and memory that comes and goes costs no
    // more than memory that stays.
    if (g_nvml.opened() && g_host_memory_live.load(std::memory_order_acquire)) links_until_ns = now_ns + kLinkAfterNs;
    const bool links = now_ns < links_until_ns;
    const bool finish = g_thread.finish_requested();
    const bool changed = live != was_live;
    was_live = live;
    ever_live = ever_live || live;
    const bool links_changed = links != had_links;
    had_links = links;
    // First, because it must not be late.
    if (links_changed || (links && (now_ns >= next_link_ns || finish))) {
      g_nvml.SampleLinks(now_ns);
      next_link_ns = now_ns + kLinkPeriodNs;
    }
    if (!links) g_nvml.PauseLinks();
    // The transition is when the driver's thread comes into being. At the end a short program gets its last chance.
    const bool search = finish ? !g_threads.HasBottomHalf() : (live && changed) || g_threads.SearchDue(now_ns);
    if (search) g_threads.Search(ever_live);
    if (live && (changed || now_ns >= next_look_ns)) {
      g_counters.LookForMore();
      next_look_ns = now_ns + kLookPeriodNs;
    }
    // The driver's counters too where the link's begin or pause: what migrated in a pause is not in the link's.
    if (now_ns >= next_sample_ns || changed || links_changed || finish) {
      SampleAll(finish);
      calm_period_ns = g_idle && !live && !links ? std::min(2 * calm_period_ns, kIdlePeriodNs) : kCalmPeriodNs;
      next_sample_ns = now_ns + (live ? busy_period_ns : calm_period_ns);
    }
    if (now_ns >= next_memory_ns || finish) {
      SampleMemory(now_ns);
      next_memory_ns = now_ns + std::max(kMemoryPeriodNs, calm_period_ns);
    }
    if (finish) {
      g_counters.Close();
      FinishBottomHalfProfiler(kFinishProfilerMs);
      return;
    }
    uint64_t wake_ns = std::min(next_sample_ns, next_memory_ns);
    if (links) wake_ns = std::min(wake_ns, next_link_ns);
    g_thread.Sleep(taken, wake_ns);
  }
}

void OpenCounters() {
  Recorder& recorder = Recorder::Get();
  if (g_options.exact_counters_off != nullptr) {
    recorder.SetSourceState("exact_counters", SourceStateKind::kDisabled, g_options.exact_counters_off);
  } else if (g_options.tools != nullptr) {
    g_counters.Open(*g_options.tools, g_options.devices, g_options.device_count);
  } else if (g_root[0] != '\0') {
    recorder.SetSourceState("exact_counters", SourceStateKind::kUnavailable, "the simulator has no driver counters");
  } else {
    g_counters.Open(kKernelTools, g_options.devices, g_options.device_count);
  }
}

}  // namespace

void StartDriverSampler(const DriverSamplerOptions& options) {
  ErrnoKeeper keep_errno;
  g_options = options;
  snprintf(g_root, sizeof g_root, "%s", options.root == nullptr ? "" : options.root);
  g_options.root = g_root;
  OpenCounters();
  g_options.device_count = std::min(options.device_count, std::size(g_devices));
  if (g_options.devices != nullptr) memcpy(g_devices, g_options.devices, g_options.device_count * sizeof(DeviceUuid));
  g_options.devices = nullptr;  // the caller's
  if (g_thread.Start("uvmtrace-sample", &SamplerThread)) return;
  g_counters.Close();
  for (const char* source :
       {"bh_threads", "bh_samples", "tools_event_queue", "module_parameters", "process_time", "exact_counters"}) {
    Recorder::Get().SetSourceState(source, SourceStateKind::kUnavailable,
                                   "no thread could be created for it; raise the limit of threads (ulimit -u)");
  }
}

void SetDriverManagedMemoryLive(bool live) { g_thread.SetLive(live); }

void SetDriverHostMemoryLive(bool live) {
  if (g_host_memory_live.exchange(live, std::memory_order_acq_rel) != live) g_thread.Wake();
}

void FinishDriverSampler(int timeout_ms) {
  ErrnoKeeper keep_errno;
  if (g_thread.Finish(timeout_ms)) return;
  Recorder::Get().CountLoss("driver", "last sample did not return in time", 1);
}

uint64_t DriverSamplerCpuNs() { return g_thread.cpu_ns(); }

uint64_t DriverProfilerCpuNs() { return BottomHalfProfilerCpuNs(); }

void AbandonDriverSamplerAfterFork() {
  AbandonBottomHalfProfilerAfterFork();
  g_threads.CloseFiles();
  g_threads = ThreadSampler();
  g_counters.Abandon();
  g_nvml.Abandon();
  g_host_memory_live.store(false, std::memory_order_relaxed);
  g_last_cpu_ns = 0;
  g_last_sample_ns = 0;
  g_thread.Abandon();
}

}  // namespace uvmtrace
