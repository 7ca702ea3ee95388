// See writer.h.
#include "record/writer.h"

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

#include <algorithm>
#include <new>

#include "record/chunk_format.h"
#include "record/crc32c.h"
#include "record/diagnostics.h"
#include "record/loader_work.h"
#include "record/proc_file.h"
#include "record/thread_start.h"

namespace uvmtrace {
namespace {

constexpr const char* kRingLossReason[Ring::kLossReasonCount] = {
    "the thread's ring was full: the writer could not keep up",
    "recorded by a signal handler that interrupted a recording",
};
constexpr const char* kNoRingReason = "no memory left for another ring: raise UVMTRACE_BUFFER_MB";
constexpr const char* kLimitReason = "the trace has reached UVMTRACE_MAX_MB";
constexpr const char* kInterruptedReason = "an interrupted thread holds their lock";
constexpr const char* kNoChunkMemoryReason = "no memory to encode a chunk";

uint64_t ReadClockNs(clockid_t clock) {
  timespec now;
  if (clock_gettime(clock, &now) != 0) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

const char* WriteErrorReason(int error) {
  switch (error) {
    case ENOSPC:
      return "the disk is full";
    case EDQUOT:
      return "the disk quota is used up";
    case EFBIG:
      return "the file has reached the file size limit (ulimit -f)";
    case EIO:
      return "the disk reports an I/O error";
    case EBADF:
      return "the trace file was closed or removed by the program";
    default:
      return "the trace file cannot be written";
  }
}

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
      if (!threads_.SeeNamed(ring->tid, {ring->thread_name, strnlen(ring->thread_name, sizeof(ring->thread_name))},
                             now_ns_)) {
        session_.losses.Count("threads", "no memory left for another thread's name", 1);
      }
    }
  }
}

void Writer::DrainRings(RingKind kind) {
  for (ThreadRing* ring = rings_; ring != nullptr; ring = ring->next) {
    if (ring->kind != kind) continue;
    ring->ring.Drain(ring->drain_until,
                     [this](EventType type, const void* event, size_t event_bytes, const uint64_t* tail,
                            size_t tail_words) { OnRecord(type, event, event_bytes, tail, tail_words); });
  }
}

bool Writer::HasRoomFor(EventType type) {
  const uint64_t limit = session_.max_file_bytes;
  if (limit == 0) return true;
  constexpr uint64_t kEndBytes = 64 * 1024;
  const bool is_sample = type == EventType::kThreadSample || type == EventType::kProcessSample ||
                         type == EventType::kClockSample || type == EventType::kCounterSample ||
                         type == EventType::kToolSample;
  const uint64_t kept_free = is_sample ? kEndBytes : std::max(limit / 8, 2 * kEndBytes);
  if (session_.file.bytes_written() + encoder_.DataBytes() + new_stack_bytes_ + kept_free < limit) return true;
  if (!limit_told_ && !is_sample) {
    limit_told_ = session_.definitions.SetSourceState(
        "trace_file", SourceStateKind::kStopped,
        "the file has reached UVMTRACE_MAX_MB: events are counted as lost from here on, counters go on", now_ns_);
  }
  return false;
}

void Writer::OnRecord(EventType type, const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words) {
  if (!HasRoomFor(type)) [[unlikely]] {
    ++lost_at_limit_[static_cast<int>(type)];
    return;
  }
  uint32_t stack = 0;
  if (type == EventType::kApiCall) {
    uint32_t tid;
    memcpy(&tid, static_cast<const uint8_t*>(event) + offsetof(ApiCallEvent, tid), sizeof(tid));
    if (!threads_.See(tid, now_ns_)) {
      session_.losses.Count("threads", "no memory left for another thread's name", 1);
    }
    if (tail_words != 0) {
      const uint32_t known = stacks_.count();
      const uint8_t python_frames = static_cast<const uint8_t*>(event)[offsetof(ApiCallEvent, python_frames)];
      stack = stacks_.Intern({tail, tail_words}, python_frames);
      if (stack == 0) session_.losses.Count("stacks", "no memory left for another call stack", 1);
      if (stack > known) new_stack_bytes_ += tail_words * sizeof(uint64_t);
      has_program_counters_ = true;
    }
  } else if (type == EventType::kCpuFault) {
    has_program_counters_ = true;
  } else if (type == EventType::kAnnotation && tail_words != 0) {
    return OnNamedAnnotation(event, event_bytes, tail, tail_words);
  }
  AddEvent(type, event, event_bytes, stack);
}

void Writer::OnNamedAnnotation(const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words) {
  AnnotationEvent named;
  if (event_bytes != sizeof(named)) return;
  memcpy(&named, event, sizeof(named));
  const size_t most = tail_words * sizeof(uint64_t);
  named.name =
      session_.strings.Intern({reinterpret_cast<const char*>(tail), named.name_bytes < most ? named.name_bytes : most});
  if (named.name == 0) session_.losses.Count("strings", "no memory left for another name", 1);
  AddEvent(EventType::kAnnotation, &named, sizeof(named), 0);
}

