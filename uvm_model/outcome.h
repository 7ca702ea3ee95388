// What one operation on the model did: the driver's events, in order, and what each batch of work costs.
#pragma once

#include <cstdint>
#include <vector>

#include "uvm_model/cost_model.h"

namespace uvm_model {

inline constexpr int kCpu = -1;  // as a processor; devices count from 0

// The numbers of UVM and of CUPTI (CUpti_ActivityUnifiedMemoryAccessType).
enum class Access : uint8_t { kRead = 1, kWrite = 2, kAtomic = 3 };

// CUpti_ActivityUnifiedMemoryMigrationCause.
enum class MigrationCause : uint8_t { kUser = 1, kCoherence = 2, kPrefetch = 3, kEviction = 4 };

// CUpti_ActivityUnifiedMemoryRemoteMapCause.
enum class RemoteMapCause : uint8_t { kCoherence = 1, kThrashing = 2, kPolicy = 3, kOutOfMemory = 4, kEviction = 5 };

enum class EventKind : uint8_t {
  kGpuFault,
  kCpuFault,
  kMigration,
  kRemoteMap,
  kReadDuplicate,            // pages that more than one processor has from now on
  kReadDuplicateInvalidate,  // pages that only one has left
};

struct Event {
  EventKind kind;
  Access access;       // faults
  uint8_t cause;       // MigrationCause or RemoteMapCause. Read duplication: who has a copy, bit 0 the CPU, 1 device 0
  int8_t source;       // faults: the processor that faulted. Remote maps: where the memory is
  int8_t destination;  // remote maps: the processor that maps. Invalidation: where the last copy is
  uint32_t batch;      // index into Outcome::batches
  uint64_t address;    // of the first page
  uint64_t bytes;      // one run of neighbouring pages; one page for a fault
  double start_ns;     // migrations: since the start of the batch
  double duration_ns;
};

enum class BatchKind : uint8_t { kGpuFaults, kCpuFault, kPrefetch, kAdvice, kDeviceAllocation };

struct Batch {
  BatchKind kind;
  int8_t processor;  // who faulted, or where to
  uint32_t blocks;   // services
  uint32_t faults;   // distinct pages
  uint32_t first_event;
  uint32_t event_count;
  ServiceTime time;
};

// What the CPU's page tables must show from now on.
enum class CpuProtection : uint8_t { kNone, kRead, kReadWrite };
struct ProtectionChange {
  uint64_t address;
  uint64_t bytes;
  CpuProtection protection;
};

struct Outcome {
  std::vector<Event> events;
  std::vector<Batch> batches;
  std::vector<ProtectionChange> protections;
  uint64_t evicted_blocks = 0;
  uint64_t remote_bytes = 0;   // bytes of a GPU access that stay where they are and go over the link
  bool out_of_memory = false;  // device memory is full of what cannot be evicted; the operation stopped there
  bool invalid = false;        // an address outside of all ranges; nothing was done

  // Keeps the capacity: a signal handler reuses one Outcome without calling malloc.
  void Clear() {
    events.clear();
    batches.clear();
    protections.clear();
    evicted_blocks = 0;
    remote_bytes = 0;
    out_of_memory = false;
    invalid = false;
  }
  // Enough for every operation on one block.
  void Reserve() {
    events.reserve(4096);
    batches.reserve(64);
    protections.reserve(4096);
  }
  ServiceTime TotalTime() const {
    ServiceTime total;
    for (const Batch& batch : batches) total += batch.time;
    return total;
  }
};

}  // namespace uvm_model
