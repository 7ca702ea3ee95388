// What the recorder's threads hand to the writer: plain words, copied once.
//
// The host program's threads and the sources (CUPTI, the driver) fill one of these structs and push it into their ring;
// the writer thread turns them into the columns of proto/uvmtrace.proto, whose comments say what each field means.
// Fields are ordered so that no struct has padding that would be copied for nothing.
#pragma once

#include <cstdint>

#include "proto/schema.h"

namespace uvmtrace {

// The kinds of proto/events.inc, in its order. A ring holds these numbers, the file does not.
enum class EventType : uint8_t {
  kFiller,
#define EVENT(kind, message, rows, number, clocked) k##kind,
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"
  kEnd
};
inline constexpr int kEventTypeCount = static_cast<int>(EventType::kEnd);

inline constexpr int32_t kCpu = -1;  // as a device
inline constexpr int32_t kUnknownDevice = -2;
inline constexpr int32_t kHostNodeOfThread = -3;
inline constexpr int32_t kFirstHostNode = -16;  // NUMA node n of the host is -16 - n

// The call's stack follows as the event's tail, innermost first: return addresses, and then `python_frames` words of
// PythonFrame.
struct ApiCallEvent {
  static constexpr EventType kType = EventType::kApiCall;
  uint64_t start_ns = 0;
  uint64_t duration_ns = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t other_address = 0;
  uint64_t flags = 0;
  uint64_t stream = 0;
  int32_t location = 0;
  int32_t result = 0;
  uint32_t tid = 0;
  uint16_t function = 0;
  uint16_t driver_function = 0;
  MemoryKind memory_kind = MemoryKind::kUnknown;
  Door door = Door::kUnknown;
  uint8_t python_frames = 0;
  uint8_t reserved[5] = {};
};
static_assert(sizeof(ApiCallEvent) == 80);

// A frame of a Python stack as one word. `code` is from Recorder::DefineCode.
constexpr uint64_t PythonFrame(uint32_t code, uint32_t line) { return uint64_t{code} << 32 | line; }
constexpr uint32_t PythonFrameCode(uint64_t frame) { return static_cast<uint32_t>(frame >> 32); }
constexpr uint32_t PythonFrameLine(uint64_t frame) { return static_cast<uint32_t>(frame); }

struct GpuFaultEvent {
  static constexpr EventType kType = EventType::kGpuFault;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;  // 0 or before the start: not known
  uint64_t address = 0;
  uint32_t groups = 0;  // CUPTI
  uint32_t batch = 0;   // driver queue, as all that follows `source`
  int16_t device = 0;
  uint8_t access = 0;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t fault_type = 0;
  uint8_t client_type = 0;
  uint8_t reserved[1] = {};
  uint16_t gpc = 0;
  uint16_t client = 0;
  uint8_t more_reserved[4] = {};
};
static_assert(sizeof(GpuFaultEvent) == 48);

struct ReplayEvent {
  static constexpr EventType kType = EventType::kReplay;
  uint64_t time_ns = 0;
  uint32_t batch = 0;
  int16_t device = 0;
  uint8_t client_type = 0;
  TimeBase clock = TimeBase::kMonotonicRaw;
  EventSource source = EventSource::kDriverQueue;
  uint8_t reserved[7] = {};
};
static_assert(sizeof(ReplayEvent) == 24);

struct CpuFaultEvent {
  static constexpr EventType kType = EventType::kCpuFault;
  uint64_t start_ns = 0;
  uint64_t address = 0;
  uint64_t pc = 0;
  uint32_t tid = 0;
  uint8_t access = 0;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t reserved[1] = {};
};
static_assert(sizeof(CpuFaultEvent) == 32);

struct MigrationEvent {
  static constexpr EventType kType = EventType::kMigration;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  int16_t source_device = 0;
  int16_t destination_device = 0;
  uint8_t cause = 0;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t reserved[1] = {};
};
static_assert(sizeof(MigrationEvent) == 40);

struct RegionEvent {
  static constexpr EventType kType = EventType::kRegion;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  int16_t source_device = 0;
  int16_t destination_device = 0;
  uint8_t cause = 0;
  RegionKind kind = RegionKind::kUnknown;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
};
static_assert(sizeof(RegionEvent) == 40);

struct KernelEvent {
  static constexpr EventType kType = EventType::kKernel;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t stream = 0;
  uint32_t name = 0;  // Recorder::InternString
  uint32_t correlation = 0;
  int16_t device = 0;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t reserved[4] = {};
};
static_assert(sizeof(KernelEvent) == 40);

struct MigrateCallEvent {
  static constexpr EventType kType = EventType::kMigrateCall;
  uint64_t start_ns = 0;
  uint64_t duration_ns = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t tid = 0;
  int16_t destination_device = 0;
  uint8_t reserved[2] = {};
};
static_assert(sizeof(MigrateCallEvent) == 40);

struct CopyEvent {
  static constexpr EventType kType = EventType::kCopy;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t bytes = 0;
  uint64_t stream = 0;
  uint32_t correlation = 0;
  int16_t device = 0;
  CopyKind kind = CopyKind::kUnknown;
  CopyMemory source_memory = CopyMemory::kUnknown;
  CopyMemory destination_memory = CopyMemory::kUnknown;
  bool asynchronous = false;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t reserved[4] = {};
};
static_assert(sizeof(CopyEvent) == 48);

struct SynchronizationEvent {
  static constexpr EventType kType = EventType::kSynchronization;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t stream = 0;
  uint32_t correlation = 0;
  SynchronizationKind kind = SynchronizationKind::kUnknown;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t reserved[1] = {};
};
static_assert(sizeof(SynchronizationEvent) == 32);

struct LaunchEvent {
  static constexpr EventType kType = EventType::kLaunch;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint32_t tid = 0;
  uint32_t correlation = 0;
  TimeBase clock = TimeBase::kCupti;
  EventSource source = EventSource::kCupti;
  uint8_t reserved[6] = {};
};
static_assert(sizeof(LaunchEvent) == 32);

// A name that is not registered follows as the event's tail: `name_bytes` bytes of UTF-8, padded with zeros. The writer
// interns it, because the host's thread should not.
struct AnnotationEvent {
  static constexpr EventType kType = EventType::kAnnotation;
  uint64_t time_ns = 0;
  uint64_t range = 0;
  uint32_t tid = 0;
  uint32_t name = 0;    // Recorder::InternString
  uint32_t domain = 0;  // the same
  uint16_t name_bytes = 0;
  AnnotationKind kind = AnnotationKind::kUnknown;
  uint8_t reserved[1] = {};
};
static_assert(sizeof(AnnotationEvent) == 32);

struct DeviceMemorySampleEvent {
  static constexpr EventType kType = EventType::kDeviceMemorySample;
  uint64_t time_ns = 0;
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t device = 0;
};

// 0: not known. A group without a limit has none of its two.
struct HostMemory {
  uint64_t resident_bytes = 0;
  uint64_t file_bytes = 0;
  uint64_t locked_bytes = 0;
  uint64_t pinned_bytes = 0;
  uint64_t available_bytes = 0;
  uint64_t group_limit_bytes = 0;
  uint64_t group_used_bytes = 0;
};

struct HostMemorySampleEvent {
  static constexpr EventType kType = EventType::kHostMemorySample;
  uint64_t time_ns = 0;
  HostMemory memory;
};

struct LinkSampleEvent {
  static constexpr EventType kType = EventType::kLinkSample;
  uint64_t time_ns = 0;
  uint64_t received_bytes = 0;
  uint64_t sent_bytes = 0;
  uint64_t unsure_ns = 0;
  uint64_t device = 0;
};

struct AllocationFailureEvent {
  static constexpr EventType kType = EventType::kAllocationFailure;
  uint64_t start_ns = 0;
  uint64_t bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t pool_reserved_bytes = 0;
  uint64_t pool_used_bytes = 0;
  uint64_t lock_limit_bytes = 0;
  uint64_t address_limit_bytes = 0;
  HostMemory memory;
  uint32_t tid = 0;
  int32_t result = 0;
  int16_t device = static_cast<int16_t>(kUnknownDevice);
  uint16_t function = 0;
  uint8_t reserved[4] = {};
};
static_assert(sizeof(AllocationFailureEvent) == 136);

struct ThreadSampleEvent {
  static constexpr EventType kType = EventType::kThreadSample;
  uint64_t time_ns = 0;
  uint64_t cpu_ns = 0;
  uint64_t wait_ns = 0;
  uint64_t kernel_thread = 0;  // Recorder::DefineKernelThread
};

struct ProcessSampleEvent {
  static constexpr EventType kType = EventType::kProcessSample;
  uint64_t time_ns = 0;
  uint64_t user_ns = 0;
  uint64_t system_ns = 0;
  uint64_t tool_ns = 0;
};

// The driver's own counters of this process, cumulative since they were opened.
struct CounterSampleEvent {
  static constexpr EventType kType = EventType::kCounterSample;
  uint64_t time_ns = 0;
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t cpu_faults = 0;
  uint64_t gpu_faults = 0;
  uint64_t processor = 0;  // 0: all of the process; n: what CUDA device n - 1 took part in
};

// Migrations were recorded between the two instants, at a detail that otherwise records none.
struct MigrationWindowEvent {
  static constexpr EventType kType = EventType::kMigrationWindow;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
};

// What uvmtrace itself cost so far.
struct ToolSampleEvent {
  static constexpr EventType kType = EventType::kToolSample;
  uint64_t time_ns = 0;
  uint64_t calls_ns = 0;
  uint64_t start_ns = 0;
  uint64_t writer_ns = 0;
  uint64_t cupti_ns = 0;
  uint64_t queue_ns = 0;
  uint64_t sampler_ns = 0;
  uint64_t profiler_ns = 0;
  uint64_t bytes_written = 0;
};

struct BottomHalfSampleEvent {
  static constexpr EventType kType = EventType::kBottomHalfSample;
  uint64_t time_ns = 0;
  uint64_t weight_ns = 0;
  uint32_t kernel_thread = 0;  // Recorder::DefineKernelThread
  uint32_t kernel_stack = 0;   // Recorder::DefineKernelStack
};

struct ClockSampleEvent {
  static constexpr EventType kType = EventType::kClockSample;
  uint64_t monotonic_ns = 0;
  uint64_t realtime_ns = 0;
  uint64_t monotonic_raw_ns = 0;
  uint64_t cupti_ns = 0;  // 0: not read
};

}  // namespace uvmtrace
