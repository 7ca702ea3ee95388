// See activity_records.h. What the fields mean: cupti_activity.h, CUpti_ActivityUnifiedMemoryCounter3.
#include "cupti/activity_records.h"

#include <cupti.h>
#include <string.h>

#include <algorithm>
#include <bit>

#include "cupti/launch_calls.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

static_assert(offsetof(UnifiedMemoryRecord, counter_kind) ==
              offsetof(CUpti_ActivityUnifiedMemoryCounter2, counterKind));
static_assert(offsetof(UnifiedMemoryRecord, value) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, value));
static_assert(offsetof(UnifiedMemoryRecord, start_ns) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, start));
static_assert(offsetof(UnifiedMemoryRecord, end_ns) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, end));
static_assert(offsetof(UnifiedMemoryRecord, address) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, address));
static_assert(offsetof(UnifiedMemoryRecord, source_id) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, srcId));
static_assert(offsetof(UnifiedMemoryRecord, destination_id) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, dstId));
static_assert(offsetof(UnifiedMemoryRecord, flags) == offsetof(CUpti_ActivityUnifiedMemoryCounter2, flags));
static_assert(sizeof(UnifiedMemoryRecord) == sizeof(CUpti_ActivityUnifiedMemoryCounter2));
#if CUPTI_API_VERSION >= 26
static_assert(offsetof(CUpti_ActivityUnifiedMemoryCounter3, processors) == sizeof(UnifiedMemoryRecord));
#endif

template <typename Kernel>
constexpr bool kKernelLayoutHolds = offsetof(KernelRecord, start_ns) == offsetof(Kernel, start) &&
                                    offsetof(KernelRecord, end_ns) == offsetof(Kernel, end) &&
                                    offsetof(KernelRecord, device_id) == offsetof(Kernel, deviceId) &&
                                    offsetof(KernelRecord, stream_id) == offsetof(Kernel, streamId) &&
                                    offsetof(KernelRecord, correlation_id) == offsetof(Kernel, correlationId) &&
                                    offsetof(KernelRecord, name) == offsetof(Kernel, name);
static_assert(kKernelLayoutHolds<CUpti_ActivityKernel4> && kKernelLayoutHolds<CUpti_ActivityKernel8>);
#if CUPTI_API_VERSION >= 130000
static_assert(kKernelLayoutHolds<CUpti_ActivityKernel9> && kKernelLayoutHolds<CUpti_ActivityKernel10>);
#endif

static_assert(offsetof(CopyRecord, flags) == offsetof(CUpti_ActivityMemcpy5, flags) &&
              offsetof(CopyRecord, start_ns) == offsetof(CUpti_ActivityMemcpy5, start) &&
              offsetof(CopyRecord, correlation_id) == offsetof(CUpti_ActivityMemcpy5, correlationId));
static_assert(offsetof(PeerCopyRecord, destination_device_id) == offsetof(CUpti_ActivityMemcpyPtoP4, dstDeviceId) &&
              offsetof(PeerCopyRecord, correlation_id) == offsetof(CUpti_ActivityMemcpyPtoP4, correlationId));
static_assert(offsetof(SetRecord, correlation_id) == offsetof(CUpti_ActivityMemset4, correlationId) &&
              offsetof(SetRecord, memory) == offsetof(CUpti_ActivityMemset4, memoryKind));
static_assert(offsetof(SynchronizationRecord, stream_id) == offsetof(CUpti_ActivitySynchronization2, streamId) &&
              offsetof(SynchronizationRecord, correlation_id) ==
                  offsetof(CUpti_ActivitySynchronization2, correlationId));
static_assert(offsetof(LaunchRecord, thread_id) == offsetof(CUpti_ActivityAPI, threadId) &&
              offsetof(LaunchRecord, correlation_id) == offsetof(CUpti_ActivityAPI, correlationId));

constexpr uint32_t kCpuId = 0xFFFFFFFF;
constexpr uint32_t kCpuTookPart = 1;  // flag bit of thrashing and throttling

int16_t DeviceOf(uint32_t id) {
  if (id == kCpuId) return kCpu;
  return id <= INT16_MAX ? static_cast<int16_t>(id) : static_cast<int16_t>(kUnknownDevice);
}

