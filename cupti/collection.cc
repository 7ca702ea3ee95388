// See collection.h.
#include "cupti/collection.h"

#include <stdio.h>

#include <algorithm>

#include "cupti/activity_records.h"
#include "cupti/audit.h"
#include "cupti/buffer_pool.h"
#include "cupti/clock_watch.h"
#include "cupti/foreign_client.h"
#include "cupti/launch_calls.h"
#include "cupti/library_search.h"
#include "record/diagnostics.h"
#include "record/source_thread.h"

namespace uvmtrace {
namespace {

// CUPTI's callbacks carry no pointer of ours, and CUPTI itself serves a process once.
constinit BufferPool g_pool;
constinit SharedSource g_records;  // CUPTI delivers in whichever thread flushes, the program's as well
constinit std::atomic<Collection*> g_collection{nullptr};

void Tell(const char* source, SourceStateKind state, const char* reason) {
  Recorder::Get().SetSourceState(source, state, reason);
  Log(state == SourceStateKind::kActive ? LogLevel::kDebug : LogLevel::kInfo, "%s: %s", source, reason);
}

CUpti_ActivityUnifiedMemoryCounterConfig ConfigOf(const CounterKind& kind) {
  CUpti_ActivityUnifiedMemoryCounterConfig config{};
  // Scope and device have been ignored since CUDA 7.0: the process, all devices.
  config.scope = CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_SCOPE_PROCESS_SINGLE_DEVICE;
  config.kind = kind.kind;
  config.deviceId = 0;
  config.enable = 1;
  return config;
}

}  // namespace

void Collection::TellAll(SourceStateKind state, const char* reason) {
  Tell("cupti", state, reason);
  for (const CounterKind& kind : kCounterKinds) Recorder::Get().SetSourceState(kind.source, state, reason);
  Recorder::Get().SetSourceState(kKernelSource, state, reason);
}

// Of what was wanted.
void Collection::TellUnavailable(const char* reason) const {
  if (unified_memory()) return TellAll(SourceStateKind::kUnavailable, reason);
  Tell("cupti", SourceStateKind::kUnavailable, reason);
  Recorder::Get().SetSourceState(kKernelSource, SourceStateKind::kUnavailable, reason);
  for (const CounterKind& kind : kCounterKinds) {
    Recorder::Get().SetSourceState(kind.source, SourceStateKind::kDisabled, unified_memory_off_);
  }
}

bool Collection::Open(const Options& options) {
  kernels_ = options.kernels;
  launches_ = options.launches;
  g_pool.SetLimit(options.buffer_bytes);
  const char* const off = options.unified_memory_off;
  snprintf(unified_memory_off_, sizeof unified_memory_off_, "%s", off == nullptr ? "" : off);
  char reason[768];
  CuptiLibrary library;
  FindCupti(options.cudart_path, options.simulated, &library);
  if (library.handle == nullptr) {
    snprintf(
        reason, sizeof reason,
        "no libcupti was found beside libcudart, in $CUDA_HOME, /usr/local/cuda or the loader's path; install the CUDA "
        "Toolkit's CUPTI (cuda-cupti, or pip's nvidia-cuda-cupti), or set CUDA_HOME to a toolkit (%s)",
        library.failure);
    TellUnavailable(reason);
    return false;
  }
  if (const char* missing = api_.Load(library.handle)) {
    snprintf(reason, sizeof reason, "%s has no %s; use the libcupti of CUDA 12.0 or later", library.path, missing);
    TellUnavailable(reason);
    return false;
  }
  if (api_.GetVersion(&version_) != CUPTI_SUCCESS) version_ = 0;
  if (library.mapped_others > 0) {
    snprintf(
        description_, sizeof description_,
        "%s, CUPTI API version %u; %d other libcupti are mapped in this process, and records go to whichever started "
        "first",
        library.path, version_, library.mapped_others);
  } else {
    snprintf(description_, sizeof description_, "%s, CUPTI API version %u", library.path, version_);
  }
  g_collection.store(this, std::memory_order_release);
  recording_.store(true, std::memory_order_release);
  const bool armed = !TakenByAnother() && Arm();
  StartAudit(api_, library.handle);
  return armed;
}

// CUPTI gives its records to whoever registered last. A profiler that the program started before its first managed
// allocation would get nothing more.
bool Collection::TakenByAnother() const {
  if (!ClockWatch::IsReplaced(api_)) return false;
  char clients[300];
  FindCuptiClients(clients, sizeof clients);
  char reason[768];
  snprintf(
      reason, sizeof reason,
      "another CUPTI client of this process was there first, told by its clock, and keeps CUPTI's records; in this "
      "process: %s",
      clients[0] != '\0' ? clients : "none of the clients that are known");
  TellUnavailable(reason);
  return true;
}

bool Collection::Arm() {
  // CUPTI would take several megabytes of the memory that is being measured from each context. Refused with
  // confidential computing, which costs nothing but that memory.
  uint8_t pinned = 1;
  size_t pinned_bytes = sizeof pinned;
  api_.ActivitySetAttribute(CUPTI_ACTIVITY_ATTR_MEM_ALLOCATION_TYPE_HOST_PINNED, &pinned_bytes, &pinned);

  const CUptiResult registered = api_.ActivityRegisterCallbacks(&BufferRequested, &BufferCompleted);
  if (registered != CUPTI_SUCCESS) {
    char reason[512];
    DescribeCuptiError(registered, reason, sizeof reason);
    TellUnavailable(reason);
    return false;
  }
  if (unified_memory()) EnableUnifiedMemory();
  if (KernelsPossible()) {
    kernel_result_ = api_.ActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    if (kernel_result_ == CUPTI_SUCCESS) EnableWork();
  }
  TellResults();
  return AnythingEnabled();
}

// What belongs to kernels: copies and memsets, and where it is wanted waits and launches. A kind that is refused is
// missing for itself.
void Collection::EnableWork() {
  copy_result_ = api_.ActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  for (const CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_MEMCPY2, CUPTI_ACTIVITY_KIND_MEMSET}) {
    const CUptiResult result = api_.ActivityEnable(kind);
    if (copy_result_ == CUPTI_SUCCESS) copy_result_ = result;
  }
  if (!launches_) return;
  synchronization_result_ = api_.ActivityEnable(CUPTI_ACTIVITY_KIND_SYNCHRONIZATION);
  launch_result_ = EnableLaunches(api_);
}

