// See thread_sampler.h.
#include "driver/thread_sampler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "driver/bh_profiler.h"
#include "record/diagnostics.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kMillisecondNs = 1'000'000;
constexpr uint64_t kFirstSearchesNs = 100 * kMillisecondNs;
constexpr uint32_t kFirstSearches = 20;
constexpr uint64_t kLaterSearchesNs = 1000 * kMillisecondNs;
constexpr uint64_t kFoundSearchesNs = 5000 * kMillisecondNs;  // another GPU may come into use
// A search reads two small files for each process of the machine: it may take this part of a CPU at most.
constexpr uint64_t kSearchCostDivisor = 20;

// "<running ns> <waiting ns> <slices>"
bool ParseSchedstat(const char* text, uint64_t* cpu_ns, uint64_t* wait_ns, uint64_t* slices) {
  char* end;
  for (uint64_t* value : {cpu_ns, wait_ns, slices}) {
    *value = strtoull(text, &end, 10);
    if (end == text) return false;
    text = end;
  }
  return *text == '\n' || *text == '\0';
}

uint64_t TicksToNs(uint64_t ticks) {
  static constexpr uint64_t kSecondNs = 1'000'000'000;
  const long per_second = sysconf(_SC_CLK_TCK);
  return per_second > 0 ? ticks * (kSecondNs / static_cast<uint64_t>(per_second)) : 0;
}

}  // namespace

void ThreadSampler::Search(bool live) {
  const uint64_t begin_ns = NowNs();
  ThreadSearch search;
  SearchDriverThreads(root_, &search);
  if (search.proc_readable) {
    for (Known& known : known_) {
      if (!known.alive) continue;
      const bool seen = std::any_of(search.threads, search.threads + search.count, [&](const FoundThread& found) {
        return found.tid == known.found.tid && found.start_ticks == known.found.start_ticks;
      });
      if (!seen) Forget(known);
    }
    for (size_t i = 0; i < search.count; ++i) Learn(search.threads[i], search.bottom_halves);
  }
  Tell(search, live);
  const uint64_t end_ns = NowNs();
  Plan(end_ns, end_ns - begin_ns);
}

void ThreadSampler::Learn(const FoundThread& found, size_t bottom_halves) {
  Known* free_place = nullptr;
  for (Known& known : known_) {
    if (known.alive && known.found.tid == found.tid && known.found.start_ticks == found.start_ticks) return;
    if (!known.alive && free_place == nullptr) free_place = &known;
  }
  if (free_place == nullptr) return;
  Known& known = *free_place;
  known = Known{};
  known.found = found;
  char path[256];
  snprintf(path, sizeof path, "%s/proc/%u/schedstat", root_, found.tid);
  known.schedstat.SetPath(path);
  snprintf(path, sizeof path, "%s/proc/%u/stat", root_, found.tid);
  known.stat.SetPath(path);

  KernelThreadDefinition definition{};
  definition.tid = found.tid;
  definition.start_ticks = found.start_ticks;
  definition.name = found.name;
  definition.role = found.role;
  if (found.role == ThreadRole::kBottomHalf) {
    ever_bottom_half_ = true;
    definition.has_device_uuid = FindGpuOfThread(root_, found.gpu_number, bottom_halves, definition.device_uuid,
                                                 known.gpu_unknown, sizeof known.gpu_unknown);
  }
  known.id = Recorder::Get().DefineKernelThread(definition);
  known.alive = true;
  if (found.role == ThreadRole::kBottomHalf) ProfileBottomHalf(found, static_cast<uint32_t>(known.id));
  Log(LogLevel::kInfo, "found %s, tid %u", found.name, found.tid);
}

void ThreadSampler::Forget(Known& known) {
  if (known.alive && known.found.role == ThreadRole::kBottomHalf) EndBottomHalfProfile(static_cast<uint32_t>(known.id));
  known.schedstat.Close();
  known.stat.Close();
  known.alive = false;
}

size_t ThreadSampler::CountAlive(ThreadRole role) const {
  return static_cast<size_t>(std::count_if(std::begin(known_), std::end(known_), [&](const Known& known) {
    return known.alive && known.found.role == role;
  }));
}

void ThreadSampler::Plan(uint64_t now_ns, uint64_t cost_ns) {
  uint64_t interval_ns = kFoundSearchesNs;
  if (!HasBottomHalf()) {
    interval_ns = searches_in_vain_ < kFirstSearches ? kFirstSearchesNs : kLaterSearchesNs;
    ++searches_in_vain_;
  }
  next_search_ns_ = now_ns + std::max(interval_ns, cost_ns * kSearchCostDivisor);
}

