// The queue's thread and its life: see queue_source.h.
#include "driver/queue_source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "driver/exact_counters.h"
#include "driver/memory_areas.h"
#include "driver/migration_windows.h"
#include "driver/queue_lanes.h"
#include "driver/tools_advice.h"
#include "record/diagnostics.h"
#include "record/recorder.h"
#include "record/source_thread.h"

namespace uvmtrace {
namespace {

constexpr const char* kSource = kQueueSourceName;
constexpr uint64_t kMillisecondNs = 1'000'000;
constexpr uint64_t kSecondNs = 1'000 * kMillisecondNs;

// One entry for each fault or decision. CPU faults are among them because asking for them adds next to nothing to what
// asking for anything costs: as soon as an event or a counter is on, the driver flushes its delayed events at the end
// of every CPU fault (uvm_tools_flush_events) and waits for its tools thread to have run. That made touching a gibibyte
// back on the CPU 1.4 to 1.57 times as long (H200, driver 580), and no choice of events avoids it.
constexpr uint64_t kCheapEvents = ToolsBit(ToolsEvent::kCpuFault) | ToolsBit(ToolsEvent::kGpuFault) |
                                  ToolsBit(ToolsEvent::kReplay) | ToolsBit(ToolsEvent::kFatalFault) |
                                  ToolsBit(ToolsEvent::kThrashing) | ToolsBit(ToolsEvent::kThrottlingStart) |
                                  ToolsBit(ToolsEvent::kThrottlingEnd) | ToolsBit(ToolsEvent::kRemoteMap);
// An entry, and memory of the kernel's until it is delivered, for each copy; an entry for each page. A migration costs
// a faulting program 1.9 us: the driver has the copy engine write a time stamp after each copy (uvm_push_timestamp),
// behind a memory barrier for the whole system, and its bottom half waits for all of them. 36,000 made 79 ms of faults
// 68 ms longer, of which it spent 63 ms in uvm_tracker_wait (H200, driver 580).
constexpr uint64_t kCostlyEvents = ToolsBit(ToolsEvent::kMigration) | ToolsBit(ToolsEvent::kReadDuplicate) |
                                   ToolsBit(ToolsEvent::kReadDuplicateInvalidate);

// While something happens the ring is read so often; the poll returns earlier when it fills faster.
constexpr uint64_t kBusyPeriodNs = 5 * kMillisecondNs;
constexpr uint64_t kQuietPeriodNs = 20 * kMillisecondNs;
constexpr uint64_t kBusyForNs = 100 * kMillisecondNs;
// Between two requests for what the driver holds back; they take at most one kFlushShare-th of the time.
constexpr uint64_t kFlushPeriodNs = 10 * kMillisecondNs;
constexpr uint64_t kLightFlushPeriodNs = 50 * kMillisecondNs;  // without migrations: only replays wait there
constexpr uint64_t kLongestFlushPeriodNs = 500 * kMillisecondNs;
constexpr uint64_t kFlushShare = 50;
// A window's migrations have come when one has that began after it: copies of one kind end in turn. Those of a prefetch
// are queued all at once and take their time; when nothing comes any more this long is enough.
constexpr uint64_t kWindowGraceNs = 2 * kMillisecondNs;
constexpr int kWindowGraces = 15;
constexpr uint64_t kLookPeriodNs = 2 * kSecondNs;
constexpr int kMostReopened = 8;
constexpr uint64_t kClockPeriodNs = kSecondNs;
// The counters grew by so many bytes, for so long, and no migration came: the queue is not what it seems to be.
constexpr uint64_t kDeafBytes = uint64_t{64} << 20;
constexpr uint64_t kDeafNs = kSecondNs;

// Everything but the thread. Used by the thread that starts the source, then by the source's own.
struct State {
  QueueSourceOptions options;
  DeviceUuid devices[kMaxDevices];
  QueueLanes lanes;
  int reopened = 0;
  QueueDetail detail = QueueDetail::kFull;
  MigrationWindows windows;
  // The last window, open or just closed: migrations that began outside of it are left out.
  uint64_t window_start_ns = 0;
  uint64_t window_start_raw_ns = 0;
  uint64_t window_end_raw_ns = 0;
  uint64_t newest_migration_raw_ns = 0;
  uint32_t recorded_at_once = 0;
  uint64_t busy_until_ns = 0;
  uint64_t next_flush_ns = 0;
  uint64_t next_look_ns = 0;
  uint64_t next_clock_ns = 0;
  bool flush_refused = false;
  bool polled_ready = false;  // the last poll said that entries wait
  bool poll_trusted = true;   // and so they did
  ExactTotals totals_seen;
  // Deafness: what the counters said when migrations were last seen, or nothing moved.
  uint64_t heard_bytes = 0;
  uint64_t heard_ns = 0;
  MemoryAreas areas;
};
constinit State g;
constinit SourceThread g_thread;

// Rare enough that they cost a fault-driven phase under 1 %: at this detail they only check what is reconstructed.
constexpr MigrationWindowPlan kCheckPlan = {.window_ns = 10 * kMillisecondNs, .period_ns = kSecondNs};

bool InWindows() { return g.detail == QueueDetail::kExact || g.detail == QueueDetail::kSampled; }
uint64_t Events() { return g.detail == QueueDetail::kFull ? kCheapEvents | kCostlyEvents : kCheapEvents; }

template <typename Event>
void Record(void*, const Event& event) {
  Recorder::Get().Record(event);
  if constexpr (requires { event.address; }) {
    if (g.areas.started()) g.areas.Hit(event.address);
  }
  ++g.recorded_at_once;
}

void RecordMigration(void*, const MigrationEvent& event) {
  g.newest_migration_raw_ns = std::max(g.newest_migration_raw_ns, event.start_ns);
  if (InWindows() && (event.start_ns < g.window_start_raw_ns || event.start_ns > g.window_end_raw_ns)) return;
  Record(nullptr, event);
}

constexpr QueueSink kSink = {nullptr,          &Record<GpuFaultEvent>, &Record<CpuFaultEvent>,
                             &RecordMigration, &Record<ReplayEvent>,   &Record<RegionEvent>};

// The driver's clock is none that the trace's events are laid on: samples of both tell how they run.
void RecordClocks(uint64_t now_ns) {
  g.next_clock_ns = now_ns + kClockPeriodNs;
  const ClockReading clocks = ReadClocks();
  ClockSampleEvent sample;
  sample.monotonic_ns = clocks.monotonic_ns;
  sample.realtime_ns = clocks.realtime_ns;
  sample.monotonic_raw_ns = clocks.monotonic_raw_ns;
  Recorder::Get().Record(sample);
}

void TellActive() {
  char reason[300];
  const uint32_t entries = g.lanes.first_entries();
  int length = snprintf(reason, sizeof reason, "%u entries", entries);
  const size_t at = static_cast<size_t>(length);
  if (g.lanes.count() > 1) {
    snprintf(reason + at, sizeof reason - at, "; of %zu address spaces", g.lanes.count());
  } else if (entries < ToolsQueue::kMostEntries) {
    snprintf(reason + at, sizeof reason - at,
             "; there was no memory for %u: a storm of faults may fill it, and what is dropped is counted",
             ToolsQueue::kMostEntries);
  }
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kActive, reason);
}

void GiveUp(const char* reason) {
  const uint64_t waiting = g.lanes.Waiting();
  g.lanes.Close();
  Recorder& recorder = Recorder::Get();
  if (waiting > 0) recorder.CountLoss(kSource, "entries left in a queue that was given up", waiting);
  recorder.CountLoss(kSource, "the queue was given up: what followed it did not record", 1);
  recorder.SetSourceState(kSource, SourceStateKind::kStopped, reason);
  Log(LogLevel::kInfo, "%s: %s", kSource, reason);
  if (g.options.given_up != nullptr) g.options.given_up(reason);
}

void GiveUpInsane(const char* insane) {
  char reason[400];
  DescribeStrangeQueue(*g.options.tools, insane, reason, sizeof reason);
  GiveUp(reason);
}

// Reads everything that waits. Returns how many entries it was.
uint64_t DrainAll() {
  const char* insane = nullptr;
  const uint64_t read = g.lanes.Drain(&insane);
  if (insane != nullptr) GiveUpInsane(insane);
  return read;
}

// Flushes every address space and reads what came. The next flush is due after a time that keeps their cost low.
uint64_t FlushAll() {
  const uint64_t start_ns = NowNs();
  const bool refused = !g.lanes.Flush();
  const uint64_t end_ns = NowNs();
  const uint64_t shortest_ns = g.detail == QueueDetail::kFull ? kFlushPeriodNs : kLightFlushPeriodNs;
  g.next_flush_ns = end_ns + std::clamp((end_ns - start_ns) * kFlushShare, shortest_ns, kLongestFlushPeriodNs);
  if (refused && !g.flush_refused) {
    g.flush_refused = true;
    Recorder::Get().CountLoss(kSource, "the driver refused to flush: the last migrations may be missing", 1);
  }
  return DrainAll();
}

void SetCostlyEvents(bool on) {
  if (g.lanes.SetEvents(kCostlyEvents, on)) return;
  Recorder::Get().CountLoss(kSource, "the driver refused to switch migrations on or off", 1);
}

void OpenWindow() {
  SetCostlyEvents(true);
  g.window_start_ns = NowNs();
  g.window_start_raw_ns = MonotonicRawNs();
  g.window_end_raw_ns = UINT64_MAX;
  g.windows.Turn(g.window_start_ns);
}

// What was in flight when the window ended belongs to it. The driver delivers to whoever asks at the time of delivery:
// so everything is fetched before migrations are switched off.
void CloseWindow() {
  MigrationWindowEvent window;
  window.start_ns = g.window_start_ns;
  window.end_ns = NowNs();
  g.window_end_raw_ns = MonotonicRawNs();
  const timespec grace{0, static_cast<long>(kWindowGraceNs)};
  for (int i = 0; i < kWindowGraces && g.newest_migration_raw_ns <= g.window_end_raw_ns; ++i) {
    nanosleep(&grace, nullptr);
    FlushAll();
    if (g.lanes.count() == 0) return;
  }
  SetCostlyEvents(false);
  DrainAll();
  Recorder::Get().Record(window);
  g.windows.Turn(window.end_ns);
}

void BeginSampling(uint64_t now_ns) {
  g.window_start_raw_ns = g.window_end_raw_ns = 0;
  g.windows.Start(g.detail == QueueDetail::kExact ? kCheckPlan : MigrationWindowPlan(), now_ns,
                  now_ns ^ reinterpret_cast<uintptr_t>(&now_ns));
}

// Whether the driver's counters have moved since the last time.
bool CountersMoved() {
  const ExactTotals totals = LastExactTotals();
  const bool moved = totals.host_to_device_bytes != g.totals_seen.host_to_device_bytes ||
                     totals.device_to_host_bytes != g.totals_seen.device_to_host_bytes ||
                     totals.gpu_faults != g.totals_seen.gpu_faults;
  g.totals_seen = totals;
  return moved;
}

// Migrations are asked for, the counters see many, and none comes.
void WatchDeafness(uint64_t now_ns, uint64_t migrations_before) {
  const uint64_t bytes = g.totals_seen.host_to_device_bytes + g.totals_seen.device_to_host_bytes;
  if (!g.totals_seen.known || g.detail != QueueDetail::kFull || g.lanes.MigrationsRead() != migrations_before ||
      bytes < g.heard_bytes + kDeafBytes) {
    if (g.lanes.MigrationsRead() != migrations_before || bytes < g.heard_bytes) g.heard_bytes = bytes;
    g.heard_ns = now_ns;
    return;
  }
  if (now_ns - g.heard_ns < kDeafNs) return;
  GiveUp("given up: the driver's counters grow, and no migration comes through the queue");
}

void LookForMore(uint64_t now_ns) {
  if (g.lanes.LookForMore(Events())) TellActive();
  const uint64_t end_ns = NowNs();
  g.next_look_ns = end_ns + std::max(kLookPeriodNs, (end_ns - now_ns) * 200);
}

// The program closed what was not its own (closefrom, as daemons do). What was in the ring has been read; a new queue
// takes its place, and what happened between the two is missing.
void WatchDescriptors() {
  if (!g.lanes.TakenAway()) return;
  if (g.reopened == kMostReopened) return GiveUp("the program closed the queue's descriptor again and again");
  ++g.reopened;
  g.lanes.FinishReading();
  g.lanes.Close();
  char reason[400] = "";
  if (!g.lanes.Open(Events(), reason, sizeof reason)) {
    char closed[500];
    snprintf(closed, sizeof closed, "the program closed the queue's descriptor, and it could not be opened again: %s",
             reason);
    return GiveUp(closed);
  }
  Recorder::Get().CountLoss(kSource, "the program closed the queue's descriptor: events until it was opened again", 1);
  Log(LogLevel::kInfo, "%s: the program closed its descriptor; it was opened again", kSource);
  if (g.windows.open() && InWindows()) BeginSampling(NowNs());
  TellActive();
}

// The bell does not end a poll, so only a thread that found the source live, and so wakes soon by itself, may poll.
void Wait(bool live, uint32_t taken, uint64_t now_ns, uint64_t wake_ns) {
  g.polled_ready = false;
  if (wake_ns <= now_ns) return;
  // A descriptor that is ready and has nothing would make the thread go round and round.
  if (!live || g.lanes.count() == 0 || !g.poll_trusted) return g_thread.Sleep(taken, wake_ns);
  pollfd polled[VaSpaces::kMax];
  const size_t polled_count = g.lanes.Polled(polled);
  const uint64_t wait_ns = wake_ns - now_ns;
  const timespec timeout{static_cast<time_t>(wait_ns / kSecondNs), static_cast<long>(wait_ns % kSecondNs)};
  g.polled_ready = ppoll(polled, polled_count, &timeout, nullptr) != 0;
}

void LastEvents() {
  if (g.lanes.count() > 0 && g.windows.open() && InWindows()) CloseWindow();
  // What the first flush made the driver deliver may be followed by more, while the program's last kernels end.
  for (int i = 0; i < 3 && g.lanes.count() > 0; ++i) {
    if (FlushAll() == 0) break;
  }
  g.lanes.FinishReading();
  g.lanes.Close();
  g.areas.Finish();
  RecordClocks(NowNs());
}

void QueueThread() {
  Recorder::Get().BecomeSource();
  RecordClocks(NowNs());
  g.heard_ns = NowNs();
  bool was_live = false;
  while (true) {
    const uint32_t taken = g_thread.take();
    if (g_thread.finish_requested()) return LastEvents();
    const bool live = g_thread.live();
    uint64_t now_ns = NowNs();
    if (g.lanes.count() > 0) {
      if (live && (!was_live || now_ns >= g.next_look_ns)) LookForMore(now_ns);
      const uint64_t migrations_before = g.lanes.MigrationsRead();
      g.recorded_at_once = 0;
      const bool moved = CountersMoved();
      const uint64_t read = DrainAll();
      g.poll_trusted = !g.polled_ready || read > 0;
      if (read > 0 || moved || live != was_live) g.busy_until_ns = now_ns + kBusyForNs;
      // After the last free there is one more flush.
      if (g.lanes.count() > 0 && now_ns < g.busy_until_ns && now_ns >= g.next_flush_ns) FlushAll();
      if (g.lanes.count() > 0 && live && InWindows() && now_ns >= g.windows.due_ns()) {
        g.windows.open() ? CloseWindow() : OpenWindow();
      }
      WatchDeafness(now_ns, migrations_before);
      WatchDescriptors();
      g.areas.Update(now_ns);
    }
    was_live = live;
    now_ns = NowNs();
    if (now_ns >= g.next_clock_ns) RecordClocks(now_ns);
    g_thread.PublishCpuTime();
    uint64_t wake_ns = g.next_clock_ns;
    if (g.lanes.count() > 0 && (live || now_ns < g.busy_until_ns)) {
      wake_ns = now_ns + (now_ns < g.busy_until_ns ? kBusyPeriodNs : kQuietPeriodNs);
      if (live && InWindows()) wake_ns = std::min(wake_ns, g.windows.due_ns());
    }
    Wait(live, taken, now_ns, wake_ns);
  }
}

}  // namespace

