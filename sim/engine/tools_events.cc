// What a batch of work looks like in the driver's tools queue and counters.
//
// A GPU fault has one entry for each warp that wrote into the fault buffer: the model knows pages, so that a page
// counts one warp for every KiB of it that the access touched, four at the most. An H200 that streams through memory
// has 3.35 entries for each fault that the driver counts, as it loses some in the flush before a replay.
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "sim/engine/engine.h"

namespace uvmsim {
namespace {

// CUpti_ActivityUnifiedMemoryCounterKind.
constexpr uint32_t kCuptiThrashing = 5;
constexpr uint32_t kCuptiThrottling = 6;

constexpr uint64_t kWarpBytes = 1024;
constexpr uint16_t kGpcs = 8;

uint8_t ToolsProcessor(int processor) { return processor == kCpu ? kToolsCpu : static_cast<uint8_t>(processor + 1); }

// The model's masks are over its own processors: bit 0 is the CPU there as well.
uint64_t ToolsProcessors(uint8_t mask) { return mask; }

uint64_t Warps(const FaultOrigin& origin, uint64_t page) {
  const uint64_t begin = std::max(page, origin.address);
  const uint64_t end = std::min(page + kPageBytes, origin.address + origin.bytes);
  return end <= begin ? 1 : (end - begin + kWarpBytes - 1) / kWarpBytes;
}

}  // namespace

void Engine::ReportToTools(const Outcome& outcome, const Batch& batch, const Interval& interval,
                           const FaultOrigin& origin) {
  const bool replayed = batch.kind == BatchKind::kGpuFaults;
  const uint32_t batch_id = replayed ? tools_batches_.fetch_add(1, std::memory_order_relaxed) : 0;
  if (!driver_tools_.Active()) return;

  const double modelled_ns = batch.time.Total();
  const double stretch =
      modelled_ns > 0 ? static_cast<double>(interval.raw_end_ns - interval.raw_start_ns) / modelled_ns : 0;
  DriverTools::Report report(&driver_tools_);
  const auto each = [&](auto handle) {
    for (uint32_t i = batch.first_event; i < batch.first_event + batch.event_count; ++i) handle(outcome.events[i]);
  };

  // At once: what the CPU does itself.
  uint64_t faults = 0;
  each([&](const Event& event) {
    ToolsEntry entry = {};
    switch (event.kind) {
      case EventKind::kGpuFault: {
        const uint8_t gpu = ToolsProcessor(event.source);
        report.Count(kCounterGpuFaults, 1, gpu);
        if (!report.Wants(kToolsGpuFault)) break;
        const uint64_t warps = Warps(origin, event.address);
        for (uint64_t warp = 0; warp < warps; ++warp) {
          entry.gpu_fault.type = kToolsGpuFault;
          entry.gpu_fault.fault = kFaultInvalidPte;
          entry.gpu_fault.access = static_cast<uint8_t>(event.access);
          entry.gpu_fault.gpu = gpu;
          // Neighbouring blocks of threads run on different parts of the GPU.
          entry.gpu_fault.gpc = static_cast<uint16_t>((event.address / kPageBytes + warp) % kGpcs);
          entry.gpu_fault.client = static_cast<uint16_t>(warp);
          entry.gpu_fault.address = event.address;
          // The CPU takes them out of the buffer one after the other, when the batch begins.
          entry.gpu_fault.time = std::min(interval.raw_start_ns + faults, interval.raw_end_ns);
          entry.gpu_fault.gpu_time = interval.start_ns;
          entry.gpu_fault.batch = batch_id;
          entry.gpu_fault.client_type = kClientGpc;
          report.Now(entry);
        }
        ++faults;
        break;
      }
      case EventKind::kCpuFault:
        report.Count(kCounterCpuFaults, 1, kToolsCpu);
        // The driver accounts it to the GPU that the memory prefers as well, but not twice in the sum.
        if (origin.preferred >= 0) report.Count(kCounterCpuFaults, 1, ToolsProcessor(origin.preferred), false);
        entry.cpu_fault.type = kToolsCpuFault;
        entry.cpu_fault.access = static_cast<uint8_t>(event.access);
        entry.cpu_fault.cpu = static_cast<uint32_t>(std::max(sched_getcpu(), 0));
        entry.cpu_fault.address = event.address;
        entry.cpu_fault.time = interval.raw_start_ns;
        entry.cpu_fault.process = static_cast<uint32_t>(getpid());
        entry.cpu_fault.thread = static_cast<uint32_t>(gettid());
        entry.cpu_fault.program_counter = origin.program_counter;
        report.Now(entry);
        break;
      case EventKind::kReadDuplicate:
      case EventKind::kReadDuplicateInvalidate:
        for (uint64_t offset = 0; offset < event.bytes; offset += kPageBytes) {
          if (event.kind == EventKind::kReadDuplicate) {
            entry.read_duplicate = {kToolsReadDuplicate,    {},         ToolsProcessors(event.cause),
                                    event.address + offset, kPageBytes, interval.raw_end_ns};
          } else {
            entry.read_duplicate_invalidate = {kToolsReadDuplicateInvalidate,
                                               ToolsProcessor(event.destination),
                                               {},
                                               event.address + offset,
                                               kPageBytes,
                                               interval.raw_end_ns};
          }
          report.Now(entry);
        }
        break;
      case EventKind::kMigration:
        // The counters do not wait for the GPU.
        if (event.source == kCpu) {
          report.Count(kCounterHostToDeviceBytes, event.bytes, ToolsProcessor(event.destination));
        } else if (event.destination == kCpu) {
          report.Count(kCounterDeviceToHostBytes, event.bytes, ToolsProcessor(event.source));
        }
        break;
      case EventKind::kRemoteMap:
        break;
    }
  });

  report.Progress();

  // When the GPU has gone on.
  each([&](const Event& event) {
    ToolsEntry entry = {};
    const auto at = [](uint64_t base, double offset_ns) { return base + static_cast<uint64_t>(offset_ns); };
    if (event.kind == EventKind::kMigration) {
      const double begin = event.start_ns * stretch;
      const double end = begin + event.duration_ns * stretch;
      entry.migration = {kToolsMigration,
                         event.cause,
                         ToolsProcessor(event.source),
                         ToolsProcessor(event.destination),
                         0,
                         event.address,
                         event.bytes,
                         at(interval.raw_start_ns, begin),
                         at(interval.raw_start_ns, end),
                         0,
                         at(interval.start_ns, begin),
                         at(interval.start_ns, end)};
      report.Later(entry);
    } else if (event.kind == EventKind::kRemoteMap) {
      entry.map_remote = {kToolsMapRemote,
                          ToolsProcessor(event.destination),
                          ToolsProcessor(event.source),
                          event.cause,
                          0,
                          event.address,
                          event.bytes,
                          interval.raw_end_ns,
                          interval.end_ns};
      report.Later(entry);
    }
  });
  if (replayed) {
    ToolsEntry entry = {};
    entry.replay = {kToolsGpuFaultReplay, ToolsProcessor(batch.processor), kClientGpc, 0, batch_id, interval.raw_end_ns,
                    interval.end_ns};
    report.Later(entry);
  }
}

void Engine::ReportThrashing(const ThrashedRuns& found) {
  for (size_t i = 0; i < found.count; ++i) {
    const ThrashedRun& run = found.runs[i];
    uint64_t processors = 0;
    uint32_t gpus = 0;
    bool cpu = false;
    for (const int processor : run.processors) {
      processors |= uint64_t{1} << ToolsProcessor(processor);
      cpu = cpu || processor == kCpu;
      if (processor != kCpu) gpus |= 1u << processor;
    }
    CuptiMemoryRecord record = {};
    record.counter_kind = kCuptiThrashing;
    record.flags = cpu ? 1 : 0;
    record.value = run.bytes;
    record.address = run.address;
    record.start_ns = RealtimeNs();
    record.source = gpus;  // as a mask: libcupti makes processors[0] of it
    tools_.Push(record);
    if (!driver_tools_.Active()) continue;
    ToolsEntry entry = {};
    entry.thrashing = {kToolsThrashing, {}, processors, run.address, run.bytes, RawNs()};
    DriverTools::Report report(&driver_tools_);
    report.Now(entry);
  }
}

void Engine::ReportThrottling(uint64_t address, int processor, const Interval& interval) {
  CuptiMemoryRecord record = {};
  record.counter_kind = kCuptiThrottling;
  record.flags = processor == kCpu ? 1 : 0;
  record.address = address;
  record.start_ns = interval.start_ns;
  record.end_ns = interval.end_ns;
  record.source = static_cast<uint32_t>(processor);
  tools_.Push(record);
  if (!driver_tools_.Active()) return;
  DriverTools::Report report(&driver_tools_);
  ToolsEntry entry = {};
  entry.throttling = {kToolsThrottlingStart, ToolsProcessor(processor), {}, address, interval.raw_start_ns};
  report.Now(entry);
  entry.throttling = {kToolsThrottlingEnd, ToolsProcessor(processor), {}, address, interval.raw_end_ns};
  report.Now(entry);
}

void Engine::ReportFatalFault(uint64_t address, Access access) {
  if (!driver_tools_.Active()) return;
  ToolsEntry entry = {};
  entry.fatal_fault = {kToolsFatalFault,
                       kFaultInvalidPte,
                       static_cast<uint8_t>(access),
                       ToolsProcessor(device_),
                       kFatalInvalidAddress,
                       {},
                       address / kPageBytes * kPageBytes,
                       RawNs()};
  DriverTools::Report report(&driver_tools_);
  report.Now(entry);
}

}  // namespace uvmsim