// A record that was still in progress has no end, or an older one.
uint64_t KnownEnd(uint64_t start_ns, uint64_t end_ns) { return end_ns >= start_ns ? end_ns : 0; }

// The end of the other kinds means nothing.
bool HasEnd(uint32_t counter_kind) {
  return counter_kind != CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT &&
         counter_kind != CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING &&
         counter_kind != CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_REMOTE_MAP;
}

void RecordMigration(const UnifiedMemoryRecord& record) {
  MigrationEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.address = record.address;
  event.bytes = record.value;
  // The counter tells on which side the CPU is. The ids must not: CUPTI 13.0 was seen to leave 0 for the CPU, where its
  // documentation promises 0xFFFFFFFF.
  const bool from_cpu = record.counter_kind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD;
  const bool to_cpu = record.counter_kind == CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH;
  event.source_device = from_cpu ? int16_t{kCpu} : DeviceOf(record.source_id);
  event.destination_device = to_cpu ? int16_t{kCpu} : DeviceOf(record.destination_id);
  event.cause = static_cast<uint8_t>(record.flags);
  Recorder::Get().Record(event);
}

void RecordCpuFault(const UnifiedMemoryRecord& record) {
  CpuFaultEvent event;
  event.start_ns = record.start_ns;
  event.address = record.address;
  event.pc = record.value;  // not a count, whatever the counter's name says
  event.access = static_cast<uint8_t>(record.flags);
  Recorder::Get().Record(event);
}

void RecordGpuFault(const UnifiedMemoryRecord& record) {
  GpuFaultEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.address = record.address;
  event.groups = static_cast<uint32_t>(std::min<uint64_t>(record.value, UINT32_MAX));
  event.device = DeviceOf(record.source_id);
  event.access = static_cast<uint8_t>(record.flags);
  Recorder::Get().Record(event);
}

// The processors that fight for a region come as a bit mask. An event has room for two: the CPU is the destination if
// it takes part, else the second GPU; a GPU that is not the first two is not named.
void RecordThrashing(const UnifiedMemoryRecord& record, const uint64_t* processors) {
  int16_t devices[2] = {static_cast<int16_t>(kUnknownDevice), static_cast<int16_t>(kUnknownDevice)};
  int found = 0;
  for (size_t word = 0; word < kProcessorWords; ++word) {
    for (uint64_t mask = processors[word]; mask != 0 && found < 2; mask &= mask - 1) {
      devices[found++] = static_cast<int16_t>(word * 64 + static_cast<size_t>(std::countr_zero(mask)));
    }
  }
  RegionEvent event;
  event.kind = RegionKind::kThrashing;
  event.start_ns = record.start_ns;
  event.address = record.address;
  event.bytes = record.value;
  event.source_device = devices[0];
  event.destination_device = (record.flags & kCpuTookPart) != 0 ? static_cast<int16_t>(kCpu) : devices[1];
  Recorder::Get().Record(event);
}

void RecordThrottling(const UnifiedMemoryRecord& record) {
  RegionEvent event;
  event.kind = RegionKind::kThrottling;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.address = record.address;
  event.source_device = (record.flags & kCpuTookPart) != 0 ? static_cast<int16_t>(kCpu) : DeviceOf(record.source_id);
  event.destination_device = static_cast<int16_t>(kUnknownDevice);
  Recorder::Get().Record(event);
}

void RecordRemoteMap(const UnifiedMemoryRecord& record) {
  RegionEvent event;
  event.kind = RegionKind::kRemoteMap;
  event.start_ns = record.start_ns;
  event.address = record.address;
  event.bytes = record.value;
  event.source_device = DeviceOf(record.source_id);
  event.destination_device = DeviceOf(record.destination_id);
  event.cause = static_cast<uint8_t>(record.flags);
  Recorder::Get().Record(event);
}

