// See recorder.h.
#include "record/recorder.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "record/chunk_encoder.h"
#include "record/diagnostics.h"
#include "record/process_info.h"
#include "record/session.h"
#include "record/writer_thread.h"

namespace uvmtrace {
namespace {

constinit Recorder g_recorder;
constinit std::atomic<Session*> g_session{nullptr};
constinit std::atomic<bool> g_starting{false};
constinit std::atomic<uint32_t> g_epochs{0};

// 16 bytes of static TLS. A ring of an earlier session (before a fork) has another epoch.
struct ThreadState {
  ThreadRing* ring;
  uint32_t epoch;
  bool is_source;
};
constinit thread_local ThreadState t_state = {nullptr, 0, false};

// Tells that a thread has ended. Only the keys whose slots lie in the thread's own descriptor can be set without malloc
// (glibc's PTHREAD_KEY_2NDLEVEL_SIZE); with a later one the writer's sweep finds dead threads.
constexpr pthread_key_t kKeysWithoutMalloc = 32;
constinit std::atomic<bool> g_has_key{false};
pthread_key_t g_key;

void OnThreadEnd(void* value) {
  ThreadRing* ring = static_cast<ThreadRing*>(value);
  // A later destructor of this thread may record again: it then gets another ring.
  if (t_state.ring == ring) t_state.ring = nullptr;
  RingRegistry::Orphan(ring);
}

void MakeKey() {
  if (g_has_key.load(std::memory_order_relaxed)) return;
  pthread_key_t key;
  if (pthread_key_create(&key, OnThreadEnd) != 0) return;
  if (key >= kKeysWithoutMalloc) {
    pthread_key_delete(key);
    return;
  }
  g_key = key;
  g_has_key.store(true, std::memory_order_release);
}

// Not inline: the one slow step of Record, once in a thread's life.
__attribute__((noinline)) ThreadRing* AttachThread(Session& session) {
  ThreadRing* ring = session.rings.Attach(t_state.is_source ? RingKind::kSource : RingKind::kHost);
  if (ring == nullptr) return nullptr;
  t_state.ring = ring;
  t_state.epoch = session.epoch;
  if (g_has_key.load(std::memory_order_acquire)) pthread_setspecific(g_key, ring);
  return ring;
}

// A handler of the host has jumped out of a recording of this thread. Null: it has not, or there is no memory for
// another ring. The event that is being recorded is then counted as lost.
__attribute__((noinline)) ThreadRing* ReplaceLeftRing(Session& session, ThreadRing* ring, EventType type,
                                                      uintptr_t frame) {
  if (ring->tid == 0 || !ring->ring.WasLeft(frame)) {
    ring->ring.Lose(Ring::LossReason::kInterrupted, type);
    return nullptr;
  }
  RingRegistry::Leave(ring);
  session.losses.Count(LossSource(type), "a signal handler jumped out of the recording of an event", 1);
  t_state.ring = nullptr;
  ring = AttachThread(session);
  if (ring == nullptr) session.lost_without_ring[static_cast<int>(type)].fetch_add(1, std::memory_order_relaxed);
  return ring;
}

// A start that takes longer than this goes on without its first chunk.
constexpr int kStartMs = 2000;

// Waits until the writer has served the request; false after the timeout.
bool WaitForFlush(Session& session, uint32_t number, uint64_t deadline_ns) {
  for (;;) {
    const uint32_t done = session.flushes_done.load(std::memory_order_acquire);
    if (static_cast<int32_t>(done - number) >= 0) return true;
    const uint64_t now_ns = NowNs();
    if (now_ns >= deadline_ns) return false;
    FutexWait(&session.flushes_done, done, deadline_ns - now_ns);
  }
}

uint64_t Deadline(int timeout_ms) {
  return NowNs() + static_cast<uint64_t>(timeout_ms < 0 ? 0 : timeout_ms) * 1'000'000u;
}

}  // namespace

Recorder& Recorder::Get() { return g_recorder; }

bool Recorder::Start(const RecorderOptions& options) {
  if (running()) return true;
  if (g_starting.exchange(true, std::memory_order_acquire)) return false;
  const int saved_errno = errno;
  bool started = false;
  void* memory = MapPages(sizeof(Session));
  if (memory == nullptr) {
    Log(LogLevel::kWarn, "no memory for the recorder. Nothing is recorded.");
  } else {
    Session& session = *new (memory) Session;
    session.pid = getpid();
    session.epoch = g_epochs.fetch_add(1, std::memory_order_relaxed) + 1;
    session.run_id = options.run_id;
    session.end_for_host = options.end_for_host;
    session.rings.SetBudget(options.buffer_bytes);
    session.max_file_bytes = options.max_file_bytes;
    AppendProcessInfo(session.definitions.process_body(), options.detail);
    if (!session.definitions.DefineFunctions(options.functions)) {
      session.losses.Count("functions", "no memory for definitions, or an interrupted thread holds their lock",
                           options.functions.size());
    }
    MakeKey();
    if (session.file.Open(options.path, options.run_id) && StartWriterThread(session)) {
      // The first chunk is in the file when Start returns: another process of the run can read the run id there. A file
      // system that takes seconds for it must not hold up the host for longer; the lock tells the other process, too.
      const uint64_t deadline_ns = Deadline(kStartMs);
      while (session.start.load(std::memory_order_acquire) == Session::kStarting && NowNs() < deadline_ns) {
        FutexWait(&session.start, Session::kStarting, 100'000'000);
      }
      const uint32_t start = session.start.load(std::memory_order_acquire);
      started = start != Session::kStartFailed;
      if (start == Session::kStarting) {
        Log(LogLevel::kWarn,
            "the trace %s is not begun after %d ms: its disk does not answer, or this machine has more to do than it "
            "can. The program goes on; the trace follows when it can.",
            session.file.path(), kStartMs);
      }
    }
    if (started) {
      g_session.store(&session, std::memory_order_release);
      running_.store(true, std::memory_order_release);
      Log(LogLevel::kInfo, "recording to %s", session.file.path());
    } else {
      session.file.Close();
    }
  }
  errno = saved_errno;
  g_starting.store(false, std::memory_order_release);
  return started;
}

void Recorder::RecordBytes(EventType type, const void* event, size_t size, std::span<const uint64_t> tail) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  ThreadRing* ring = t_state.ring;
  if (ring == nullptr || t_state.epoch != session.epoch) {
    ring = AttachThread(session);
    if (ring == nullptr) {
      session.lost_without_ring[static_cast<int>(type)].fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_dwarf_cfa());
  Ring::PushResult result = ring->ring.Push(type, event, size, tail, frame);
  if (result == Ring::PushResult::kInterrupted) [[unlikely]] {
    ring = ReplaceLeftRing(session, ring, type, frame);
    if (ring == nullptr) return;
    result = ring->ring.Push(type, event, size, tail, frame);
  }
  if (result == Ring::PushResult::kPushedMoreThanHalfFull) session.WakeWriter();
}

SharedSource::Lease::Lease(SharedSource& source) : source_(source) {
  if (!Recorder::Get().running()) return;
  // The holder reads one buffer. It may be descheduled meanwhile, or never return.
  bool locked = false;
  for (int i = 0; i < 20 && !locked; ++i) locked = source.lock_.Lock();
  if (!locked) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (source.ring_ == nullptr || source.epoch_ != session.epoch) {
    source.ring_ = session.rings.Attach(RingKind::kSource, RingRegistry::Owner::kNobody);
    source.epoch_ = session.epoch;
  }
  if (source.ring_ == nullptr) {
    source.lock_.Unlock();
    return;
  }
  saved_ring_ = t_state.ring;
  saved_epoch_ = t_state.epoch;
  t_state.ring = source.ring_;
  t_state.epoch = session.epoch;
  held_ = true;
}

SharedSource::Lease::~Lease() {
  if (!held_) return;
  t_state.ring = saved_ring_;
  t_state.epoch = saved_epoch_;
  source_.lock_.Unlock();
}

void SharedSource::Forget() { new (this) SharedSource; }

void Recorder::BecomeSource() {
  if (t_state.is_source) return;
  t_state.is_source = true;
  ThreadRing* ring = t_state.ring;
  if (ring == nullptr) return;
  // The ring may belong to another thread soon: this one's key must not speak for it any more.
  t_state.ring = nullptr;
  if (g_has_key.load(std::memory_order_acquire)) pthread_setspecific(g_key, nullptr);
  RingRegistry::Orphan(ring);
}

uint32_t Recorder::InternString(std::string_view value) {
  if (!running()) return 0;
  Session& session = *g_session.load(std::memory_order_relaxed);
  const uint32_t id = session.strings.Intern(value);
  if (id == 0)
    session.losses.Count("strings", "no memory for another name, or an interrupted thread holds their lock", 1);
  return id;
}

uint32_t Recorder::DefineKernelThread(const KernelThreadDefinition& thread) {
  if (!running()) return 0;
  Session& session = *g_session.load(std::memory_order_relaxed);
  const uint32_t id = session.definitions.DefineKernelThread(thread);
  if (id == 0)
    session.losses.Count("kernel_threads", "no memory for definitions, or an interrupted thread holds their lock", 1);
  return id;
}

uint32_t Recorder::DefineKernelStack(std::span<const uint32_t> frames) {
  if (!running()) return 0;
  Session& session = *g_session.load(std::memory_order_relaxed);
  const uint32_t id = session.definitions.DefineKernelStack(frames);
  if (id == 0)
    session.losses.Count("kernel_stacks", "no memory for definitions, or an interrupted thread holds their lock", 1);
  return id;
}

uint32_t Recorder::DefineCode(uint32_t file, uint32_t function) {
  if (!running()) return 0;
  Session& session = *g_session.load(std::memory_order_relaxed);
  const uint32_t id = session.definitions.DefineCode(file, function);
  if (id == 0)
    session.losses.Count("python_stacks",
                         "no memory for another Python function, or an interrupted thread holds their lock", 1);
  return id;
}

void Recorder::SetDetail(std::string_view detail, std::string_view reason) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.DefineDetailChange(detail, reason, NowNs())) {
    session.losses.Count("detail_changes", "no memory for definitions, or an interrupted thread holds their lock", 1);
  }
}

