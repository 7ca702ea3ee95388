#include "preload/session/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "preload/apply/apply.h"
#include "preload/base/config.h"
#include "preload/base/hooked_thread.h"
#include "preload/doors/resolve.h"
#include "preload/doors/slots.h"
#include "preload/doors/visibility.h"
#include "preload/session/audit.h"
#include "preload/session/devices.h"
#include "preload/session/host_memory.h"
#include "preload/session/managed_memory.h"
#include "preload/session/nvtx.h"
#include "preload/session/out_of_memory.h"
#include "preload/session/own_cost.h"
#include "preload/session/sources.h"
#include "preload/stacks/fork_guard.h"
#include "preload/stacks/python_stack.h"
#include "preload/stacks/stack.h"
#include "record/diagnostics.h"
#include "record/os/futex.h"
#include "record/os/thread_start.h"
#include "record/recorder.h"
#include "record/run_id.h"

namespace uvmtrace {

namespace {

// An exit takes at most 2 s: this, and what sources.h says.
constexpr int kCloseMs = 500;
// A thread that finds another one starting the session, or its sources, waits for it, but never for ever: the starting
// thread may need the loader's lock, and the waiting one may hold it.
constexpr int kWaitMs = 500;

constinit std::atomic<SessionState> first_state{SessionState::kNotStarted};

// Work that is done once in a session, by whoever comes first; the others wait for it.
enum class Work : uint32_t { kNotDone = 0, kBusy, kDone };

struct Session {
  Config config;
  std::atomic<pid_t> pid{0};  // whose session this is; 0: no process's
  std::atomic<Work> devices{Work::kNotDone};
  std::atomic<Work> sampler{Work::kNotDone};
  std::atomic<Work> managed_sources{Work::kNotDone};
  // Of CUPTI: begun by whichever comes first, much pinned memory or managed memory.
  std::atomic<Work> kernel_sources{Work::kNotDone};
  std::atomic<Work> finished{Work::kNotDone};
  // Of threads for which waiting until the session has started took too long.
  std::atomic<uint64_t> calls_while_starting{0};
  std::atomic<bool> preloaded{true};
  // Handlers stay registered in a forked child.
  std::atomic<bool> fork_handler{false};
  std::atomic<bool> exit_handler{false};
  std::atomic<bool> exit_handler_behind_cupti{false};
};
constinit Session session;

template <typename State>
void Publish(std::atomic<State>* word, State state) {
  word->store(state, std::memory_order_release);
  FutexWakeAll(word);
}

// Waits until `word` is no longer `busy`, at most kWaitMs. Returns what it is then.
template <typename State>
State WaitWhile(std::atomic<State>* word, State busy) {
  static_assert(sizeof(*word) == sizeof(uint32_t));
  const uint64_t deadline_ns = NowNs() + kWaitMs * 1'000'000ull;
  State seen = word->load(std::memory_order_acquire);
  while (seen == busy) {
    const uint64_t now_ns = NowNs();
    if (now_ns >= deadline_ns) break;
    FutexWait(word, static_cast<uint32_t>(busy), deadline_ns - now_ns);
    seen = word->load(std::memory_order_acquire);
  }
  return seen;
}

// Whether the caller is to do the work. Others return when it is done, or when waiting took too long.
bool BeginWork(std::atomic<Work>* work) {
  Work seen = work->load(std::memory_order_acquire);
  if (seen == Work::kDone) return false;
  if (seen == Work::kNotDone && work->compare_exchange_strong(seen, Work::kBusy, std::memory_order_acq_rel))
    return true;
  WaitWhile(work, Work::kBusy);
  return false;
}

// The word that a fork wipes, made at the first start. Without the page (an old kernel) the fork handler does its work.
std::atomic<SessionState>* StateWord() {
  std::atomic<SessionState>* word = session_state.load(std::memory_order_acquire);
  if (word != &first_state) return word;
  const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const page = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return word;
  if (madvise(page, page_bytes, MADV_WIPEONFORK) == 0) {
    auto* const wiped = static_cast<std::atomic<SessionState>*>(page);
    if (session_state.compare_exchange_strong(word, wiped, std::memory_order_acq_rel)) return wiped;
  }
  munmap(page, page_bytes);
  return word;
}

// In a forked child, before anything else of ours: without locks, for their owners do not exist here.
void ForgetParent() {
  Recorder::Get().AbandonAfterFork();
  ForgetApply();
  AbandonSourcesAfterFork();
  managed_memory.Forget();
  ForgetOwnCost();
  ForgetAllocationFailures();
  ForgetPythonStacks();
  ForgetSlotScan();
  session.devices.store(Work::kNotDone, std::memory_order_relaxed);
  session.sampler.store(Work::kNotDone, std::memory_order_relaxed);
  session.managed_sources.store(Work::kNotDone, std::memory_order_relaxed);
  session.kernel_sources.store(Work::kNotDone, std::memory_order_relaxed);
  ForgetHostMemory();
  session.finished.store(Work::kNotDone, std::memory_order_relaxed);
  session.calls_while_starting.store(0, std::memory_order_relaxed);
  hooked_thread = {};
}

void AfterForkInChild() {
  if (session.pid.load(std::memory_order_relaxed) == 0) return;
  const int saved_errno = errno;
  ForgetParent();
  session.pid.store(0, std::memory_order_relaxed);
  session_state.load(std::memory_order_relaxed)->store(SessionState::kNotStarted, std::memory_order_release);
  errno = saved_errno;
}

void WarnConfig(const char* line) { Log(LogLevel::kWarn, "%s", line); }

// What is known about the process so far; the recorder keeps the last.
void DescribeProcess() {
  char kernel_driver[64];
  KernelDriverVersion(kernel_driver, sizeof(kernel_driver));
  ProcessDefinition process;
  process.detail = DetailName(session.config.detail);
  process.simulated = SimulatorRoot() != nullptr;
  process.cuda_driver_version = DriverVersion();
  process.cuda_runtime_version = static_cast<uint32_t>(RuntimeVersion());
  process.cupti_version = SourcesCuptiVersion();
  process.kernel_driver_version = kernel_driver;
  Recorder::Get().SetProcess(process);
}

void StartStacks() {
  Recorder& recorder = Recorder::Get();
  session_stack_frames.store(0, std::memory_order_relaxed);
  if (session.config.stack_frames == 0) {
    recorder.SetSourceState("stacks", SourceStateKind::kDisabled, "UVMTRACE_STACKS=0");
    recorder.SetSourceState("python_stacks", SourceStateKind::kDisabled, "UVMTRACE_STACKS=0");
    return;
  }
  char reason[200] = "";
  const char* const unwinder = OpenUnwinder(reason, sizeof(reason));
  if (unwinder == nullptr) {
    recorder.SetSourceState("stacks", SourceStateKind::kUnavailable, reason);
    recorder.SetSourceState("python_stacks", SourceStateKind::kUnavailable, reason);
    return;
  }
  session_stack_frames.store(session.config.stack_frames, std::memory_order_relaxed);
  snprintf(reason, sizeof(reason), "%d frames by %s", session.config.stack_frames, unwinder);
  recorder.SetSourceState("stacks", SourceStateKind::kActive, reason);
  StartPythonStacks();
}

bool StartRecording() {
  session.config = Config{};
  ReadConfig(environ, &session.config, [](const char*) {});
  SetLogLevel(session.config.log);
  session.config = Config{};
  ReadConfig(environ, &session.config, &WarnConfig);

  if (!session.config.children && !IsRunRoot()) {
    Log(LogLevel::kInfo, "this is a child process: not recorded, as UVMTRACE_CHILDREN=0 asks");
    return false;
  }
  if (!session.fork_handler.exchange(true)) {
    AfterForksInChildren(&AfterForkInChild);
    at_quick_exit(&FinishSession);
  }
  const LoaderWork loader;
  Recorder& recorder = Recorder::Get();
  const RecorderOptions options = {
      .path = session.config.out,
      .run_id = RunId(),
      .buffer_bytes = session.config.buffer_bytes,
      .functions = FunctionDefinitions(),
      .detail = DetailName(session.config.detail),
      .max_file_bytes = session.config.max_file_bytes,
      .end_for_host = &FinishSession,
  };
  if (!recorder.Start(options)) return false;

  DescribeProcess();
  if (session.preloaded.load(std::memory_order_relaxed)) {
    recorder.SetSourceState("calls", SourceStateKind::kActive);
  } else {
    recorder.SetSourceState("calls", SourceStateKind::kUnavailable,
                            "loaded by CUDA_INJECTION64_PATH: calls are not intercepted; use LD_PRELOAD");
  }
  TellVisibility();
  if (session.config.audit) WantAudit(session.config.detail != Detail::kCalls);
  recorder.SetSourceState("devices", SourceStateKind::kIdle, "cuInit has not been called");
  StartStacks();
  TellNvtx();
  StartApply();
  AnnounceSources(session.config);
  return true;
}

// Keeps what is done here out of the duration of the call in which it is done.
class OwnWorkTimer {
 public:
  OwnWorkTimer() : start_ns_(NowNs()), before_ns_(hooked_thread.own_work_ns) {}
  ~OwnWorkTimer() {
    const uint64_t spent_ns = NowNs() - start_ns_;
    const uint64_t beneath_ns = hooked_thread.own_work_ns - before_ns_;  // told by timers within this one
    start_cost_ns.fetch_add(spent_ns - beneath_ns, std::memory_order_relaxed);
    hooked_thread.own_work_ns = before_ns_ + spent_ns;
  }
  OwnWorkTimer(const OwnWorkTimer&) = delete;
  OwnWorkTimer& operator=(const OwnWorkTimer&) = delete;

