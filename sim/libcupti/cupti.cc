// The part of CUPTI that a unified-memory profiler uses, with the habits of the real one: nothing is delivered unless
// somebody flushes, and what the driver's queue lost in the meantime is not in any count of drops.
#pragma GCC visibility push(default)
#include <cupti.h>
#pragma GCC visibility pop

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>

#include "sim/engine/lacks.h"
#include "sim/engine/synchronization_table.h"
#include "sim/engine/tables.h"

namespace {

using uvmsim::CuptiKernelRecord;
using uvmsim::CuptiMemoryRecord;
using uvmsim::CuptiSynchronizationRecord;
using uvmsim::CuptiTable;
using uvmsim::SynchronizationTable;

std::atomic<CUpti_BuffersCallbackRequestFunc> g_request{nullptr};
std::atomic<CUpti_BuffersCallbackCompleteFunc> g_complete{nullptr};
std::atomic<uint32_t> g_configured{0};  // bit n: counter kind n
std::atomic<bool> g_memory_enabled{false};
std::atomic<bool> g_kernels_enabled{false};
std::atomic<size_t> g_dropped{0};
int g_subscriber;

// Null unless the simulator's driver is in this process and initialised.
const CuptiTable* Table() {
  static std::atomic<const CuptiTable*> found{nullptr};
  const CuptiTable* table = found.load();
  if (table == nullptr) {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (driver != nullptr) table = static_cast<const CuptiTable*>(dlsym(driver, "uvmsim_cupti_table"));
    found = table;
  }
  return table != nullptr && table->initialized() ? table : nullptr;
}

// To be asked for where Table() is not null.
const SynchronizationTable& Synchronizations() {
  static const SynchronizationTable* const table = static_cast<const SynchronizationTable*>(
      dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), "uvmsim_synchronization_table"));
  return *table;
}

CUpti_ActivityUnifiedMemoryCounter3 Convert(const CuptiMemoryRecord& from) {
  CUpti_ActivityUnifiedMemoryCounter3 to = {};
  to.kind = CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER;
  to.counterKind = static_cast<CUpti_ActivityUnifiedMemoryCounterKind>(from.counter_kind);
  to.value = from.value;
  to.start = from.start_ns;
  to.end = from.end_ns;
  to.address = from.address;
  to.srcId = from.source;
  to.dstId = from.destination;
  to.processId = static_cast<uint32_t>(getpid());
  to.flags = from.flags;
  if (to.counterKind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING) {
    to.srcId = 0;
    to.processors[0] = from.source;
  }
  return to;
}

CUpti_ActivityKernel10 Convert(const CuptiKernelRecord& from) {
  CUpti_ActivityKernel10 to = {};
  to.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  to.start = from.start_ns;
  to.end = from.end_ns;
  to.completed = from.end_ns;
  to.deviceId = from.device;
  to.contextId = 1;
  to.streamId = from.stream;
  to.gridX = static_cast<int32_t>(from.grid.x);
  to.gridY = static_cast<int32_t>(from.grid.y);
  to.gridZ = static_cast<int32_t>(from.grid.z);
  to.blockX = static_cast<int32_t>(from.block.x);
  to.blockY = static_cast<int32_t>(from.block.y);
  to.blockZ = static_cast<int32_t>(from.block.z);
  to.correlationId = from.correlation;
  to.gridId = from.correlation;
  to.name = from.name;
  return to;
}

// A buffer of the client's, in the calling thread, without a lock: the callbacks may do as they like.
class Buffer {
 public:
  ~Buffer() { Deliver(); }
  template <typename Record>
  void Append(const Record& record) {
    if (data_ != nullptr && (size_ - used_ < sizeof record || (most_records_ != 0 && records_ == most_records_)))
      Deliver();
    if (data_ == nullptr) Request();
    if (data_ == nullptr || size_ - used_ < sizeof record) {
      g_dropped.fetch_add(1);
      return;
    }
    memcpy(data_ + used_, &record, sizeof record);
    used_ += sizeof record;
    ++records_;
  }

 private:
  void Request() {
    const auto request = g_request.load();
    used_ = records_ = size_ = most_records_ = 0;
    if (request != nullptr) request(&data_, &size_, &most_records_);
  }
  void Deliver() {
    const auto complete = g_complete.load();
    if (data_ != nullptr && complete != nullptr) complete(nullptr, 0, data_, size_, used_);
    data_ = nullptr;
  }

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t used_ = 0;
  size_t records_ = 0;
  size_t most_records_ = 0;
};

