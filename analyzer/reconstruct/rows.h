// What the reconstruction is told, and what it tells: plain rows. All times are nanoseconds of CLOCK_MONOTONIC.
//
// It depends on no other part of the analyzer, so that a test or another tool can feed it.
#pragma once

#include <cstdint>

#include "uvm_model/block.h"
#include "uvm_model/outcome.h"

namespace uvmtrace::reconstruct {

using uvm_model::kCpu;
using uvm_model::MigrationCause;

inline bool IsDevice(int32_t processor) { return processor >= 0 && processor < uvm_model::kMaxDevices; }

// One entry of a GPU's fault buffer.
struct GpuFault {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  uint32_t batch = 0;
  int32_t device = 0;
  bool write = false;  // or an atomic
};

// The end of a batch, or of a part of it.
struct Replay {
  uint64_t time_ns = 0;
  uint32_t batch = 0;
  int32_t device = 0;
};

struct CpuFault {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  uint32_t tid = 0;
  bool write = false;
};

enum class RareEventKind : uint8_t {
  kThrashing,   // the page begins to thrash
  kThrottling,  // `processor` must not fault on the page while it lasts
  kPinned,      // the page is mapped where it is, at `processor`, because it thrashed
};

struct RareEvent {
  uint64_t time_ns = 0;
  uint64_t duration_ns = 0;
  uint64_t address = 0;
  RareEventKind kind = RareEventKind::kThrashing;
  int32_t processor = kCpu;
};

enum class CallKind : uint8_t {
  kAllocate,  // managed memory
  kVariable,  // a __managed__ variable, which the loader wrote on the host
  kFree,
  kPrefetch,  // to `processor`
  kAdvise,    // `advice`, for `processor`
  kAttach,    // memory to `stream`, or to all of them or the host: 0
  kMigrate,   // the driver's own view: UVM_MIGRATE to `processor`. Where there is one, no prefetch call moves anything
};

enum class Advice : uint8_t {
  kSetReadMostly = 1,
  kUnsetReadMostly = 2,
  kSetPreferredLocation = 3,
  kUnsetPreferredLocation = 4,
  kSetAccessedBy = 5,
  kUnsetAccessedBy = 6,
};

struct Call {
  uint64_t time_ns = 0;
  uint64_t duration_ns = 0;
  CallKind kind = CallKind::kAllocate;
  Advice advice = Advice::kSetReadMostly;
  int32_t processor = kCpu;
  uint64_t address = 0;
  uint64_t bytes = 0;   // kFree and kAttach: ignored
  uint64_t stream = 0;  // kAttach
};

// Memory that is attached to one stream moves when a kernel of that stream begins. `stream` is the tools' number of it.
struct KernelStart {
  uint64_t time_ns = 0;
  int32_t device = 0;
  uint64_t stream = 0;
};

// The driver's exact counters, cumulative. `device` -1: of the whole process.
struct CounterSample {
  uint64_t time_ns = 0;
  int32_t device = -1;
  uint64_t to_device_bytes = 0;
  uint64_t to_host_bytes = 0;
};

// A run of neighbouring pages that moved. Its duration is not known.
struct Migration {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  int32_t source = kCpu;
  int32_t destination = kCpu;
  MigrationCause cause = MigrationCause::kCoherence;
  uint32_t batch = 0;  // of the GPU's faults that caused it; 0: of none
};

// As the driver told it, while migrations were recorded.
struct RecordedMigration : Migration {
  uint64_t duration_ns = 0;
};

}  // namespace uvmtrace::reconstruct
