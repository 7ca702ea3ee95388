// The binary interface of /dev/nvidia-uvm-tools, as far as it is used: numbers, arguments, the layout of the queue.
//
// A "tracker" is an open descriptor of the device that was bound to one address space of the driver (a descriptor of
// /dev/nvidia-uvm that this process holds). It is either a page of counters or a ring of events; the driver pins our
// memory and writes into it. Two arguments differ between the driver's branches: use tools_requests.h, which knows how.
// Source: uvm_ioctl.h, uvm_types.h and uvm_tools.c of NVIDIA/open-gpu-kernel-modules; scripts/check_driver_abi
// compares.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

// On a descriptor of the tools device.
inline constexpr unsigned long kToolsInitEventTracker = 56;
inline constexpr unsigned long kToolsSetNotificationThreshold = 57;
inline constexpr unsigned long kToolsEnableEvents = 58;
inline constexpr unsigned long kToolsDisableEvents = 59;
inline constexpr unsigned long kToolsEnableCounters = 60;
// On a descriptor of the address space.
inline constexpr unsigned long kToolsGetProcessorTable = 64;
inline constexpr unsigned long kToolsFlushEvents = 67;
inline constexpr unsigned long kMigrate = 51;  // libcuda's, for each prefetch

// Begins the argument of kMigrate.
struct MigrateArgument {
  uint64_t address = 0;
  uint64_t bytes = 0;  // 0: nothing moves
  uint8_t destination[16] = {};
};
static_assert(sizeof(MigrateArgument) == 32);
// NV_PROCESSOR_UUID_CPU_DEFAULT
inline constexpr uint8_t kCpuUuid[16] = {0xa6, 0x5e, 0x0f, 0x4e, 0xd7, 0xd4, 0x7b, 0xa2,
                                         0x50, 0x47, 0x41, 0x2c, 0x14, 0x2a, 0x77, 0x73};

// Argument of kToolsInitEventTracker.
struct ToolsTracker {
  uint64_t queue = 0;
  uint64_t queue_entries = 0;  // a power of two; 0: a counters tracker
  uint64_t control = 0;        // ToolsControl, or the page of counters
  uint8_t processor[16] = {};  // counters: of this GPU, unless all_processors
  uint32_t all_processors = 0;
  uint32_t va_space_descriptor = 0;
  uint32_t status_or_version = 0;  // see InitTracker
  uint32_t version_or_status = 0;
  uint8_t room[72] = {};  // a driver whose argument is longer than 56 bytes copies all of its own back
};
static_assert(sizeof(ToolsTracker) == 128);

// Argument of kToolsEnableCounters, kToolsEnableEvents and kToolsDisableEvents.
struct ToolsFlags {
  uint64_t flags = 0;
  uint32_t status = 0;  // out
  uint32_t padding = 0;
};
static_assert(sizeof(ToolsFlags) == 16);

struct ToolsThreshold {
  uint32_t entries = 0;  // a poll of the descriptor returns when so many wait
  uint32_t status = 0;   // out
};

// The driver writes the UUIDs of its processors, the CPU first.
struct ToolsProcessorTable {
  uint64_t table = 0;
  uint32_t count_version_or_status = 0;  // see ReadProcessorUuids
  uint32_t status = 0;                   // out
  uint32_t version = 0;                  // out
  uint32_t padding[9] = {};
};
static_assert(sizeof(ToolsProcessorTable) == 56);
inline constexpr size_t kToolsProcessors = 256;  // an entry names a processor by 8 bits; 0 is the CPU

struct ToolsFlush {
  uint32_t status = 0;  // out
  uint32_t padding = 0;
};

// Words of the page of counters, and their bits.
enum ToolsCounterIndex : size_t {
  kHostToDeviceBytesIndex = 0,
  kDeviceToHostBytesIndex = 1,
  kCpuFaultsIndex = 2,
  kGpuFaultsIndex = 9,
  kToolsCounterCount = 10,
};
// Bytes each way, CPU faults, prefetched bytes each way, GPU faults.
inline constexpr uint64_t kToolsCounterFlags = 0x1 | 0x2 | 0x4 | 0x80 | 0x100 | 0x200;

// Shared with the driver, which writes put and dropped, masks what it reads from us, and leaves one entry free.
struct ToolsControl {
  uint32_t get_ahead = 0;
  uint32_t get_behind = 0;
  uint32_t put_ahead = 0;
  uint32_t put_behind = 0;
  uint64_t dropped[64] = {};  // by event type: the ring was full
};
static_assert(sizeof(ToolsControl) == 528);