void ThreadSampler::Tell(const ThreadSearch& search, bool live) {
  Recorder& recorder = Recorder::Get();
  char not_visible[512] = {};
  if (!search.proc_readable) {
    snprintf(not_visible, sizeof not_visible, "%s/proc cannot be read (%s)", root_, ErrorText(search.proc_error).text);
  } else if (!search.kernel_threads_visible) {
    snprintf(
        not_visible, sizeof not_visible,
        "kernel threads are not visible here: this is a container with its own process ids, or /proc is mounted with "
        "hidepid. Share the host's process ids (docker run --pid=host)");
  }

  char reason[1024] = {};
  size_t used = 0;
  auto add = [&](const Known& known, const char* text) {
    const int written =
        snprintf(reason + used, sizeof reason - used, "%s%s: %s", used == 0 ? "" : "; ", known.found.name, text);
    if (written > 0) used = std::min(used + static_cast<size_t>(written), sizeof reason - 1);
  };
  auto tell = [&](const char* source, ThreadRole role, SourceStateKind absent, const char* why_absent) {
    if (CountAlive(role) == 0) {
      const bool hidden = not_visible[0] != '\0';
      return recorder.SetSourceState(source, hidden ? SourceStateKind::kUnavailable : absent,
                                     hidden ? not_visible : why_absent);
    }
    used = 0;
    reason[0] = '\0';
    for (const Known& known : known_) {
      if (!known.alive || known.found.role != role) continue;
      if (known.gpu_unknown[0] != '\0') add(known, known.gpu_unknown);
      if (known.in_ticks) {
        add(known,
            "the kernel gives no schedstat (CONFIG_SCHED_INFO): CPU time comes in steps of 10 ms, and the time waiting "
            "for "
            "a CPU is not known");
      }
    }
    recorder.SetSourceState(source, SourceStateKind::kActive, reason);
  };
  if (ever_bottom_half_) {
    tell("bh_threads", ThreadRole::kBottomHalf, SourceStateKind::kStopped,
         "the driver's thread has ended: no process uses unified memory on its GPU any longer");
  } else if (live) {
    tell("bh_threads", ThreadRole::kBottomHalf, SourceStateKind::kUnavailable,
         "no BH thread yet, though managed memory exists: kernel threads are visible and none is called \"UVM GPU<n> "
         "BH\"");
  } else {
    tell("bh_threads", ThreadRole::kBottomHalf, SourceStateKind::kIdle,
         "no BH thread yet: it appears when a process uses unified memory");
  }
  tell("tools_event_queue", ThreadRole::kToolsQueue, SourceStateKind::kUnavailable,
       "no thread is called \"UVM Tools Event Queue\": the nvidia-uvm driver is not loaded, or has no such thread");
}

bool ThreadSampler::StillSameThread(Known& known) {
  char line[1024];
  ThreadStat stat;
  return known.stat.Read(line, sizeof line) > 0 && ParseThreadStat(line, &stat) &&
         stat.start_ticks == known.found.start_ticks;
}

ThreadSampler::Outcome ThreadSampler::ReadTimes(Known& known, ThreadSampleEvent* event) {
  char text[1024];
  errno = 0;
  if (!known.in_ticks) {
    const ssize_t length = known.schedstat.Read(text, sizeof text);
    uint64_t slices = 0;
    if (length > 0 && ParseSchedstat(text, &event->cpu_ns, &event->wait_ns, &slices)) {
      // Opened anew by its path, it may be another thread's.
      if (known.schedstat.openings() != known.openings) {
        if (!StillSameThread(known)) return Outcome::kVanished;
        known.openings = known.schedstat.openings();
      }
      if (event->cpu_ns != 0 || event->wait_ns != 0 || slices != 0) return Outcome::kSampled;
      // All zero: the thread never ran, or the kernel was started with scheduler statistics off.
    } else if (errno == EMFILE || errno == ENFILE) {
      return Outcome::kFailed;
    }
  }
  const ssize_t length = known.stat.Read(text, sizeof text);
  if (length <= 0) return errno == EMFILE || errno == ENFILE ? Outcome::kFailed : Outcome::kVanished;
  ThreadStat stat;
  if (!ParseThreadStat(text, &stat) || stat.start_ticks != known.found.start_ticks) return Outcome::kVanished;
  event->cpu_ns = TicksToNs(stat.user_ticks + stat.system_ticks);
  event->wait_ns = 0;
  if (event->cpu_ns != 0) known.in_ticks = true;
  return Outcome::kSampled;
}

void ThreadSampler::Sample(uint64_t now_ns) {
  Recorder& recorder = Recorder::Get();
  bool vanished = false;
  for (Known& known : known_) {
    if (!known.alive) continue;
    const bool was_in_ticks = known.in_ticks;
    ThreadSampleEvent event;
    event.time_ns = now_ns;
    event.kernel_thread = known.id;
    switch (ReadTimes(known, &event)) {
      case Outcome::kSampled:
        recorder.Record(event);
        if (known.in_ticks != was_in_ticks) next_search_ns_ = 0;  // it tells the states anew
        break;
      case Outcome::kVanished:
        Forget(known);
        vanished = true;
        break;
      case Outcome::kFailed:
        recorder.CountLoss("driver", "sample of a driver thread: the process has no file descriptor left", 1);
        break;
    }
  }
  if (vanished) {
    searches_in_vain_ = 0;
    next_search_ns_ = 0;
  }
}

void ThreadSampler::CloseFiles() {
  for (Known& known : known_) Forget(known);
}

}  // namespace uvmtrace
