// See fake_cupti.h.
#include "tests/unit/fake_cupti.h"

#include <cupti.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mutex>
#include <set>
#include <vector>

#define FAKE_CUPTI_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

FakeCupti g_fake;
std::atomic<CUpti_BuffersCallbackRequestFunc> g_requested{nullptr};
std::atomic<CUpti_BuffersCallbackCompleteFunc> g_completed{nullptr};
std::mutex g_mutex;
std::vector<std::vector<uint8_t>> g_queue;
// Calls of a kind that is on, without those that are switched off.
struct Calls {
  bool on = false;
  std::set<CUpti_CallbackId> off;
};
Calls g_calls[2];  // of the driver, of the runtime
thread_local bool t_in_callback = false;

void Enter() {
  if (t_in_callback) ++g_fake.calls_in_callback;
}

size_t RecordBytes(uint32_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return sizeof(CUpti_ActivityMemcpy6);
    case CUPTI_ACTIVITY_KIND_MEMCPY2:
      return sizeof(CUpti_ActivityMemcpyPtoP4);
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return sizeof(CUpti_ActivityMemset4);
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION:
      return sizeof(CUpti_ActivitySynchronization2);
    case CUPTI_ACTIVITY_KIND_DRIVER:
    case CUPTI_ACTIVITY_KIND_RUNTIME:
      return sizeof(CUpti_ActivityAPI);
    default:
      break;
  }
  if (kind == CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER) return g_fake.version >= 26 ? 104 : 64;
  if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) return g_fake.version >= 130000 ? 216 : 208;
  return 8;  // some kind of another client
}

uint8_t* Request(size_t* bytes, size_t* max_records) {
  uint8_t* buffer = nullptr;
  t_in_callback = true;
  g_requested.load()(&buffer, bytes, max_records);
  t_in_callback = false;
  if (buffer == nullptr) ++g_fake.null_buffers;
  return buffer;
}

void Complete(uint8_t* buffer, size_t bytes, size_t valid) {
  t_in_callback = true;
  g_completed.load()(nullptr, 0, buffer, bytes, valid);
  t_in_callback = false;
}

void Queue(const void* record, size_t bytes) {
  uint32_t kind;
  memcpy(&kind, record, sizeof kind);
  std::vector<uint8_t> copy(RecordBytes(kind));
  memcpy(copy.data(), record, bytes < copy.size() ? bytes : copy.size());
  std::lock_guard<std::mutex> guard(g_mutex);
  g_queue.push_back(copy);
}

Calls& CallsOf(int kind) { return g_calls[kind == CUPTI_ACTIVITY_KIND_RUNTIME ? 1 : 0]; }

void Called(int kind, uint32_t callback_id, uint32_t thread, uint32_t correlation) {
  if (!CallsOf(kind).on || CallsOf(kind).off.contains(callback_id)) return;
  CUpti_ActivityAPI record{};
  record.kind = static_cast<CUpti_ActivityKind>(kind);
  record.cbid = callback_id;
  record.start = 1'790'000'000'000'000'006;
  record.end = record.start + 3;
  record.threadId = thread;
  record.correlationId = correlation;
  Queue(&record, sizeof record);
}

CUptiResult Switch(int kind, CUpti_CallbackId id, CUpti_CallbackId known, bool on) {
  if (id >= known) return CUPTI_ERROR_INVALID_PARAMETER;
  if (on) {
    CallsOf(kind).off.erase(id);
  } else {
    CallsOf(kind).off.insert(id);
  }
  return CUPTI_SUCCESS;
}

void ShutDown() {
  g_requested = nullptr;
  g_completed = nullptr;
  g_fake.configured_kinds = 0;
  g_fake.unified_memory_enabled = false;
  g_fake.kernels_enabled = false;
}

}  // namespace