CUpti_ActivitySynchronization2 Convert(const CuptiSynchronizationRecord& from) {
  CUpti_ActivitySynchronization2 to = {};
  to.kind = CUPTI_ACTIVITY_KIND_SYNCHRONIZATION;
  to.type = static_cast<CUpti_ActivitySynchronizationType>(from.type);
  to.start = from.start_ns;
  to.end = from.end_ns;
  to.correlationId = from.correlation;
  to.contextId = 1;
  to.streamId = from.type == CuptiSynchronizationRecord::kContext ? CUPTI_SYNCHRONIZATION_INVALID_VALUE : from.stream;
  to.cudaEventId = CUPTI_SYNCHRONIZATION_INVALID_VALUE;
  return to;
}

size_t RecordSize(const CUpti_Activity* record) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER:
      return sizeof(CUpti_ActivityUnifiedMemoryCounter3);
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      return sizeof(CUpti_ActivityKernel10);
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION:
      return sizeof(CUpti_ActivitySynchronization2);
    default:
      return 0;
  }
}

CUptiResult SetKind(CUpti_ActivityKind kind, bool enabled) {
  if (enabled && uvmsim::IsLacking(uvmsim::Lack::kCupti)) return CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
  const CuptiTable* table = Table();
  if (kind == CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER) {
    if (table == nullptr) return CUPTI_ERROR_NOT_INITIALIZED;
    g_memory_enabled = enabled;
    table->enable_memory(enabled ? g_configured.load() : 0);
  } else if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL || kind == CUPTI_ACTIVITY_KIND_KERNEL) {
    g_kernels_enabled = enabled;
    if (table == nullptr) return CUPTI_ERROR_NOT_INITIALIZED;
    table->enable_kernels(enabled);
  } else if (kind == CUPTI_ACTIVITY_KIND_SYNCHRONIZATION) {
    if (table == nullptr) return CUPTI_ERROR_NOT_INITIALIZED;
    Synchronizations().enable(enabled);
  } else if (kind <= CUPTI_ACTIVITY_KIND_INVALID || kind >= CUPTI_ACTIVITY_KIND_COUNT) {
    return CUPTI_ERROR_INVALID_KIND;
  }
  return CUPTI_SUCCESS;
}

}  // namespace