void Recorder::DefineDevice(const DeviceDefinition& device) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.DefineDevice(device))
    session.losses.Count("devices", "no memory for definitions, or an interrupted thread holds their lock", 1);
}

void Recorder::DefineParameter(std::string_view name, std::string_view value) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.DefineParameter(name, value)) {
    session.losses.Count("parameters", "no memory for definitions, or an interrupted thread holds their lock", 1);
  }
}

void Recorder::DefineMemoryArea(const MemoryAreaDefinition& area) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.DefineMemoryArea(area)) {
    session.losses.Count("memory_areas", "no memory left for definitions", 1);
  }
}

void Recorder::DefineManagedVariable(std::string_view name, uint64_t address, uint64_t bytes) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.DefineManagedVariable(name, address, bytes)) {
    session.losses.Count("managed_variables", "no memory left for definitions", 1);
  }
}

void Recorder::DefineAuditCount(std::string_view function, uint64_t happened, uint64_t seen) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.DefineAuditCount(function, happened, seen)) {
    session.losses.Count("audit", "no memory for definitions, or an interrupted thread holds their lock", 1);
  }
}

void Recorder::SetProcess(const ProcessDefinition& process) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.SetProcess(process))
    session.losses.Count("process", "no memory for definitions, or an interrupted thread holds their lock", 1);
}