void Writer::AddEvent(EventType type, const void* event, size_t event_bytes, uint32_t stack) {
  if (!encoder_.Add(type, event, event_bytes, stack)) {
    session_.losses.Count(LossSource(type), kNoChunkMemoryReason, 1);
  }
  if (encoder_.DataBytes() + new_stack_bytes_ >= kTargetChunkBytes - 8 * 1024) WriteChunk(false, 0);
}

void Writer::CollectLosses() {
  for (int type = 1; type < kEventTypeCount; ++type) {
    const char* source = LossSource(static_cast<EventType>(type));
    session_.losses.Count(source, kLimitReason, lost_at_limit_[type]);
    lost_at_limit_[type] = 0;
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

void Writer::SampleClocks() {
  // The other clocks are read between two readings of the first, and again if something came in between.
  ClockSampleEvent sample;
  uint64_t narrowest_ns = UINT64_MAX;
  for (int i = 0; i < 4 && narrowest_ns > 2'000; ++i) {
    const uint64_t before_ns = ReadClockNs(CLOCK_MONOTONIC);
    const uint64_t realtime_ns = ReadClockNs(CLOCK_REALTIME);
    const uint64_t raw_ns = ReadClockNs(CLOCK_MONOTONIC_RAW);
    const uint64_t after_ns = ReadClockNs(CLOCK_MONOTONIC);
    if (after_ns - before_ns >= narrowest_ns) continue;
    narrowest_ns = after_ns - before_ns;
    sample.monotonic_ns = before_ns + narrowest_ns / 2;
    sample.realtime_ns = realtime_ns;
    sample.monotonic_raw_ns = raw_ns;
  }
  if (!encoder_.Add(EventType::kClockSample, &sample, sizeof(sample), 0)) {
    session_.losses.Count(LossSource(EventType::kClockSample), kNoChunkMemoryReason, 1);
  }
}

bool Writer::HasNewDefinitions() {
  return session_.definitions.HasNew() || session_.strings.count() != strings_appended_ || mappings_.HasNew() ||
         threads_.HasNew() || stacks_.count() != stacks_appended_ || session_.losses.HasPending();
}

void Writer::AppendDefinitions(bool everything) {
  definitions_missing_ = !session_.definitions.Append(chunk_, everything);
  const uint32_t strings = session_.strings.count();
  for (uint32_t id = everything ? 1 : strings_appended_ + 1; id <= strings; ++id) {
    const size_t body = chunk_.BeginMessage(chunk_field::kString);
    chunk_.Unsigned(1, id);
    chunk_.String(2, session_.strings.Get(id));
    chunk_.EndMessage(body);
  }
  strings_appended_ = strings;
  mappings_.Append(chunk_, everything);
  const uint32_t stacks = stacks_.count();
  for (uint32_t id = everything ? 1 : stacks_appended_ + 1; id <= stacks; ++id) {
    const size_t body = chunk_.BeginMessage(chunk_field::kStack);
    chunk_.Unsigned(1, id);
    const size_t pcs = chunk_.BeginMessage(2);
    for (const uint64_t pc : stacks_.Get(id)) chunk_.AppendVarint(pc);
    chunk_.EndMessage(pcs);
    if (const std::span<const uint64_t> python = stacks_.GetPython(id); !python.empty()) {
      const size_t codes = chunk_.BeginMessage(3);
      for (const uint64_t frame : python) chunk_.AppendVarint(PythonFrameCode(frame));
      chunk_.EndMessage(codes);
      const size_t lines = chunk_.BeginMessage(4);
      for (const uint64_t frame : python) chunk_.AppendVarint(PythonFrameLine(frame));
      chunk_.EndMessage(lines);
    }
    chunk_.EndMessage(body);
  }
  stacks_appended_ = stacks;
  new_stack_bytes_ = 0;
  threads_.Append(chunk_, everything);
  session_.losses.Append(chunk_);
}

void Writer::AppendEnd() {
  const auto rows = [this](EventType type) { return rows_written_.of[static_cast<int>(type)]; };
  const size_t body = chunk_.BeginMessage(chunk_field::kEnd);
  chunk_.Unsigned(1, 1);
  chunk_.Unsigned(2, sequence_);
  chunk_.Unsigned(3, rows(EventType::kApiCall));
  chunk_.Unsigned(4, rows(EventType::kGpuFault));
  chunk_.Unsigned(5, rows(EventType::kCpuFault));
  chunk_.Unsigned(6, rows(EventType::kMigration));
  chunk_.Unsigned(7, rows(EventType::kRegion));
  chunk_.Unsigned(8, rows(EventType::kKernel));
  chunk_.Unsigned(9, session_.file.bytes_written());
  chunk_.Unsigned(10, rows(EventType::kReplay));
  chunk_.EndMessage(body);
}

void Writer::OnChunkFailed(const ChunkEncoder::RowCounts& rows, const char* reason) {
  for (int type = 1; type < kEventTypeCount; ++type) {
    session_.losses.Count(LossSource(static_cast<EventType>(type)), reason, rows.of[type]);
  }
  // Its definitions went with it.
  everything_ = true;
  retry_ns_ = now_ns_ + kHousekeepingNs;
  session_.writing_fails.store(true, std::memory_order_relaxed);
}

bool Writer::WriteChunk(bool is_last, uint64_t loader_wait_ns) {
  now_ns_ = ReadClockNs(CLOCK_MONOTONIC);
  if (has_program_counters_ || everything_) {
    uint32_t lost = 0;
    has_program_counters_ = !mappings_.Update(now_ns_, loader_wait_ns, &lost);
    if (lost != 0) session_.losses.Count("mappings", "no memory left for another mapping", lost);
  }
  const bool everything = everything_ || session_.file.bytes_written() >= restart_at_bytes_;
  const ChunkEncoder::RowCounts rows = encoder_.rows();

  constexpr uint8_t kFrame[kChunkFrameBytes] = {};
  chunk_.Clear();
  chunk_.AppendRaw(kFrame, sizeof(kFrame));
  chunk_.Unsigned(chunk_field::kWrittenNs, now_ns_);
  chunk_.Unsigned(chunk_field::kDefinitionsRestart, everything);
  if (is_last) AppendEnd();
  AppendDefinitions(everything);
  if (definitions_missing_ && is_last) session_.losses.Count("definitions", kInterruptedReason, 1);
  encoder_.AppendAndClear(chunk_);
  if (chunk_.failed() || chunk_.size() > INT32_MAX) {
    OnChunkFailed(rows, kNoChunkMemoryReason);
    return false;
  }
  PutChunkFrame(chunk_.data(), chunk_.size(), session_.run_id, sequence_);
  PutFixed32(chunk_.data() + kCrcOffset, Crc32c(chunk_.data() + kCheckedOffset, chunk_.size() - kCheckedOffset));

  const int error = session_.file.Write(chunk_.data(), chunk_.size());
  if (error != 0) {
    const char* reason = WriteErrorReason(error);
    if (!warned_) {
      Log(LogLevel::kWarn, "cannot write to the trace %s: %s. What is lost until it can be written again is counted.",
          session_.file.path(), reason);
      warned_ = true;
    }
    OnChunkFailed(rows, reason);
    return false;
  }
  session_.losses.Commit();
  session_.writing_fails.store(false, std::memory_order_relaxed);
  retry_ns_ = 0;
  for (int type = 0; type < kEventTypeCount; ++type) rows_written_.of[type] += rows.of[type];
  ++sequence_;
  if (everything) restart_at_bytes_ = session_.file.bytes_written() + kDefinitionsRestartBytes;
  everything_ = everything && definitions_missing_;
  return true;
}

void Writer::Pass(bool must_write) {
  now_ns_ = ReadClockNs(CLOCK_MONOTONIC);
  if (now_ns_ >= next_housekeeping_ns_) {
    session_.rings.OrphanRingsOfDeadThreads(session_.pid);
    threads_.AskAgain(now_ns_);
    SampleClocks();
    next_housekeeping_ns_ = now_ns_ + kHousekeepingNs;
    host_has_ended_ = HostHasEnded(session_.pid);
  }
  ReadHeads();
  DrainRings(RingKind::kHost);
  DrainRings(RingKind::kSource);
  CollectLosses();
  // After a failed write the columns go on filling, and are tried when full, when asked for, or a second later.
  if (!must_write && now_ns_ < retry_ns_) return;
  // Clock samples alone are no reason for a chunk: an idle program's trace does not grow.
  const uint64_t rows = encoder_.rows().Total() - encoder_.rows().of[static_cast<int>(EventType::kClockSample)];
  // Program counters whose mappings could not be looked for are.
  if (rows != 0 || HasNewDefinitions() || has_program_counters_ || (everything_ && retry_ns_ != 0))
    WriteChunk(false, must_write ? kFlushLoaderWaitNs : 0);
}

void Writer::Run() {
  prctl(PR_SET_NAME, "uvmtrace-writer");
  pthread_getcpuclockid(pthread_self(), &session_.writer_clock);
  SampleClocks();
  encoder_.Prepare(EventType::kAllocationFailure);
  now_ns_ = ReadClockNs(CLOCK_MONOTONIC);
  next_housekeeping_ns_ = now_ns_ + kHousekeepingNs;
  // The host thread that starts the recorder may be at the loader itself, and waits for this chunk.
  const bool started = WriteChunk(false, 0);
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
    if (closing) SampleClocks();
    Pass(asked || closing);
    if (host_has_ended_ && !ending && session_.end_for_host != nullptr) {
      ending = true;
      pthread_t thread;
      if (CreateThread(&thread, nullptr, &EndForHost, reinterpret_cast<void*>(session_.end_for_host)) == 0)
        pthread_detach(thread);
    }
    if (closing) {
      if (!WriteChunk(true, LoaderWork::kWaitNs)) {
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
