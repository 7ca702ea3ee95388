// The binary interface of /dev/nvidia-uvm-tools, as the simulated driver speaks it: ioctl numbers, arguments, the
// 64-byte queue entries ("V1") and the control page.
//
// Facts of uvm_ioctl.h, uvm_types.h and uvm_tools.c in NVIDIA/open-gpu-kernel-modules. The simulator plays a driver of
// 565 or later; docs/driver_branches.md tells how earlier ones differ. The definitions are the simulator's own, and not
// those of the profiler, so that a mistake in one of them shows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmsim {

// --- ioctl numbers; those without a note go to a descriptor of /dev/nvidia-uvm-tools ---
enum ToolsCommand : unsigned long {
  kInitEventTracker = 56,
  kSetNotificationThreshold = 57,
  kEnableEvents = 58,
  kDisableEvents = 59,
  kEnableCounters = 60,
  kDisableCounters = 61,
  kGetProcessorUuidTable = 64,  // a descriptor of /dev/nvidia-uvm
  kFlushEvents = 67,            // a descriptor of /dev/nvidia-uvm
  kInitEventTrackerV2 = 76,     // 72-byte entries, which the simulator does not have
};

// NV_STATUS, in the `status` of every argument; the ioctl itself then returns 0.
enum ToolsStatus : uint32_t {
  kStatusOk = 0x00,
  kStatusInsufficientPermissions = 0x1b,
  kStatusInvalidAddress = 0x1e,
  kStatusInvalidArgument = 0x1f,
  kStatusNoMemory = 0x51,
  kStatusNotSupported = 0x56,
};

// --- arguments ---
struct InitEventTrackerArgument {
  uint64_t queue;          // page-aligned memory of the caller, of queue_entries * 64 bytes
  uint64_t queue_entries;  // a power of two, at least 2; 0: a counters tracker
  uint64_t control;        // page-aligned: ToolsControl, or kToolsCounters words of counters
  uint8_t processor[16];   // counters of this processor alone
  uint32_t all_processors;
  uint32_t va_space_descriptor;
  uint32_t status;
};
static_assert(offsetof(InitEventTrackerArgument, status) == 48);
struct ThresholdArgument {
  uint32_t threshold;
  uint32_t status;
};
struct FlagsArgument {
  uint64_t flags;
  uint32_t status;
};
struct UuidTableArgument {
  uint64_t table;  // kToolsProcessors uuids of 16 bytes
  uint32_t status;
};
struct FlushArgument {
  uint32_t status;
};

inline constexpr uint32_t kToolsProcessors = 33;  // the CPU, and 32 GPUs by their number in "UVM GPU1 BH"
inline constexpr uint8_t kToolsCpu = 0;

// --- counters: flag 1 << index, value at index ---
enum ToolsCounter : uint32_t {
  kCounterHostToDeviceBytes = 0,
  kCounterDeviceToHostBytes = 1,
  kCounterCpuFaults = 2,
  // 7 and 8, prefetched bytes each way, can be enabled; the driver never counts them.
  kCounterGpuFaults = 9,
  kToolsCounters = 10,
};

// --- the event queue ---
enum ToolsEventType : uint8_t {
  kToolsCpuFault = 1,
  kToolsMigration = 2,
  kToolsGpuFault = 3,
  kToolsGpuFaultReplay = 4,
  kToolsFatalFault = 6,
  kToolsReadDuplicate = 7,
  kToolsReadDuplicateInvalidate = 8,
  kToolsThrashing = 10,
  kToolsThrottlingStart = 11,
  kToolsThrottlingEnd = 12,
  kToolsMapRemote = 13,
  kToolsEviction = 14,  // the last one that can be enabled
};
// Types 1 to 14. Any other bit is refused.
inline constexpr uint64_t kToolsValidEvents = ((uint64_t{1} << (kToolsEviction + 1)) - 1) & ~uint64_t{1};

struct ToolsControl {
  uint32_t get_ahead;   // the reader's: where it reads
  uint32_t get_behind;  // the reader's: what is before it may be overwritten
  uint32_t put_ahead;   // the driver's; both are the same whenever the driver is not at work
  uint32_t put_behind;
  uint64_t dropped[64];  // by event type
};
static_assert(sizeof(ToolsControl) == 528);

inline constexpr uint8_t kFaultInvalidPte = 2;
inline constexpr uint8_t kClientGpc = 1;  // a replayable fault
inline constexpr uint8_t kFatalInvalidAddress = 1;

struct CpuFaultEntry {
  uint8_t type, access;
  uint16_t padding;
  uint32_t cpu;
  uint64_t address, time;
  uint32_t process, thread;
  uint64_t program_counter;
};
static_assert(offsetof(CpuFaultEntry, program_counter) == 32);
struct MigrationEntry {
  uint8_t type, cause, source, destination;
  uint32_t padding;
  uint64_t address, bytes;
  uint64_t begin, end;
  uint64_t range_group;
  uint64_t gpu_begin, gpu_end;
};
static_assert(sizeof(MigrationEntry) == 64);
struct GpuFaultEntry {
  uint8_t type, fault, access, gpu;
  uint16_t gpc, client;
  uint64_t address, time, gpu_time;
  uint32_t batch;
  uint8_t client_type, padding[3];
};
static_assert(offsetof(GpuFaultEntry, client_type) == 36);
struct ReplayEntry {
  uint8_t type, gpu, client_type, padding;
  uint32_t batch;
  uint64_t time, gpu_time;
};
static_assert(sizeof(ReplayEntry) == 24);
struct FatalFaultEntry {
  uint8_t type, fault, access, processor, reason, padding[3];
  uint64_t address, time;
};
static_assert(sizeof(FatalFaultEntry) == 24);
struct ReadDuplicateEntry {
  uint8_t type, padding[7];
  uint64_t processors;  // bit n: processor n has a copy
  uint64_t address, bytes, time;
};
static_assert(sizeof(ReadDuplicateEntry) == 40);
struct ReadDuplicateInvalidateEntry {
  uint8_t type, resident, padding[6];
  uint64_t address, bytes, time;
};
static_assert(sizeof(ReadDuplicateInvalidateEntry) == 32);
using ThrashingEntry = ReadDuplicateEntry;  // `processors` fight for the pages
struct ThrottlingEntry {
  uint8_t type, processor, padding[6];
  uint64_t address, time;
};
static_assert(sizeof(ThrottlingEntry) == 24);
struct MapRemoteEntry {
  uint8_t type;
  uint8_t processor;  // who maps
  uint8_t memory;     // what it maps
  uint8_t cause;
  uint32_t padding;
  uint64_t address, bytes, time, gpu_time;
};
static_assert(sizeof(MapRemoteEntry) == 40);

union ToolsEntry {
  uint8_t type;
  CpuFaultEntry cpu_fault;
  MigrationEntry migration;
  GpuFaultEntry gpu_fault;
  ReplayEntry replay;
  FatalFaultEntry fatal_fault;
  ReadDuplicateEntry read_duplicate;
  ReadDuplicateInvalidateEntry read_duplicate_invalidate;
  ThrashingEntry thrashing;
  ThrottlingEntry throttling;
  MapRemoteEntry map_remote;
  uint8_t bytes[64];
};
static_assert(sizeof(ToolsEntry) == 64);

}  // namespace uvmsim