void ParseUnifiedMemory(const uint8_t* bytes, size_t available, uint32_t version, ParseCounts* counts) {
  UnifiedMemoryRecord record;
  if (available < sizeof record) {
    ++counts->cut_off;
    return;
  }
  memcpy(&record, bytes, sizeof record);
  ++counts->unified_memory;
  if (record.start_ns == 0) {
    // It cannot be laid on the trace's time line. Its end, where there is one, is when it was over: good enough.
    if (record.end_ns == 0 || !HasEnd(record.counter_kind)) {
      ++counts->without_time;
      return;
    }
    record.start_ns = record.end_ns;
  }
  switch (record.counter_kind) {
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD:
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH:
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOD:
      return RecordMigration(record);
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT:
      return RecordCpuFault(record);
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT:
      return RecordGpuFault(record);
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING: {
      uint64_t processors[kProcessorWords] = {record.source_id};
      if (version >= kVersionWithProcessors && available >= sizeof record + sizeof processors) {
        memcpy(processors, bytes + sizeof record, sizeof processors);
      }
      return RecordThrashing(record, processors);
    }
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THROTTLING:
      return RecordThrottling(record);
    case CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_REMOTE_MAP:
      return RecordRemoteMap(record);
    default:
      ++counts->unknown_counter;
  }
}

void ParseKernel(const uint8_t* bytes, size_t available, uint32_t version, ParseCounts* counts) {
  if (version < kOldestVersionForKernels) return;  // we did not ask for it: another client's
  KernelRecord record;
  if (available < sizeof record) {
    ++counts->cut_off;
    return;
  }
  memcpy(&record, bytes, sizeof record);
  ++counts->kernels;
  if (record.start_ns == 0) {  // CUPTI had no memory for its times, or 12.6 U2 to 13.0 under a timestamp callback
    ++counts->without_time;
    return;
  }
  KernelEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.stream = record.stream_id;
  event.name = record.name == nullptr ? 0 : Recorder::Get().InternString(record.name);
  event.correlation = record.correlation_id;
  event.device = DeviceOf(record.device_id);
  Recorder::Get().Record(event);
}

// Copies the record out of its buffer and counts it. False: it is cut off, or has no time.
template <typename Record>
bool Take(const uint8_t* bytes, size_t available, Record* record, ParseCounts* counts) {
  if (available < sizeof *record) {
    ++counts->cut_off;
    return false;
  }
  memcpy(record, bytes, sizeof *record);
  ++counts->others;
  return true;
}

bool HasTime(uint64_t start_ns, ParseCounts* counts) {
  if (start_ns != 0) return true;
  ++counts->without_time;
  return false;
}

CopyKind CopyKindOf(uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOA:
      return CopyKind::kHostToDevice;
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
    case CUPTI_ACTIVITY_MEMCPY_KIND_ATOH:
      return CopyKind::kDeviceToHost;
    case CUPTI_ACTIVITY_MEMCPY_KIND_ATOA:
    case CUPTI_ACTIVITY_MEMCPY_KIND_ATOD:
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOA:
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return CopyKind::kDeviceToDevice;
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOH:
      return CopyKind::kHostToHost;
    case CUPTI_ACTIVITY_MEMCPY_KIND_PTOP:
      return CopyKind::kPeer;
    default:
      return CopyKind::kUnknown;
  }
}

CopyMemory CopyMemoryOf(uint32_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE:
      return CopyMemory::kPageable;
    case CUPTI_ACTIVITY_MEMORY_KIND_PINNED:
      return CopyMemory::kPinned;
    case CUPTI_ACTIVITY_MEMORY_KIND_DEVICE:
    case CUPTI_ACTIVITY_MEMORY_KIND_DEVICE_STATIC:
      return CopyMemory::kDevice;
    case CUPTI_ACTIVITY_MEMORY_KIND_ARRAY:
      return CopyMemory::kArray;
    case CUPTI_ACTIVITY_MEMORY_KIND_MANAGED:
    case CUPTI_ACTIVITY_MEMORY_KIND_MANAGED_STATIC:
      return CopyMemory::kManaged;
    default:
      return CopyMemory::kUnknown;
  }
}

void RecordCopy(const CopyRecord& record, CopyKind kind, uint32_t correlation, ParseCounts* counts) {
  if (!HasTime(record.start_ns, counts)) return;
  CopyEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.bytes = record.bytes;
  event.stream = record.stream_id;
  event.correlation = correlation;
  event.device = DeviceOf(record.device_id);
  event.kind = kind;
  event.source_memory = CopyMemoryOf(record.source_memory);
  event.destination_memory = CopyMemoryOf(record.destination_memory);
  event.asynchronous = (record.flags & CUPTI_ACTIVITY_FLAG_MEMCPY_ASYNC) != 0;
  Recorder::Get().Record(event);
}