 private:
  const uint64_t start_ns_;
  const uint64_t before_ns_;
};

// The C library runs the handler that was registered last first. So ours runs before those of what has been loaded so
// far, while that can still be flushed. It is registered anew behind libcupti; the sources are finished once.
void FinishSourcesAtExit(std::atomic<bool>* registered) {
  if (!registered->exchange(true)) atexit(&FinishSources);
}

void CountCallsWhileStarting() {
  const uint64_t calls = session.calls_while_starting.exchange(0, std::memory_order_relaxed);
  if (calls == 0) return;
  Recorder::Get().CountLoss("api_calls", "made by other threads while the recording took long to start", calls);
}

void* WatchInjectedProcess(void*) {
  ThreadHasStarted();
  InternalWork internal;
  // cuInit waits until the initialisation that is loading us has ended, and then does nothing.
  using Initialize = CUresult (*)(unsigned);
  if (const auto initialize = reinterpret_cast<Initialize>(DriverSymbol("cuInit"))) AfterInitialize(initialize(0));
  EnsureManagedSources();
  SetSourcesLive(true);
  return nullptr;
}

}  // namespace

constinit std::atomic<std::atomic<SessionState>*> session_state{&first_state};
constinit std::atomic<int> session_stack_frames{0};
constinit std::atomic<bool> sources_wanted{false};

bool EnsureSession() {
  InternalWork internal;
  std::atomic<SessionState>* const word = StateWord();
  SessionState seen = word->load(std::memory_order_acquire);
  if (seen == SessionState::kNotStarted &&
      word->compare_exchange_strong(seen, SessionState::kStarting, std::memory_order_acq_rel)) {
    const pid_t pid = getpid();
    const pid_t owner = session.pid.load(std::memory_order_relaxed);
    if (owner != 0 && owner != pid) {  // made by clone, past the fork handler
      ForgetForkGuard();
      ForgetParent();
      hooked_thread.depth = 1;  // this function is at work, see InternalWork
      hooked_thread.outermost_frame = UINTPTR_MAX;
    }
    const OwnWorkTimer timer;
    session.pid.store(pid, std::memory_order_relaxed);
    Publish(word, StartRecording() ? SessionState::kRunning : SessionState::kFailed);
    CountCallsWhileStarting();
    // A session may start after cuInit: by way of a library that was bound past us.
    if (SessionRunning() && DriverHandle() != nullptr) AfterInitialize(CUDA_ERROR_NOT_INITIALIZED);
  } else if (seen == SessionState::kStarting && WaitWhile(word, SessionState::kStarting) == SessionState::kStarting) {
    session.calls_while_starting.fetch_add(1, std::memory_order_relaxed);
  }
  return SessionRunning();
}

void AfterInitialize(CUresult result) {
  if (!SessionRunning() || session.devices.load(std::memory_order_acquire) == Work::kDone) return;
  InternalWork internal;
  const OwnWorkTimer timer;
  if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_INITIALIZED) {
    char error[100];
    char reason[200];
    DescribeError(result, error, sizeof(error));
    snprintf(reason, sizeof(reason), "cuInit failed: %s", error);
    Recorder::Get().SetSourceState("devices", SourceStateKind::kUnavailable, reason);
    TellSourcesUnavailable(session.config, reason);
    DescribeProcess();
    return;
  }
  if (!BeginWork(&session.devices)) return;
  const CUresult defined = DefineDevices();
  if (defined == CUDA_SUCCESS) {
    Recorder::Get().SetSourceState("devices", SourceStateKind::kActive);
    DescribeProcess();
  } else if (result == CUDA_SUCCESS) {
    char error[100];
    char reason[200];
    DescribeError(defined, error, sizeof(error));
    snprintf(reason, sizeof(reason), "cuDeviceGetCount failed: %s", error);
    Recorder::Get().SetSourceState("devices", SourceStateKind::kUnavailable, reason);
  }
  Publish(&session.devices, defined == CUDA_SUCCESS ? Work::kDone : Work::kNotDone);
}