void Collection::AddUnifiedMemory() {
  if (unified_memory()) return;
  unified_memory_off_[0] = '\0';
  EnableUnifiedMemory();
  TellResults();
}

bool Collection::KernelsPossible() const { return kernels_ && version_ >= kOldestVersionForKernels; }

bool Collection::AnythingEnabled() const {
  if (KernelsPossible() && kernel_result_ == CUPTI_SUCCESS) return true;
  return unified_memory() && std::any_of(std::begin(counter_results_), std::end(counter_results_),
                                         [](CUptiResult result) { return result == CUPTI_SUCCESS; });
}

void Collection::EnableUnifiedMemory() {
  CUpti_ActivityUnifiedMemoryCounterConfig accepted[kCounterKindCount];
  uint32_t count = 0;
  // One by one, so that a refused kind does not cost the others.
  for (size_t i = 0; i < kCounterKindCount; ++i) {
    CUpti_ActivityUnifiedMemoryCounterConfig config = ConfigOf(kCounterKinds[i]);
    counter_results_[i] = api_.ActivityConfigureUnifiedMemoryCounter(&config, 1);
    if (counter_results_[i] == CUPTI_SUCCESS) accepted[count++] = config;
  }
  if (count == 0) return;
  // The headers do not say whether a call adds to the configuration or replaces it. All in one call is right either
  // way.
  CUptiResult result = api_.ActivityConfigureUnifiedMemoryCounter(accepted, count);
  if (result == CUPTI_SUCCESS) result = api_.ActivityEnable(CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER);
  for (CUptiResult& counter_result : counter_results_) {
    if (counter_result == CUPTI_SUCCESS) counter_result = result;
  }
}

void Collection::TellResults() const {
  if (AnythingEnabled()) {
    Tell("cupti", SourceStateKind::kActive, description_);
  } else {
    char cause[512];
    char reason[sizeof description_ + sizeof cause + 32];
    DescribeCuptiError(unified_memory() ? counter_results_[0] : kernel_result_, cause, sizeof cause);
    snprintf(reason, sizeof reason, "%s, refuses everything. %s", description_, cause);
    Tell("cupti", SourceStateKind::kUnavailable, reason);
  }
  auto tell = [](const char* source, CUptiResult result) {
    if (result == CUPTI_SUCCESS) return Tell(source, SourceStateKind::kActive, "");
    char reason[512];
    DescribeCuptiError(result, reason, sizeof reason);
    Tell(source, SourceStateKind::kUnavailable, reason);
  };
  for (size_t i = 0; i < kCounterKindCount; ++i) {
    if (unified_memory()) {
      tell(kCounterKinds[i].source, counter_results_[i]);
    } else {
      Recorder::Get().SetSourceState(kCounterKinds[i].source, SourceStateKind::kDisabled, unified_memory_off_);
    }
  }
  if (KernelsPossible()) {
    tell(kKernelSource, kernel_result_);
    if (kernel_result_ != CUPTI_SUCCESS) return;
    tell(kCopySource, copy_result_);
    if (!launches_) {
      for (const char* source : {kSynchronizationSource, kLaunchSource}) {
        Tell(source, SourceStateKind::kDisabled, "only with UVMTRACE_KERNELS=1");
      }
      return;
    }
    tell(kSynchronizationSource, synchronization_result_);
    if (launch_result_ != CUPTI_ERROR_NOT_SUPPORTED) return tell(kLaunchSource, launch_result_);
    return Tell(kLaunchSource, SourceStateKind::kUnavailable,
                "this libcupti cannot tell launches alone; use that of CUDA 12.5 or later");
  }
  if (!kernels_) return Tell(kKernelSource, SourceStateKind::kDisabled, "UVMTRACE_KERNELS=0");
  char reason[256];
  snprintf(
      reason, sizeof reason,
      "the layout of kernel records in CUPTI API version %u is not known here; use the libcupti of CUDA 12.0 or later",
      version_);
  Tell(kKernelSource, SourceStateKind::kUnavailable, reason);
}

