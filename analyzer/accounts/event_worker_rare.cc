// What is rare beside GPU faults and migrations: replays, CPU faults, and what befell regions of memory.
#include <algorithm>

#include "analyzer/accounts/event_worker.h"
#include "analyzer/model/event_values.h"

namespace uvmtrace::analyzer {
namespace {

constexpr auto kQueue = static_cast<uint32_t>(EventSource::kDriverQueue);
// Of one chunk.
constexpr size_t kMaximumTouches = 4096;

}  // namespace

void EventWorker::ReadReplays(const ColumnBatch& batch, ChunkFindings* findings) {
  sums_.replay_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time = batch[replays::kTime][row];
    if (!everything_ && !Wanted(Monotonic(batch.clock, time))) continue;
    findings->replays.push_back(
        {DeviceOrdinal(batch[replays::kDevice][row]), static_cast<uint32_t>(batch[replays::kBatch][row]), time});
  }
}

void EventWorker::SeeTouch(const KernelTouch& touch, ChunkFindings* findings) {
  if (timeline_.kernel_runs.empty() || (*timeline_.versions)[touch.version].kind != MemoryKind::kManaged) return;
  for (const auto& [device, runs] : timeline_.kernel_runs) {
    if (KernelsOf(device).SetAt(touch.first_ns) == NameSets::kNone) continue;
    runs.ForEach(touch.first_ns, touch.first_ns + 1, [&](const KernelRun& run) {
      // In doubt about the clocks it was not running.
      if (run.start_ns + KernelTouch::kClockErrorNs > touch.first_ns ||
          run.end_ns < touch.first_ns + KernelTouch::kClockErrorNs || findings->touches.size() >= kMaximumTouches) {
        return;
      }
      findings->touches.push_back(touch);
      findings->touches.back().kernel = run;
    });
  }
}

void EventWorker::ReadCpuFaults(const ColumnBatch& batch, ChunkFindings* findings) {
  const auto addresses = batch[cpu_faults::kAddress];
  const auto pcs = batch[cpu_faults::kPc];
  const auto accesses = batch[cpu_faults::kAccess];
  const auto tids = batch[cpu_faults::kTid];
  const auto times = Times(batch, cpu_faults::kStart);
  const bool queue = batch.source == kQueue;
  sums_.cpu_fault_sources[SourceIndex(batch.source)] += batch.rows;
  sums_.cpu_fault_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = times[row];
    if (!Wanted(time_ns)) continue;
    const Place place = PlaceOf(addresses[row], time_ns, kCpu);
    ++sums_.cells.At(place.cell).cpu_faults;
    if (place.version != AllocationVersions::kNone) {
      sums_.touched.Touch(addresses[row], place.version, place.cell.account);
      Use(place.version, time_ns);
      KernelTouch touch;
      touch.granule = addresses[row] / KernelTouch::kGranuleBytes;
      touch.address = addresses[row];
      touch.pc = pcs[row];
      touch.first_ns = time_ns;
      touch.version = place.version;
      touch.written = accesses[row] == static_cast<uint64_t>(Access::kWrite);
      SeeTouch(touch, findings);
    }
    if (SharedPageSums* page = SharedPageAt(addresses[row])) ++page->cpu_faults;
    if (queue) sums_.cpu_fault_sites.Add({pcs[row], static_cast<uint32_t>(tids[row]), place.cell.account});
  }
}

void EventWorker::ReadRegionEvents(const ColumnBatch& batch) {
  sums_.region_rows += batch.rows;
  sums_.region_sources[SourceIndex(batch.source)] += batch.rows;
  RegionStatistics& regions = sums_.regions;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = Monotonic(batch.clock, batch[region_events::kStart][row]);
    if (!Wanted(time_ns)) continue;
    const uint64_t address = batch[region_events::kAddress][row];
    const uint64_t bytes = batch[region_events::kBytes][row];
    // Bytes of thrashing regions are no migrated bytes and no mapped ones: never add up values of different kinds.
    switch (batch[region_events::kKind][row]) {
      case 1:
        ++regions.thrashing_events;
        break;
      case 2:
        ++regions.throttling_events;
        break;
      case 3: {
        ++regions.remote_maps;
        regions.remote_mapped_bytes += bytes;
        const int32_t device = DeviceOrdinal(batch[region_events::kSourceDevice][row]);
        sums_.cells.At(PlaceOf(address, time_ns, device).cell).remote_mapped_bytes += bytes;
        break;
      }
      case 4:
        ++regions.read_duplicates;
        regions.read_duplicated_bytes += bytes;
        break;
      case 5:
        regions.read_duplicate_invalidated_bytes += bytes;
        break;
      case 6: {
        ++regions.fatal_faults;
        FatalFault fault;
        fault.time_ns = time_ns;
        fault.address = address;
        fault.reason = static_cast<uint32_t>(batch[region_events::kCause][row]);
        fault.device = DeviceOrdinal(batch[region_events::kSourceDevice][row]);
        const uint32_t version = finder_.Find(address, time_ns);
        fault.known_memory = version != AllocationVersions::kNone;
        fault.account = AccountOf(version);
        sums_.AddFatal(fault);
        break;
      }
      default:
        break;
    }
  }
}

}  // namespace uvmtrace::analyzer