// Once the sources have been finished none may start.
static bool MayStartSources() { return session.finished.load(std::memory_order_acquire) == Work::kNotDone; }

void EnsureSampler() {
  if (session.sampler.load(std::memory_order_acquire) == Work::kDone || !SessionRunning()) return;
  InternalWork internal;
  AfterInitialize(CUDA_ERROR_NOT_INITIALIZED);
  const OwnWorkTimer timer;
  if (!BeginWork(&session.sampler)) return;
  if (MayStartSources()) {
    const LoaderWork loader;
    StartSampler(session.config);
    DescribeProcess();
    FinishSourcesAtExit(&session.exit_handler);
  }
  Publish(&session.sampler, Work::kDone);
}

void EnsureKernelSources() {
  EnsureSampler();
  if (session.kernel_sources.load(std::memory_order_acquire) == Work::kDone || !SessionRunning()) return;
  InternalWork internal;
  const OwnWorkTimer timer;
  if (!BeginWork(&session.kernel_sources)) return;
  if (MayStartSources()) {
    const LoaderWork loader;
    if (StartKernelSources(session.config)) DescribeProcess();
    FinishSourcesAtExit(&session.exit_handler_behind_cupti);
  }
  Publish(&session.kernel_sources, Work::kDone);
}

void EnsureManagedSources() {
  if (session.managed_sources.load(std::memory_order_acquire) == Work::kDone || !SessionRunning()) return;
  InternalWork internal;
  EnsureSampler();
  const OwnWorkTimer timer;
  if (!BeginWork(&session.managed_sources)) return;
  // Another thread may be starting CUPTI for its pinned memory.
  const bool begins_cupti = BeginWork(&session.kernel_sources);
  if (MayStartSources()) {
    const LoaderWork loader;
    StartManagedSources(session.config, !begins_cupti && session.config.kernels);
    DescribeProcess();
    FinishSourcesAtExit(&session.exit_handler_behind_cupti);
  }
  if (begins_cupti) Publish(&session.kernel_sources, Work::kDone);
  Publish(&session.managed_sources, Work::kDone);
}