enum class ToolsEvent : uint8_t {
  kCpuFault = 1,
  kMigration = 2,
  kGpuFault = 3,
  kReplay = 4,
  kFaultBufferOverflow = 5,  // no driver sends it
  kFatalFault = 6,
  kReadDuplicate = 7,            // one for each page
  kReadDuplicateInvalidate = 8,  // one for each page
  kPageSizeChange = 9,           // no driver sends it
  kThrashing = 10,
  kThrottlingStart = 11,
  kThrottlingEnd = 12,
  kRemoteMap = 13,
  kEviction = 14,  // no driver sends it: an eviction is a migration with that cause
};
inline constexpr int kToolsEventCount = 15;
constexpr uint64_t ToolsBit(ToolsEvent event) { return uint64_t{1} << static_cast<int>(event); }

// An entry of the ring. Byte 0 is the type; what follows depends on it. Times are CLOCK_MONOTONIC_RAW, those that end
// in _gpu_ns the GPU's own clock.
inline constexpr size_t kToolsEntryBytes = 64;

struct ToolsCpuFaultEntry {
  uint8_t type, access;
  uint8_t padding[6];
  uint64_t address;
  uint64_t time_ns;
  uint32_t pid;
  uint32_t tid;
  uint64_t pc;
};
struct ToolsMigrationEntry {
  uint8_t type, cause, source, destination;
  uint8_t padding[4];
  uint64_t address;
  uint64_t bytes;
  uint64_t begin_ns;  // queued on the GPU
  uint64_t end_ns;    // the driver noticed that it was over; 0: asynchronous
  uint64_t range_group;
  uint64_t begin_gpu_ns;
  uint64_t end_gpu_ns;
};
struct ToolsGpuFaultEntry {
  uint8_t type, fault_type, access, gpu;
  uint16_t gpc;  // of a non-replayable fault: the channel
  uint16_t client;
  uint64_t address;
  uint64_t time_ns;  // the driver began to process it
  uint64_t time_gpu_ns;
  uint32_t batch;
  uint8_t client_type;
  uint8_t padding[3];
};
struct ToolsReplayEntry {
  uint8_t type, gpu, client_type, padding;
  uint32_t batch;
  uint64_t time_ns;  // queued on the GPU
  uint64_t time_gpu_ns;
};
struct ToolsFatalFaultEntry {
  uint8_t type, fault_type, access, processor, reason;
  uint8_t padding[3];
  uint64_t address;
  uint64_t time_ns;
};
// Read duplication and thrashing: the processors that have a copy, or fight.
struct ToolsMaskEntry {
  uint8_t type;
  uint8_t padding[7];
  uint64_t processors;
  uint64_t address;
  uint64_t bytes;
  uint64_t time_ns;
};
struct ToolsInvalidateEntry {
  uint8_t type, resident;
  uint8_t padding[6];
  uint64_t address;
  uint64_t bytes;
  uint64_t time_ns;
};
struct ToolsThrottlingEntry {
  uint8_t type, processor;
  uint8_t padding[6];
  uint64_t address;
  uint64_t time_ns;
};
struct ToolsRemoteMapEntry {
  uint8_t type, source, destination, cause;  // `source` is being mapped, `destination` has the memory
  uint8_t padding[4];
  uint64_t address;
  uint64_t bytes;
  uint64_t time_ns;
  uint64_t time_gpu_ns;
};
static_assert(sizeof(ToolsMigrationEntry) == kToolsEntryBytes);
static_assert(sizeof(ToolsCpuFaultEntry) == 40 && sizeof(ToolsGpuFaultEntry) == 40 && sizeof(ToolsReplayEntry) == 24);
static_assert(sizeof(ToolsFatalFaultEntry) == 24 && sizeof(ToolsMaskEntry) == 40 && sizeof(ToolsInvalidateEntry) == 32);
static_assert(sizeof(ToolsThrottlingEntry) == 24 && sizeof(ToolsRemoteMapEntry) == 40);
static_assert(offsetof(ToolsGpuFaultEntry, batch) == 32 && offsetof(ToolsGpuFaultEntry, client_type) == 36);
static_assert(offsetof(ToolsFatalFaultEntry, address) == 8);

// What is asked of the kernel; the simulator and tests play the driver with their own.
struct ToolsCalls {
  int (*open_device)();                                              // a descriptor, or -1 with errno
  size_t (*find_va_spaces)(int* descriptors, size_t capacity);       // this process's descriptors of /dev/nvidia-uvm
  int (*control)(int descriptor, unsigned long number, void* data);  // ioctl
  // The driver's version as text, "560.35.03"; 0 if it is not known. May be null.
  size_t (*driver_version)(char* text, size_t size);
};
extern const ToolsCalls kKernelTools;

// A CUDA device as the driver knows it. Its place in a list is its ordinal.
struct DeviceUuid {
  uint8_t bytes[16] = {};
};
inline constexpr size_t kMaxDevices = 32;

}  // namespace uvmtrace