void Recorder::SetSourceState(std::string_view name, SourceStateKind state, std::string_view reason) {
  if (!running()) return;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (!session.definitions.SetSourceState(name, state, reason, NowNs())) {
    session.losses.Count("source_states", "more sources than the recorder keeps", 1);
  }
}

void Recorder::CountLoss(std::string_view source, std::string_view reason, uint64_t count) {
  if (!running()) return;
  g_session.load(std::memory_order_relaxed)->losses.Count(source, reason, count);
}

bool Recorder::Flush(int timeout_ms) {
  if (!running()) return false;
  Session& session = *g_session.load(std::memory_order_relaxed);
  // A child made behind our back (clone, vfork) has no writer to wait for.
  if (session.pid != getpid()) return false;
  const uint64_t deadline_ns = Deadline(timeout_ms);
  const uint32_t number = session.flushes_requested.fetch_add(1, std::memory_order_acq_rel) + 1;
  session.WakeWriter();
  return WaitForFlush(session, number, deadline_ns) && !session.writing_fails.load(std::memory_order_relaxed);
}

bool Recorder::Close(int timeout_ms) {
  if (!running_.exchange(false, std::memory_order_acq_rel)) return false;
  Session& session = *g_session.load(std::memory_order_relaxed);
  if (session.pid != getpid()) return false;
  const uint64_t deadline_ns = Deadline(timeout_ms);
  session.close_requested.store(true, std::memory_order_release);
  const uint32_t number = session.flushes_requested.fetch_add(1, std::memory_order_acq_rel) + 1;
  session.WakeWriter();
  if (WaitForFlush(session, number, deadline_ns)) return !session.writing_fails.load(std::memory_order_relaxed);
  // The writer says itself what it cannot write; here it has not come so far. Nobody else would tell: a trace that was
  // never begun is an empty file.
  if (session.file.bytes_written() == 0) {
    Log(LogLevel::kWarn,
        "nothing of process %d is in the trace %s: its writer did not get to it before the end. Write to a disk that "
        "answers (UVMTRACE_OUT), or give this machine less to do.",
        session.pid, session.file.path());
  } else {
    Log(LogLevel::kWarn,
        "the trace %s of process %d may lack its last moments, and lacks its end: the writer was not done with them "
        "after %d ms. Write to a disk that answers (UVMTRACE_OUT), or give this machine less to do.",
        session.file.path(), session.pid, timeout_ms);
  }
  return false;
}

void Recorder::AbandonAfterFork() {
  running_.store(false, std::memory_order_relaxed);
  g_starting.store(false, std::memory_order_relaxed);
  t_state.ring = nullptr;
  Session* session = g_session.exchange(nullptr, std::memory_order_relaxed);
  // The lock belongs to the open file, not to this descriptor: the parent keeps it.
  if (session != nullptr && session->pid != getpid()) session->file.Close();
}

const char* Recorder::path() const {
  const Session* session = g_session.load(std::memory_order_acquire);
  return session == nullptr ? "" : session->file.path();
}

uint64_t Recorder::WriterCpuNs() const {
  const Session* session = g_session.load(std::memory_order_acquire);
  if (session == nullptr) return 0;
  if (session->writer_ended.load(std::memory_order_acquire))
    return session->writer_cpu_ns.load(std::memory_order_relaxed);
  const uint64_t now_ns = ReadClockNs(session->writer_clock);
  return now_ns != 0 ? now_ns : session->writer_cpu_ns.load(std::memory_order_relaxed);
}

uint64_t Recorder::BytesWritten() const {
  const Session* session = g_session.load(std::memory_order_acquire);
  return session == nullptr ? 0 : session->file.bytes_written();
}

}  // namespace uvmtrace
