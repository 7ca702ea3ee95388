// Who touches what: faults of the GPU and of the CPU, prefetches and advice. The model decides; here it gets its time,
// its page protections and its records.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "sim/engine/clock.h"
#include "sim/engine/engine.h"

namespace uvmsim {
namespace {

// CUpti_ActivityUnifiedMemoryCounterKind; libcupti's tests compare them with the header.
enum CounterKind : uint32_t {
  kHostToDevice = 1,
  kDeviceToHost = 2,
  kCpuFault = 3,
  kGpuFault = 4,
  kRemoteMap = 7,
  kDeviceToDevice = 8
};

// What a prefetch in an idle stream needs before its first copy. Its caller then pushes the copies block by block: on
// an H100 a call took 67 us for 256 KiB, 172 us for 2 MiB and 540 us for 8 MiB.
constexpr double kPrefetchCallNs = 30'000;
// Behind other work of its stream a thread of libcuda does it later, and the call took 2 to 13 us.
constexpr double kDeferredPrefetchCallNs = 8'000;

uint32_t CuptiProcessor(int processor) { return static_cast<uint32_t>(processor); }  // kCpu becomes 0xFFFFFFFF

}  // namespace

Outcome* Engine::TakeOutcomeLocked() {
  if (free_outcomes_.empty()) {
    // More threads are in the engine at once than ever before: the one place where a page fault may call malloc.
    outcomes_.push_back(std::make_unique<Outcome>());
    outcomes_.back()->Reserve();
    free_outcomes_.reserve(outcomes_.size());
    free_outcomes_.push_back(outcomes_.back().get());
  }
  Outcome* outcome = free_outcomes_.back();
  free_outcomes_.pop_back();
  outcome->Clear();
  return outcome;
}

void Engine::GiveOutcome(Outcome* outcome) {
  Lock lock(&mutex_);
  free_outcomes_.push_back(outcome);
}

void Engine::ApplyProtections(const Outcome& outcome) {
  for (const ProtectionChange& change : outcome.protections) {
    if (!window_.Contains(change.address)) continue;  // memory that CUDA did not allocate
    if (window_.Protect(change.address, change.bytes, change.protection) || protection_failed_) continue;
    protection_failed_ = true;
    // write, not stdio: this may be a signal handler.
    static constexpr char kText[] =
        "uvmsim: the process has too many memory mappings (sysctl vm.max_map_count): from now on some CPU faults are "
        "not "
        "simulated, or cannot be, and the program dies of SIGSEGV.\n";
    [[maybe_unused]] const ssize_t ignored = write(2, kText, sizeof kText - 1);
  }
}

template <typename Spend>
void Engine::Finish(const Outcome& outcome, const FaultOrigin& origin, Spend spend) {
  for (const Batch& batch : outcome.batches) {
    const Interval interval = spend(batch.time.Total());
    Report(outcome, batch, interval, origin);
    ReportToTools(outcome, batch, interval, origin);
  }
}

Interval Engine::SpendInCaller(double ns) {
  Interval interval;
  interval.Start();
  BurnCpuNs(Scaled(ns));
  interval.End();
  clock_.HostWorked(ns);
  return interval;
}

void Engine::FinishInCaller(const Outcome& outcome, const FaultOrigin& origin) {
  Finish(outcome, origin, [this](double ns) { return SpendInCaller(ns); });
}

// Lays the batch's events over the interval that it really took, in proportion to their modelled times.
void Engine::Report(const Outcome& outcome, const Batch& batch, const Interval& interval, const FaultOrigin& origin) {
  const double modelled_ns = batch.time.Total();
  const double stretch = modelled_ns > 0 ? static_cast<double>(interval.end_ns - interval.start_ns) / modelled_ns : 0;
  EngineTotals sum = {};
  uint64_t last_fault_big_page = ~uint64_t{0};
  for (uint32_t i = batch.first_event; i < batch.first_event + batch.event_count; ++i) {
    const Event& event = outcome.events[i];
    CuptiMemoryRecord record = {};
    record.value = event.bytes;
    record.address = event.address;
    record.start_ns = interval.start_ns + static_cast<uint64_t>(event.start_ns * stretch);
    record.source = CuptiProcessor(event.source);
    record.destination = CuptiProcessor(event.destination);
    record.flags = event.cause;
    switch (event.kind) {
      case EventKind::kGpuFault:
        ++sum.gpu_faults;
        // The driver's faults on one big page are one fault group for CUPTI.
        if (event.address / kBigPageBytes == last_fault_big_page) continue;
        last_fault_big_page = event.address / kBigPageBytes;
        record.counter_kind = kGpuFault;
        record.value = 1;
        record.start_ns = interval.start_ns;
        record.end_ns = interval.end_ns;  // the replay: the same for all faults of a batch
        record.flags = static_cast<uint32_t>(event.access);
        break;
      case EventKind::kCpuFault:
        ++sum.cpu_faults;
        record.counter_kind = kCpuFault;
        record.value = origin.program_counter;
        record.start_ns = interval.start_ns;
        record.flags = static_cast<uint32_t>(event.access);
        break;
      case EventKind::kMigration:
        ++sum.migrations;
        record.end_ns = record.start_ns + static_cast<uint64_t>(event.duration_ns * stretch) + 1;
        if (event.source == kCpu) {
          record.counter_kind = kHostToDevice;
          sum.host_to_device_bytes += event.bytes;
        } else if (event.destination == kCpu) {
          record.counter_kind = kDeviceToHost;
          sum.device_to_host_bytes += event.bytes;
          if (event.cause == static_cast<uint8_t>(MigrationCause::kEviction)) sum.evicted_bytes += event.bytes;
        } else {
          record.counter_kind = kDeviceToDevice;
        }
        break;
      case EventKind::kRemoteMap:
        record.counter_kind = kRemoteMap;
        break;
      case EventKind::kReadDuplicate:
      case EventKind::kReadDuplicateInvalidate:
        continue;  // CUPTI does not show them
    }
    tools_.Push(record);
  }
  if (sum.host_to_device_bytes != 0) CountLink(true, sum.host_to_device_bytes, false);
  if (sum.device_to_host_bytes != 0) CountLink(false, sum.device_to_host_bytes, false);
  Lock lock(&totals_mutex_);
  totals_.host_to_device_bytes += sum.host_to_device_bytes;
  totals_.device_to_host_bytes += sum.device_to_host_bytes;
  totals_.evicted_bytes += sum.evicted_bytes;
  totals_.gpu_faults += sum.gpu_faults;
  totals_.cpu_faults += sum.cpu_faults;
  totals_.migrations += sum.migrations;
  if (batch.kind == BatchKind::kGpuFaults) {
    ++totals_.gpu_fault_batches;
    totals_.bottom_half_ns += Scaled(modelled_ns);
  }
}

void Engine::DemandDeviceMemory(uint64_t bytes) {
  demand_.memory_ns += static_cast<double>(bytes) / profile_.link.device_memory;
}

// Memory that stays on the host is read and written over the link.
void Engine::DemandInPlace(uint64_t bytes, GpuClient client, Access access) {
  const double ns = static_cast<double>(bytes) / profile_.link.in_place;
  const bool writes = client == GpuClient::kCopyEngine ? access != Access::kRead : client != GpuClient::kKernelReads;
  const bool reads = client == GpuClient::kCopyEngine ? access == Access::kRead : client != GpuClient::kKernelWrites;
  if (reads) {
    demand_.to_device_ns += ns;
    CountLink(true, bytes, true);
  }
  if (writes) {
    demand_.to_host_ns += ns;
    CountLink(false, bytes, true);
  }
}

void* Engine::GpuAccess(uint64_t address, uint64_t bytes, Access access, GpuClient client) {
  queue_.StopHereIfFrozen();
  void* const host = reinterpret_cast<void*>(address);
  if (bytes == 0) return host;
  const bool copies = client == GpuClient::kCopyEngine;
  demand_.throttled_ns += Throttle(address, bytes, device_, DeviceNow());
  Outcome* outcome = nullptr;
  ThrashedRuns thrashed;
  bool system_memory = false;
  {
    Lock lock(&mutex_);
    const auto it = FindLocked(address);
    const bool unknown = it == allocations_.end();
    if (unknown && (window_.Contains(address) || (!copies && !profile_.system_memory))) return nullptr;
    if (unknown && copies) return host;
    system_memory = unknown;
    if (system_memory && !AddSystemMemoryLocked(address, bytes)) return nullptr;
    const Allocation allocation = unknown ? Allocation{address, bytes, AllocationKind::kManaged, 0, 0} : it->second;
    if (allocation.kind == AllocationKind::kReserved) {
      if (!copies) DemandDeviceMemory(bytes);
      return ReservedAccessibleLocked(address, bytes) ? window_.Alias(address) : nullptr;
    }
    const bool inside = bytes <= allocation.address + allocation.bytes - address;
    if (allocation.kind == AllocationKind::kPinned || allocation.kind == AllocationKind::kRegistered) {
      if (inside && !copies) DemandInPlace(bytes, client, access);
      return inside || copies ? host : nullptr;
    }
    if (!inside) return nullptr;
    if (allocation.kind == AllocationKind::kDevice) {
      if (!copies && !PeerEnabled(device_, allocation.device)) return nullptr;
      if (!copies && allocation.device != device_) {
        demand_.peer_ns += static_cast<double>(bytes) / profile_.link.peer;
      } else if (!copies) {
        DemandDeviceMemory(bytes);
      }
      return window_.Alias(address);
    }
    outcome = TakeOutcomeLocked();
    // A page that may have copies is read first, and duplicated for that; the write then ends it.
    if (client == GpuClient::kKernelReadsAndWrites && model_.PolicyAt(address).read_mostly) {
      model_.GpuAccess(device_, address, bytes, Access::kRead, outcome);
    }
    model_.GpuAccess(device_, address, bytes, access, outcome);
    NoteMovesLocked(*outcome, device_, DeviceNow(), &thrashed);
    ApplyProtections(*outcome);
  }
  FaultOrigin origin;
  origin.address = address;
  origin.bytes = bytes;
  demand_.AddFaults(*outcome);
  Finish(*outcome, origin, [this](double ns) { return gpu(device_).bottom_half.Service(Scaled(ns)); });
  ReportThrashing(thrashed);
  if (outcome->remote_bytes != 0) {
    DemandInPlace(outcome->remote_bytes, client, access);
    Lock lock(&totals_mutex_);
    totals_.remote_bytes += outcome->remote_bytes;
  }
  if (!copies) DemandDeviceMemory(bytes - std::min(bytes, outcome->remote_bytes));
  const bool reachable = !outcome->out_of_memory && !outcome->invalid;
  GiveOutcome(outcome);
  if (!reachable) return nullptr;
  return system_memory ? host : window_.Alias(address);
}

void Engine::NoteMovesLocked(const Outcome& outcome, int processor, double now_ns, ThrashedRuns* found) {
  for (const Event& event : outcome.events) {
    const auto cause = static_cast<MigrationCause>(event.cause);
    if (event.kind != EventKind::kMigration || event.destination != processor) continue;
    if (cause != MigrationCause::kCoherence && cause != MigrationCause::kPrefetch) continue;
    const uint64_t block = event.address / kBlockBytes * kBlockBytes;
    const ThrashingDetector::Found pages = thrashing_.Moved(event.address, event.bytes, processor, now_ns);
    if (!pages.pinned.Empty()) model_.PinOnHost(block, pages.pinned);
    pages.detected.ForEachRun([&](int first, int count) {
      if (found->count == found->runs.size()) return;
      found->runs[found->count++] = {block + static_cast<uint64_t>(first) * kPageBytes,
                                     static_cast<uint64_t>(count) * kPageBytes,
                                     {event.source, processor}};
    });
  }
}

double Engine::Throttle(uint64_t address, uint64_t bytes, int processor, double now_ns) {
  double wait_ns = 0;
  {
    Lock lock(&mutex_);
    if (thrashing_.Empty()) return 0;
    for (uint64_t block = address / kBlockBytes * kBlockBytes; block < address + bytes; block += kBlockBytes) {
      if (thrashing_.TakeUnpinned(block, now_ns)) model_.UnpinFromHost(block);
    }
    if (!model_.Contains(address, bytes) || model_.ResidentBytes(processor, address, bytes) >= bytes) return 0;
    wait_ns = thrashing_.ThrottleNs(address, bytes, processor, now_ns);
  }
  if (wait_ns <= 0) return 0;
  Interval interval;
  interval.Start();
  SleepNs(Scaled(wait_ns));
  interval.End();
  ReportThrottling(address / kPageBytes * kPageBytes, processor, interval);
  return wait_ns;
}

// The pages belong to their new place when the call's turn has come; its copies are reported when they are over.
CUresult Engine::Prefetch(uint64_t address, uint64_t bytes, int destination, Stream* stream) {
  struct Prefetched {
    Outcome* outcome = nullptr;
    Interval interval;
  };
  auto prefetched = std::make_shared<Prefetched>();
  const bool deferred = !queue_.IsIdle(stream->lane);
  double call_ns = kPrefetchCallNs;
  if (!deferred) {
    Lock lock(&mutex_);
    const auto missing =
        static_cast<double>(bytes - std::min(bytes, model_.ResidentBytes(destination, address, bytes)));
    const CostModel& cost = profile_.cost;
    call_ns += missing / (destination == kCpu ? cost.device_to_host_bytes_per_ns : cost.host_to_device_bytes_per_ns);
  }
  const auto ticket = Submit(
      stream,
      [this, address, bytes, destination, prefetched] {
        queue_.StopHereIfFrozen();
        {
          Lock lock(&mutex_);
          prefetched->outcome = TakeOutcomeLocked();
          model_.Prefetch(address, bytes, destination, prefetched->outcome);
          ApplyProtections(*prefetched->outcome);
        }
        demand_.AddTransfer(*prefetched->outcome);
        prefetched->interval.Start();
      },
      [this, prefetched] {
        prefetched->interval.End();
        Finish(*prefetched->outcome, {}, [&](double) { return prefetched->interval; });
        GiveOutcome(prefetched->outcome);
      });
  if (deferred) {
    clock_.HostWorked(kDeferredPrefetchCallNs);  // in real time the simulator's own work takes as long
    return CUDA_SUCCESS;
  }
  SpendInCaller(call_ns);
  queue_.WaitForTicket(ticket);
  return CUDA_SUCCESS;
}

CUresult Engine::Advise(uint64_t address, uint64_t bytes, Advice advice, int processor) {
  Outcome* outcome = nullptr;
  {
    Lock lock(&mutex_);
    outcome = TakeOutcomeLocked();
    model_.Advise(address, bytes, advice, processor, outcome);
    ApplyProtections(*outcome);
  }
  FinishInCaller(*outcome);
  const bool valid = !outcome->invalid;
  GiveOutcome(outcome);
  return valid ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

bool Engine::HandleCpuFault(uint64_t address, Access access, uint64_t program_counter) {
  if (!window_.Contains(address)) return false;
  clock_.HostWorked(Throttle(address, 1, kCpu, clock_.HostNow()));
  Outcome* outcome = nullptr;
  ThrashedRuns thrashed;
  bool accessible = true;
  FaultOrigin origin;
  origin.program_counter = program_counter;
  {
    Lock lock(&mutex_);
    const auto it = FindLocked(address / kPageBytes * kPageBytes);
    // The last page of an allocation is accessible as a whole.
    if (it == allocations_.end() || it->second.kind != AllocationKind::kManaged) return false;
    outcome = TakeOutcomeLocked();
    origin.preferred = model_.PolicyAt(address).preferred;
    model_.CpuAccess(address, access, outcome);
    NoteMovesLocked(*outcome, kCpu, clock_.HostNow(), &thrashed);
    ApplyProtections(*outcome);
    if (protection_failed_) {
      // The page must become accessible, alone or with its block: the access would fault again, for ever.
      const uint64_t page = address / kPageBytes * kPageBytes;
      accessible = window_.Protect(page, kPageBytes, CpuProtection::kReadWrite) ||
                   window_.Protect(page / kBlockBytes * kBlockBytes, kBlockBytes, CpuProtection::kReadWrite);
    }
  }
  FinishInCaller(*outcome, origin);
  ReportThrashing(thrashed);
  GiveOutcome(outcome);
  return accessible;
}

uint64_t Engine::ResidentBytes(int processor, uint64_t address, uint64_t bytes) {
  Lock lock(&mutex_);
  return model_.ResidentBytes(processor, address, bytes);
}

Policy Engine::PolicyAt(uint64_t address) {
  Lock lock(&mutex_);
  return model_.PolicyAt(address);
}

}  // namespace uvmsim
