// From CUPTI's activity records to events.
//
// The layout of a record follows the libcupti that is loaded, not the headers that this was built with. A
// unified-memory record has had the same first 64 bytes since CUDA 7.0, a kernel record the same first 112 since
// CUDA 9.0: only these are read, and a field beyond them only when cuptiGetVersion says that it exists.
#pragma once

#include <cstddef>
#include <cstdint>

#include "record/event.h"

namespace uvmtrace {

// First 64 bytes of CUpti_ActivityUnifiedMemoryCounter2 and 3.
struct UnifiedMemoryRecord {
  uint32_t kind;
  uint32_t counter_kind;
  uint64_t value;
  uint64_t start_ns;
  uint64_t end_ns;
  uint64_t address;
  uint32_t source_id;
  uint32_t destination_id;
  uint32_t stream_id;
  uint32_t process_id;
  uint32_t flags;
  uint32_t padding;
  // uint64_t processors[5] follows from version 26 (CUDA 12.8) on.
};
static_assert(sizeof(UnifiedMemoryRecord) == 64);
inline constexpr uint32_t kVersionWithProcessors = 26;
inline constexpr size_t kProcessorWords = 5;

// First 112 bytes of CUpti_ActivityKernel4 to 10, as far as they are read.
struct KernelRecord {
  uint32_t kind;
  uint8_t skipped_1[12];
  uint64_t start_ns;
  uint64_t end_ns;
  uint64_t completed_ns;
  uint32_t device_id;
  uint32_t context_id;
  uint32_t stream_id;
  uint8_t skipped_2[40];
  uint32_t correlation_id;
  uint8_t skipped_3[8];
  const char* name;
};
static_assert(sizeof(KernelRecord) == 112);
// CUDA 12.0: the oldest whose kernel record (CUpti_ActivityKernel8) is known to keep these offsets.
inline constexpr uint32_t kOldestVersionForKernels = 19;

// First 48 bytes of CUpti_ActivityMemcpy to 6.
struct CopyRecord {
  uint32_t kind;
  uint8_t copy_kind;  // CUpti_ActivityMemcpyKind
  uint8_t source_memory;
  uint8_t destination_memory;
  uint8_t flags;  // 1: asynchronous
  uint64_t bytes;
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t device_id;
  uint32_t context_id;
  uint32_t stream_id;
  uint32_t correlation_id;
};
static_assert(sizeof(CopyRecord) == 48);

// First 64 bytes of CUpti_ActivityMemcpyPtoP to 4: between two devices.
struct PeerCopyRecord {
  CopyRecord common;  // without its correlation
  uint32_t source_context_id;
  uint32_t destination_device_id;
  uint32_t destination_context_id;
  uint32_t correlation_id;
};
static_assert(sizeof(PeerCopyRecord) == 64);

// First 52 bytes of CUpti_ActivityMemset to 4, and their padding.
struct SetRecord {
  uint32_t kind;
  uint32_t value;
  uint64_t bytes;
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t device_id;
  uint32_t context_id;
  uint32_t stream_id;
  uint32_t correlation_id;
  uint16_t flags;
  uint16_t memory;
  uint32_t padding;
};
static_assert(sizeof(SetRecord) == 56);

// First 40 bytes of CUpti_ActivitySynchronization and 2.
struct SynchronizationRecord {
  uint32_t kind;
  uint32_t type;
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t correlation_id;
  uint32_t context_id;
  uint32_t stream_id;
  uint32_t event_id;
};
static_assert(sizeof(SynchronizationRecord) == 40);

// CUpti_ActivityAPI, of a call that launches.
struct LaunchRecord {
  uint32_t kind;
  uint32_t callback_id;
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t process_id;
  uint32_t thread_id;
  uint32_t correlation_id;
  uint32_t result;
};
static_assert(sizeof(LaunchRecord) == 40);

// How many records came of each kind, and what could not become an event.
struct ParseCounts {
  uint64_t unified_memory = 0;
  uint64_t kernels = 0;
  uint64_t others = 0;  // copies, memsets, synchronisations and launches
  uint64_t without_time = 0;
  uint64_t unknown_counter = 0;
  uint64_t cut_off = 0;  // the record would reach past the end of its buffer
};

// Turns the record at `record`, of which `available` bytes may be read, into an event of the calling thread. `version`
// is cuptiGetVersion. Records of kinds that we did not ask for belong to another client and are passed over.
void ParseActivityRecord(const uint8_t* record, size_t available, uint32_t version, ParseCounts* counts);

}  // namespace uvmtrace