void Collection::TellStopped(const char* reason) const {
  Tell("cupti", SourceStateKind::kStopped, reason);
  for (size_t i = 0; i < kCounterKindCount; ++i) {
    if (unified_memory() && counter_results_[i] == CUPTI_SUCCESS) {
      Tell(kCounterKinds[i].source, SourceStateKind::kStopped, reason);
    }
  }
  if (KernelsPossible() && kernel_result_ == CUPTI_SUCCESS) {
    Tell(kKernelSource, SourceStateKind::kStopped, reason);
  }
}

void Collection::Abandon() {
  recording_.store(false, std::memory_order_release);
  g_pool.Abandon();
  g_records.Forget();
  version_ = 0;
  delivered_.store(0, std::memory_order_relaxed);
}

void CUPTIAPI Collection::BufferRequested(uint8_t** buffer, size_t* bytes, size_t* max_records) {
  ErrnoKeeper keep_errno;
  const BufferPool::Buffer given = g_pool.Acquire();
  *buffer = given.data;
  *bytes = given.bytes;
  *max_records = given.discarded ? 1 : 0;  // 0: as many as fit
}

void CUPTIAPI Collection::BufferCompleted(CUcontext context, uint32_t stream, uint8_t* buffer, size_t, size_t valid) {
  ErrnoKeeper keep_errno;
  Collection* collection = g_collection.load(std::memory_order_acquire);
  // A forked child inherits what the parent had not flushed yet; those records are the parent's.
  if (collection != nullptr && collection->recording_.load(std::memory_order_acquire)) {
    collection->ReadBuffer(context, stream, buffer, valid);
  }
  g_pool.Release(buffer);
}

void Collection::ReadBuffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t valid) {
  Recorder& recorder = Recorder::Get();
  if (BufferPool::Discarded(buffer)) {
    recorder.CountLoss("cupti", "no memory for CUPTI's buffers", 1);
    return;
  }
  const SharedSource::Lease lease(g_records);
  if (!lease) {
    recorder.CountLoss("cupti", "a buffer that came while another thread's delivery did not end", 1);
    return;
  }
  if (buffer != nullptr && valid > 0) {
    ParseCounts counts;
    CUpti_Activity* record = nullptr;
    CUptiResult result;
    while ((result = api_.ActivityGetNextRecord(buffer, valid, &record)) == CUPTI_SUCCESS && record != nullptr) {
      const uint8_t* at = reinterpret_cast<const uint8_t*>(record);
      const size_t available = at >= buffer && at < buffer + valid ? static_cast<size_t>(buffer + valid - at) : 0;
      CountAuditRecord(at, available);  // also a launch counts
      ParseActivityRecord(at, available, version_, &counts);
      if (available == 0) break;
    }
    // A record that CUPTI had not finished hides those behind it in the same buffer.
    if (result != CUPTI_SUCCESS && result != CUPTI_ERROR_MAX_LIMIT_REACHED) {
      recorder.CountLoss("cupti", "rest of a buffer behind an incomplete record", 1);
    }
    delivered_.fetch_add(counts.unified_memory + counts.kernels, std::memory_order_relaxed);
    if (counts.without_time > 0) recorder.CountLoss("cupti", "record without a time", counts.without_time);
    if (counts.cut_off > 0) recorder.CountLoss("cupti", "record reaches past its buffer", counts.cut_off);
    if (counts.unknown_counter > 0) recorder.CountLoss("cupti", "unknown counter kind", counts.unknown_counter);
  }
  size_t dropped = 0;
  if (api_.ActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS && dropped > 0) {
    recorder.CountLoss("cupti", "dropped by CUPTI: no buffer space", dropped);
  }
}

}  // namespace uvmtrace
