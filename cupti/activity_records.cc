// See activity_records.h. What the fields mean: cupti_activity.h, CUpti_ActivityUnifiedMemoryCounter3.
#include "cupti/activity_records.h"

#include <cupti.h>
#include <string.h>

#include <algorithm>
#include <bit>

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
                                    offsetof(KernelRecord, name) == offsetof(Kernel, name);
static_assert(kKernelLayoutHolds<CUpti_ActivityKernel4> && kKernelLayoutHolds<CUpti_ActivityKernel8>);
#if CUPTI_API_VERSION >= 130000
static_assert(kKernelLayoutHolds<CUpti_ActivityKernel9> && kKernelLayoutHolds<CUpti_ActivityKernel10>);
#endif

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
  event.device = DeviceOf(record.device_id);
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
  if (kind == CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER) {
    ParseUnifiedMemory(record, available, version, counts);
  } else if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    ParseKernel(record, available, version, counts);
  }
}

}  // namespace uvmtrace