extern "C" {

CUptiResult cuptiGetVersion(uint32_t* version) {
  if (version == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  *version = CUPTI_API_VERSION;
  return CUPTI_SUCCESS;
}

CUptiResult cuptiGetTimestamp(uint64_t* timestamp) {
  if (timestamp == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  *timestamp = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiGetResultString(CUptiResult result, const char** text) {
  if (text == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  switch (result) {
    case CUPTI_SUCCESS:
      *text = "CUPTI_SUCCESS";
      break;
    case CUPTI_ERROR_INVALID_PARAMETER:
      *text = "CUPTI_ERROR_INVALID_PARAMETER";
      break;
    case CUPTI_ERROR_INVALID_OPERATION:
      *text = "CUPTI_ERROR_INVALID_OPERATION";
      break;
    case CUPTI_ERROR_MAX_LIMIT_REACHED:
      *text = "CUPTI_ERROR_MAX_LIMIT_REACHED";
      break;
    case CUPTI_ERROR_NOT_INITIALIZED:
      *text = "CUPTI_ERROR_NOT_INITIALIZED";
      break;
    case CUPTI_ERROR_INVALID_KIND:
      *text = "CUPTI_ERROR_INVALID_KIND";
      break;
    case CUPTI_ERROR_NOT_SUPPORTED:
      *text = "CUPTI_ERROR_NOT_SUPPORTED";
      break;
    default:
      *text = "an error that the simulator does not return";
      break;
  }
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                           CUpti_BuffersCallbackCompleteFunc complete) {
  if (request == nullptr || complete == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  // One pair for the process: who comes last gets everybody's records.
  g_request = request;
  g_complete = complete;
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityConfigureUnifiedMemoryCounter(CUpti_ActivityUnifiedMemoryCounterConfig* config,
                                                       uint32_t count) {
  if (config == nullptr || count == 0) return CUPTI_ERROR_INVALID_PARAMETER;
  if (Table() == nullptr) return CUPTI_ERROR_NOT_INITIALIZED;
  if (g_memory_enabled) return CUPTI_ERROR_INVALID_OPERATION;
  for (uint32_t i = 0; i < count; ++i) {
    const int kind = config[i].kind;
    if (kind <= CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_UNKNOWN ||
        kind >= CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_COUNT) {
      return CUPTI_ERROR_INVALID_PARAMETER;
    }
    const uint32_t bit = 1u << kind;
    if (config[i].enable != 0) {
      g_configured |= bit;
    } else {
      g_configured &= ~bit;
    }
  }
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) { return SetKind(kind, true); }
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) { return SetKind(kind, false); }
CUptiResult cuptiActivityEnableContext(CUcontext, CUpti_ActivityKind kind) { return SetKind(kind, true); }
CUptiResult cuptiActivityDisableContext(CUcontext, CUpti_ActivityKind kind) { return SetKind(kind, false); }

CUptiResult cuptiActivityFlushAll(uint32_t) {
  const CuptiTable* table = Table();
  if (table == nullptr) return CUPTI_ERROR_NOT_INITIALIZED;
  if (g_request == nullptr) return CUPTI_ERROR_INVALID_OPERATION;
  // Up to here and no further: others go on producing while we deliver.
  table->flush_memory();
  Buffer buffer;
  size_t limit = 1 << 20;
  for (;;) {
    CuptiMemoryRecord records[64];
    const size_t count = table->read_memory(records, std::min<size_t>(64, limit));
    for (size_t i = 0; i < count; ++i) buffer.Append(Convert(records[i]));
    limit -= count;
    if (count < 64) break;
  }
  for (;;) {
    CuptiKernelRecord records[64];
    const size_t count = table->read_kernels(records, 64);
    for (size_t i = 0; i < count; ++i) buffer.Append(Convert(records[i]));
    if (count < 64) break;
  }
  for (;;) {
    CuptiSynchronizationRecord records[64];
    const size_t count = Synchronizations().read(records, 64);
    for (size_t i = 0; i < count; ++i) buffer.Append(Convert(records[i]));
    if (count < 64) break;
  }
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityFlush(CUcontext, uint32_t, uint32_t flag) { return cuptiActivityFlushAll(flag); }

// Returns full buffers only, and ours are never kept half full: nothing to do.
CUptiResult cuptiActivityFlushPeriod(uint32_t) { return CUPTI_SUCCESS; }

CUptiResult cuptiActivityGetNextRecord(uint8_t* buffer, size_t valid_bytes, CUpti_Activity** record) {
  if (buffer == nullptr || record == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  uint8_t* next = buffer;
  if (*record != nullptr) {
    const size_t size = RecordSize(*record);
    if (size == 0) return CUPTI_ERROR_INVALID_KIND;
    next = reinterpret_cast<uint8_t*>(*record) + size;
  }
  if (next >= buffer + valid_bytes) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped) {
  if (dropped == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  *dropped = g_dropped.exchange(0);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityGetAttribute(CUpti_ActivityAttribute, size_t* size, void* value) {
  if (size == nullptr || value == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  memset(value, 0, *size);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, size_t* size, void* value) {
  return size == nullptr || value == nullptr ? CUPTI_ERROR_INVALID_PARAMETER : CUPTI_SUCCESS;
}

CUptiResult cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc, void*) {
  if (subscriber == nullptr) return CUPTI_ERROR_INVALID_PARAMETER;
  *subscriber = reinterpret_cast<CUpti_SubscriberHandle>(&g_subscriber);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle) { return CUPTI_SUCCESS; }

CUptiResult cuptiFinalize() {
  if (const CuptiTable* table = Table()) {
    table->enable_memory(0);
    table->enable_kernels(false);
    Synchronizations().enable(false);
  }
  g_memory_enabled = false;
  g_kernels_enabled = false;
  g_configured = 0;
  g_request = nullptr;
  g_complete = nullptr;
  return CUPTI_SUCCESS;
}

CUptiResult cuptiGetLastError() { return CUPTI_SUCCESS; }

}  // extern "C"