bool StartQueueSource(const QueueSourceOptions& options) {
  ErrnoKeeper keep_errno;
  g.options = options;
  g.options.device_count = std::min(options.device_count, kMaxDevices);
  if (g.options.device_count > 0) memcpy(g.devices, options.devices, g.options.device_count * sizeof(DeviceUuid));
  g.options.devices = g.devices;
  g.detail = options.detail;
  g.lanes.Prepare(*options.tools, g.devices, g.options.device_count, kSink, &g.recorded_at_once);
  char reason[400] = "";
  const bool opened = g.lanes.Open(Events(), reason, sizeof reason);
  if (opened && InWindows()) BeginSampling(NowNs());
  if (opened && g.options.system_memory) g.areas.Start(g.options.root);
  if (opened && g_thread.Start("uvmtrace-queue", &QueueThread)) {
    TellActive();
    return true;
  }
  if (opened)
    snprintf(reason, sizeof reason, "no thread could be created for it; raise the limit of threads (ulimit -u)");
  g.lanes.Close();
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kUnavailable, reason);
  Log(LogLevel::kInfo, "%s: %s", kSource, reason);
  return false;
}

void DisableQueueSource(const char* reason) {
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kDisabled, reason);
}

void SetQueueManagedMemoryLive(bool live) { g_thread.SetLive(live); }

void FinishQueueSource(int timeout_ms) {
  ErrnoKeeper keep_errno;
  if (g_thread.Finish(timeout_ms)) return;
  Recorder::Get().CountLoss(kSource, "the last events were not read in time", 1);
}

void AbandonQueueSourceAfterFork() {
  g.lanes.Abandon();
  new (&g) State;  // in place: the child's stack may be small
  g_thread.Abandon();
}

uint64_t QueueThreadCpuNs() { return g_thread.cpu_ns(); }

}  // namespace uvmtrace