void ManagedMemoryAllocated(uint64_t address, uint64_t bytes) {
  managed_memory.Insert(address, bytes);
  SetSourcesLive(true);
}

uint64_t ManagedMemoryBeginFree(uint64_t address) { return managed_memory.BeginFree(address); }

void ManagedMemoryEndFree(uint64_t address, uint64_t bytes, bool freed) {
  if (bytes == 0) return;
  if (!freed) managed_memory.Insert(address, bytes);  // before the end, so that the count never drops
  managed_memory.EndFree(bytes);
  if (managed_memory.Live()) return;
  SetSourcesLive(false);
  // Another thread may have allocated between the question and the answer, and have been overruled.
  if (managed_memory.Live()) SetSourcesLive(true);
}

void FinishSources() {
  if (session.pid.load(std::memory_order_relaxed) != getpid()) return;
  InternalWork internal;
  if (!BeginWork(&session.finished)) return;
  if (session.sampler.load(std::memory_order_acquire) == Work::kDone) FinishAllSources();
  Publish(&session.finished, Work::kDone);
}

void FinishSession() {
  if (session.pid.load(std::memory_order_relaxed) != getpid()) return;
  InternalWork internal;
  std::atomic<SessionState>* const word = session_state.load(std::memory_order_acquire);
  // Begun by another thread: without an end its trace would look like that of a process that was killed.
  if (word->load(std::memory_order_acquire) == SessionState::kStarting) WaitWhile(word, SessionState::kStarting);
  if (word->load(std::memory_order_acquire) != SessionState::kRunning) {
    // Another thread ends the process as well: if it did not finish, the last chunk would be missing.
    if (word->load(std::memory_order_acquire) == SessionState::kClosing) WaitWhile(word, SessionState::kClosing);
    return;
  }
  FinishSources();
  TellApply();
  SessionState running = SessionState::kRunning;
  if (!word->compare_exchange_strong(running, SessionState::kClosing, std::memory_order_acq_rel)) {
    WaitWhile(word, SessionState::kClosing);
    return;
  }
  if (!DriverSeen()) {
    Recorder::Get().SetSourceState("devices", SourceStateKind::kUnavailable,
                                   "libcuda.so.1 was never loaded: no NVIDIA driver is installed, or it is not on the "
                                   "loader's path");
  }
  CountCallsWhileStarting();
  RecordOwnCost();
  Recorder::Get().Close(kCloseMs);
  Publish(word, SessionState::kClosed);
}

void StartInjectedSession() {
  session.preloaded.store(false, std::memory_order_relaxed);
  if (!EnsureSession()) return;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (CreateThread(&thread, nullptr, &WatchInjectedProcess, nullptr) == 0) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace uvmtrace
