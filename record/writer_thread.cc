// See writer_thread.h.
#include "record/writer_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "record/diagnostics.h"
#include "record/os/clocks.h"
#include "record/os/loader_work.h"
#include "record/os/thread_start.h"
#include "record/proc_file.h"

namespace uvmtrace {
namespace {

constexpr const char* kRingLossReason[Ring::kLossReasonCount] = {
    "the thread's ring was full: the writer could not keep up",
    "recorded by a signal handler that interrupted a recording",
};
constexpr const char* kNoRingReason = "no memory left for another ring: raise UVMTRACE_BUFFER_MB";

// A process ends with its last thread, where main leaves by pthread_exit. The recorder's own threads must not keep it
// alive: whether the main thread has gone and no other thread is left than those called uvmtrace-*.
bool HostHasEnded(pid_t pid) {
  char path[64];
  WireBuffer file;
  snprintf(path, sizeof(path), "/proc/self/task/%d/stat", pid);
  const bool read = ReadProcFile(path, file);
  const std::string_view stat = AsText(file);
  const size_t name_end = stat.rfind(')');
  const bool main_has_ended =
      read && name_end != std::string_view::npos && name_end + 2 < stat.size() && stat.data()[name_end + 2] == 'Z';
  bool ended = main_has_ended;
  const int folder = main_has_ended ? open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (folder < 0) ended = false;
  alignas(8) char entries[4096];
  for (long got; ended && (got = syscall(SYS_getdents64, folder, entries, sizeof(entries))) != 0;) {
    if (got < 0) ended = false;
    // struct linux_dirent64: inode (8), offset (8), record length (2), type (1), name.
    for (long at = 0; at < got && ended;) {
      uint16_t length;
      memcpy(&length, entries + at + 16, sizeof(length));
      const char* const name = entries + at + 19;
      at += length;
      const int tid = atoi(name);
      if (tid == 0 || tid == pid) continue;
      snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
      constexpr std::string_view kOurs = "uvmtrace-";
      ended = ReadProcFile(path, file) && file.size() > kOurs.size() &&
              memcmp(file.data(), kOurs.data(), kOurs.size()) == 0;
    }
  }
  if (folder >= 0) close(folder);
  file.Free();
  return ended;
}

// In a thread of its own, for it waits for the writer to end. The last thread to end then ends the process, as it would
// have without us.
void* EndForHost(void* argument) {
  ThreadHasStarted();
  prctl(PR_SET_NAME, "uvmtrace-end");
  reinterpret_cast<void (*)()>(argument)();
  return nullptr;
}

}  // namespace

void Writer::ReadHeads() {
  for (ThreadRing* ring = session_.rings.first(); ring != nullptr; ring = ring->next) {
    if (ring->kind == RingKind::kSource) ring->drain_until = ring->ring.head();
  }
  // From the list's new start: a host ring that appeared meanwhile may hold the allocation of a fault just seen. A
  // source ring that appeared meanwhile has nothing to be drained yet.
  rings_ = session_.rings.first();
  for (ThreadRing* ring = rings_; ring != nullptr; ring = ring->next) {
    const uint32_t state = ring->state.load(std::memory_order_acquire);
    // The state is read before the head: an orphan's head is final.
    if (ring->kind == RingKind::kHost) {
      ring->last_drain = state == ThreadRing::kOrphaned;
      ring->drain_until = ring->ring.head();
    } else {
      ring->last_drain = state == ThreadRing::kOrphaned && ring->drain_until == ring->ring.head();
    }
    if ((state == ThreadRing::kInUse || state == ThreadRing::kOrphaned) && ring->named_generation != ring->generation &&
        ring->tid != 0) {
      ring->named_generation = ring->generation;
      chunks_.NameThread(ring->tid, {ring->thread_name, strnlen(ring->thread_name, sizeof(ring->thread_name))});
    }
  }
}

void Writer::DrainRings(RingKind kind) {
  for (ThreadRing* ring = rings_; ring != nullptr; ring = ring->next) {
    if (ring->kind != kind) continue;
    ring->ring.Drain(ring->drain_until,
                     [this](EventType type, const void* event, size_t event_bytes, const uint64_t* tail,
                            size_t tail_words) { chunks_.Add(type, event, event_bytes, tail, tail_words); });
  }
}

void Writer::CollectLosses() {
  chunks_.CountLosses();
  for (int type = 1; type < kEventTypeCount; ++type) {
    const char* source = LossSource(static_cast<EventType>(type));
    session_.losses.Count(source, kNoRingReason,
                          session_.lost_without_ring[type].exchange(0, std::memory_order_relaxed));
    for (ThreadRing* ring = rings_; ring != nullptr; ring = ring->next) {
      for (int reason = 0; reason < Ring::kLossReasonCount; ++reason) {
        session_.losses.Count(source, kRingLossReason[reason],
                              ring->ring.TakeLost(static_cast<Ring::LossReason>(reason), static_cast<EventType>(type)));
      }
    }
  }
  for (ThreadRing* ring = rings_; ring != nullptr; ring = ring->next) {
    if (ring->last_drain) session_.rings.Recycle(ring);
    ring->last_drain = false;
  }
}

void Writer::Pass(bool must_write) {
  now_ns_ = NowNs();
  chunks_.SetTime(now_ns_);
  if (now_ns_ >= next_housekeeping_ns_) {
    session_.rings.OrphanRingsOfDeadThreads(session_.pid);
    chunks_.AskThreadNamesAgain();
    chunks_.AddClockSample();
    next_housekeeping_ns_ = now_ns_ + kHousekeepingNs;
    host_has_ended_ = HostHasEnded(session_.pid);
  }
  ReadHeads();
  DrainRings(RingKind::kHost);
  DrainRings(RingKind::kSource);
  CollectLosses();
  chunks_.WriteIfDue(must_write);
}

void Writer::Run() {
  prctl(PR_SET_NAME, "uvmtrace-writer");
  pthread_getcpuclockid(pthread_self(), &session_.writer_clock);
  chunks_.AddClockSample();
  chunks_.Prepare();
  now_ns_ = NowNs();
  next_housekeeping_ns_ = now_ns_ + kHousekeepingNs;
  // The host thread that starts the recorder may be at the loader itself, and waits for this chunk.
  const bool started = chunks_.Write(false, 0);
  session_.start.store(started ? Session::kStarted : Session::kStartFailed, std::memory_order_release);
  FutexWakeAll(&session_.start);

  bool closing = !started;
  bool ending = false;
  while (!closing) {
    if (session_.wake.load(std::memory_order_relaxed) == 0) FutexWait(&session_.wake, 0, kPeriodNs);
    session_.wake.exchange(0, std::memory_order_acquire);
    // In this order: Close says so before it takes a number, so whoever is served by the last pass is told so after it.
    const uint32_t requested = session_.flushes_requested.load(std::memory_order_acquire);
    closing = session_.close_requested.load(std::memory_order_acquire);
    const bool asked = requested != session_.flushes_done.load(std::memory_order_relaxed);
    if (closing) chunks_.AddClockSample();
    Pass(asked || closing);
    if (host_has_ended_ && !ending && session_.end_for_host != nullptr) {
      ending = true;
      pthread_t thread;
      if (CreateThread(&thread, nullptr, &EndForHost, reinterpret_cast<void*>(session_.end_for_host)) == 0)
        pthread_detach(thread);
    }
    if (closing) {
      if (!chunks_.Write(true, LoaderWork::kLastWaitNs)) {
        Log(LogLevel::kWarn, "the trace %s lacks its end: %s. %llu events are lost.", session_.file.path(),
            "its last chunk could not be written", static_cast<unsigned long long>(session_.losses.Pending()));
      }
      session_.writer_cpu_ns.store(ReadClockNs(CLOCK_THREAD_CPUTIME_ID), std::memory_order_relaxed);
      session_.writer_ended.store(true, std::memory_order_release);
    }
    session_.flushes_done.store(requested, std::memory_order_release);
    FutexWakeAll(&session_.flushes_done);
  }
}

namespace {

void* WriterMain(void* session) {
  ThreadHasStarted();
  // Pages of its own: the columns and tables are too large for the thread's stack.
  void* memory = MapPages(sizeof(Writer));
  if (memory == nullptr) {
    Log(LogLevel::kWarn, "no memory for the writer. Nothing is recorded.");
    static_cast<Session*>(session)->start.store(Session::kStartFailed, std::memory_order_release);
    FutexWakeAll(&static_cast<Session*>(session)->start);
    return nullptr;
  }
  (new (memory) Writer(*static_cast<Session*>(session)))->Run();
  return nullptr;
}

}  // namespace

bool StartWriterThread(Session& session) {
  // A thread inherits the mask: no handler of the host ever runs on ours, and SIGXFSZ (a write beyond ulimit -f) stays
  // pending on it and harms nobody.
  sigset_t all;
  sigset_t old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  pthread_t thread;
  int error = CreateThread(&thread, &attributes, WriterMain, &session);
  if (error == EINVAL) {
    // The host's thread-local storage does not fit into such a stack.
    pthread_attr_destroy(&attributes);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = CreateThread(&thread, &attributes, WriterMain, &session);
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error != 0) {
    Log(LogLevel::kWarn, "cannot start the writer thread: %s. Nothing is recorded.", strerrordesc_np(error));
    return false;
  }
  return true;
}

}  // namespace uvmtrace