void ParseCopy(const uint8_t* bytes, size_t available, ParseCounts* counts) {
  CopyRecord record;
  if (!Take(bytes, available, &record, counts)) return;
  RecordCopy(record, CopyKindOf(record.copy_kind), record.correlation_id, counts);
}

void ParsePeerCopy(const uint8_t* bytes, size_t available, ParseCounts* counts) {
  PeerCopyRecord record;
  if (!Take(bytes, available, &record, counts)) return;
  RecordCopy(record.common, CopyKind::kPeer, record.correlation_id, counts);
}

void ParseSet(const uint8_t* bytes, size_t available, ParseCounts* counts) {
  SetRecord record;
  if (!Take(bytes, available, &record, counts) || !HasTime(record.start_ns, counts)) return;
  CopyEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.bytes = record.bytes;
  event.stream = record.stream_id;
  event.correlation = record.correlation_id;
  event.device = DeviceOf(record.device_id);
  event.kind = CopyKind::kSet;
  event.destination_memory = CopyMemoryOf(record.memory);
  event.asynchronous = (record.flags & CUPTI_ACTIVITY_FLAG_MEMSET_ASYNC) != 0;
  Recorder::Get().Record(event);
}

void ParseSynchronization(const uint8_t* bytes, size_t available, ParseCounts* counts) {
  SynchronizationRecord record;
  if (!Take(bytes, available, &record, counts) || !HasTime(record.start_ns, counts)) return;
  static_assert(
      CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_EVENT_SYNCHRONIZE == static_cast<int>(SynchronizationKind::kEvent) &&
      CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_WAIT_EVENT == static_cast<int>(SynchronizationKind::kStreamWait) &&
      CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_SYNCHRONIZE == static_cast<int>(SynchronizationKind::kStream) &&
      CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_CONTEXT_SYNCHRONIZE == static_cast<int>(SynchronizationKind::kContext));
  SynchronizationEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.stream = record.stream_id == CUPTI_SYNCHRONIZATION_INVALID_VALUE ? 0 : record.stream_id;
  event.correlation = record.correlation_id;
  if (record.type <= static_cast<uint32_t>(SynchronizationKind::kContext)) {
    event.kind = static_cast<SynchronizationKind>(record.type);
  }
  Recorder::Get().Record(event);
}

void ParseLaunch(const uint8_t* bytes, size_t available, ParseCounts* counts) {
  // Another client may have asked for all calls.
  uint32_t head[2];
  if (available < sizeof head) return;
  memcpy(head, bytes, sizeof head);
  if (!IsLaunch(static_cast<CUpti_ActivityKind>(head[0]), head[1])) return;
  LaunchRecord record;
  if (!Take(bytes, available, &record, counts) || !HasTime(record.start_ns, counts)) return;
  LaunchEvent event;
  event.start_ns = record.start_ns;
  event.end_ns = KnownEnd(record.start_ns, record.end_ns);
  event.tid = record.thread_id;
  event.correlation = record.correlation_id;
  Recorder::Get().Record(event);
}

}  // namespace

void ParseActivityRecord(const uint8_t* record, size_t available, uint32_t version, ParseCounts* counts) {
  uint32_t kind;
  if (available < sizeof kind) {
    ++counts->cut_off;
    return;
  }
  memcpy(&kind, record, sizeof kind);
  switch (kind) {
    case CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER:
      return ParseUnifiedMemory(record, available, version, counts);
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      return ParseKernel(record, available, version, counts);
    default:
      break;
  }
  if (version < kOldestVersionForKernels) return;
  switch (kind) {
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return ParseCopy(record, available, counts);
    case CUPTI_ACTIVITY_KIND_MEMCPY2:
      return ParsePeerCopy(record, available, counts);
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return ParseSet(record, available, counts);
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION:
      return ParseSynchronization(record, available, counts);
    case CUPTI_ACTIVITY_KIND_DRIVER:
    case CUPTI_ACTIVITY_KIND_RUNTIME:
      return ParseLaunch(record, available, counts);
    default:
      break;
  }
}

}  // namespace uvmtrace