FAKE_CUPTI_EXPORT FakeCupti* FakeCuptiScript() {
  g_fake.called = &Called;
  g_fake.queue = &Queue;
  g_fake.request = &Request;
  g_fake.complete = &Complete;
  g_fake.shut_down = &ShutDown;
  return &g_fake;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiGetVersion(uint32_t* version) {
  *version = g_fake.version;
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiGetTimestamp(uint64_t* timestamp) {
  Enter();
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *timestamp = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec) +
               static_cast<uint64_t>(g_fake.clock_offset_ns.load());
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc requested,
                                                             CUpti_BuffersCallbackCompleteFunc completed) {
  Enter();
  g_requested = requested;
  g_completed = completed;
  ++g_fake.registrations;
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, size_t*, void*) {
  Enter();
  return CUPTI_ERROR_NOT_SUPPORTED;  // as with confidential computing
}

FAKE_CUPTI_EXPORT CUptiResult
cuptiActivityConfigureUnifiedMemoryCounter(CUpti_ActivityUnifiedMemoryCounterConfig* config, uint32_t count) {
  Enter();
  if (g_fake.unified_memory_enabled) return CUPTI_ERROR_INVALID_OPERATION;
  uint32_t kinds = g_fake.configure_replaces ? 0 : g_fake.configured_kinds.load();
  for (uint32_t i = 0; i < count; ++i) {
    const int result = g_fake.configure_result[config[i].kind];
    if (result != 0) return static_cast<CUptiResult>(result);
    if (config[i].enable != 0) kinds |= 1u << config[i].kind;
  }
  g_fake.configured_kinds = kinds;
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  Enter();
  if (kind == CUPTI_ACTIVITY_KIND_DRIVER || kind == CUPTI_ACTIVITY_KIND_RUNTIME)
    CallsOf(kind) = {.on = true, .off = {}};
  const bool kernels = kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  if (!kernels && kind != CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER) {
    return g_fake.refuse_work ? CUPTI_ERROR_INVALID_KIND : CUPTI_SUCCESS;
  }
  const int result = kernels ? g_fake.enable_kernels_result : g_fake.enable_unified_memory_result;
  if (result == 0) (kernels ? g_fake.kernels_enabled : g_fake.unified_memory_enabled) = true;
  return static_cast<CUptiResult>(result);
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityEnableDriverApi(CUpti_CallbackId id, uint8_t enable) {
  return Switch(CUPTI_ACTIVITY_KIND_DRIVER, id, CUPTI_DRIVER_TRACE_CBID_SIZE, enable != 0);
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityEnableRuntimeApi(CUpti_CallbackId id, uint8_t enable) {
  return Switch(CUPTI_ACTIVITY_KIND_RUNTIME, id, CUPTI_RUNTIME_TRACE_CBID_SIZE, enable != 0);
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityFlushAll(uint32_t flag) {
  Enter();
  ++g_fake.flushes;
  if ((flag & CUPTI_ACTIVITY_FLAG_FLUSH_FORCED) != 0) ++g_fake.forced_flushes;
  while (g_fake.flush_hangs) usleep(1000);
  if (g_fake.flush_result != 0) return static_cast<CUptiResult>(g_fake.flush_result.load());
  if (g_completed.load() == nullptr) return CUPTI_ERROR_INVALID_OPERATION;
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  if (sigismember(&mask, SIGTERM) == 0) ++g_fake.unblocked_signals;
  std::vector<std::vector<uint8_t>> records;
  {
    std::lock_guard<std::mutex> guard(g_mutex);
    records.swap(g_queue);
  }
  for (size_t next = 0; next < records.size() || g_fake.dropped != 0;) {
    size_t bytes = 0;
    size_t max_records = 0;
    uint8_t* buffer = Request(&bytes, &max_records);
    if (buffer == nullptr) return CUPTI_ERROR_UNKNOWN;
    memset(buffer, 0, bytes);
    size_t used = 0;
    while (next < records.size() && used + records[next].size() <= bytes) {
      memcpy(buffer + used, records[next].data(), records[next].size());
      used += records[next++].size();
    }
    Complete(buffer, bytes, used);
  }
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityGetNextRecord(uint8_t* buffer, size_t valid, CUpti_Activity** record) {
  uint8_t* at = buffer;
  if (*record != nullptr) {
    at = reinterpret_cast<uint8_t*>(*record);
    uint32_t kind;
    memcpy(&kind, at, sizeof kind);
    at += RecordBytes(kind);
  }
  if (at >= buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  uint32_t kind;
  memcpy(&kind, at, sizeof kind);
  if (kind == CUPTI_ACTIVITY_KIND_INVALID) return CUPTI_ERROR_INVALID_KIND;
  *record = reinterpret_cast<CUpti_Activity*>(at);
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped) {
  *dropped = g_fake.dropped.exchange(0);
  return CUPTI_SUCCESS;
}

FAKE_CUPTI_EXPORT CUptiResult cuptiSubscribe(CUpti_SubscriberHandle*, CUpti_CallbackFunc, void*) {
  ++g_fake.forbidden_calls;
  return CUPTI_SUCCESS;
}
FAKE_CUPTI_EXPORT CUptiResult cuptiActivityDisable(CUpti_ActivityKind) {
  ++g_fake.forbidden_calls;
  return CUPTI_SUCCESS;
}
FAKE_CUPTI_EXPORT CUptiResult cuptiFinalize() {
  ++g_fake.forbidden_calls;
  return CUPTI_SUCCESS;
}
