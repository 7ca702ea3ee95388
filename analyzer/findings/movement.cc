// What faulted and what moved: totals, migrations by direction and cause, and whether it fits.
#include <algorithm>

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

std::string DirectionName(Direction direction) {
  switch (direction) {
    case Direction::kHostToDevice:
      return "host_to_device";
    case Direction::kDeviceToHost:
      return "device_to_host";
    case Direction::kDeviceToDevice:
      return "device_to_device";
    default:
      return "unknown";
  }
}

void AddTotals(const Run& run, const Knowledge& known, Totals* totals) {
  MemoryActivity sum;
  RegionStatistics regions;
  uint64_t batches = 0;
  uint64_t service_ns = 0;
  uint64_t prefetched_ahead_bytes = 0;
  for (const auto& process : run) {
    sum.Add(process->totals);
    regions.thrashing_events += process->regions.thrashing_events;
    regions.throttling_events += process->regions.throttling_events;
    regions.remote_mapped_bytes += process->regions.remote_mapped_bytes;
    for (const auto& [ordinal, device] : process->device_activity) {
      batches += device.batches.batches();
      service_ns += device.batches.ServiceNs();
    }
    for (const auto& causes : process->migrations) {
      prefetched_ahead_bytes += causes[static_cast<size_t>(MigrationCause::kPrefetch)].bytes;
    }
  }
  if (known.gpu_faults) {
    totals->set_gpu_fault_groups(sum.gpu_fault_groups);
    totals->set_gpu_fault_records(sum.gpu_fault_records);
    totals->set_fault_batches(batches);
    totals->set_fault_service_ns(service_ns);
  }
  const ExactSums exact = SumExactCounters(run);
  if (exact.known && exact.all_processes) totals->set_gpu_faults(exact.gpu_faults);
  if (known.cpu_faults) totals->set_cpu_faults(sum.cpu_faults);
  if (known.host_to_device) totals->set_host_to_device_bytes(sum.host_to_device_bytes);
  if (known.device_to_host) totals->set_device_to_host_bytes(sum.device_to_host_bytes);
  if (known.device_to_device) totals->set_device_to_device_bytes(sum.device_to_device_bytes);
  if (known.device_to_host) totals->set_evicted_bytes(sum.evicted_bytes);
  if (known.any_migration()) totals->set_prefetched_ahead_bytes(prefetched_ahead_bytes);
  if (known.remote_map) totals->set_remote_mapped_bytes(regions.remote_mapped_bytes);
  if (known.thrashing) totals->set_thrashing_events(regions.thrashing_events);
  if (known.throttling) totals->set_throttling_events(regions.throttling_events);
}

void AddMigrations(const Run& run, const Knowledge& known, Report* report) {
  for (size_t direction = 0; direction < kDirectionCount; ++direction) {
    for (size_t cause = 0; cause < kMigrationCauseCount; ++cause) {
      uint64_t bytes = 0;
      uint64_t count = 0;
      uint64_t busy_ns = 0;
      for (const auto& process : run) {
        const MigrationStatistics& statistics = process->migrations[direction][cause];
        bytes += statistics.bytes;
        count += statistics.count;
        busy_ns += statistics.busy.length();
      }
      if (count == 0) continue;
      MigrationRow* row = report->add_migrations();
      row->set_direction(DirectionName(static_cast<Direction>(direction)));
      row->set_cause(CauseName(static_cast<MigrationCause>(cause)));
      row->set_bytes(bytes);
      row->set_count(count);
      if (busy_ns > 0) {
        row->set_busy_ns(busy_ns);
        row->set_bytes_per_second(static_cast<double>(bytes) * 1e9 / static_cast<double>(busy_ns));
      }
    }
  }
  if (report->migrations_size() > 0) return;
  const std::string source = known.host_to_device ? "cupti.dtoh_bytes" : "cupti.htod_bytes";
  AddEmptySection("migrations", WhyNoUnifiedMemoryEvents(run, source), report);
}

void AddOversubscription(const Run& run, const Knowledge& known, Report* report) {
  const MemoryKindStatistics managed = SumOfKind(run, MemoryKind::kManaged);
  Oversubscription* oversubscription = report->mutable_oversubscription();
  oversubscription->set_managed_live_peak_bytes(managed.peak_bytes);
  uint64_t capacity_bytes = 0;
  for (const DeviceRow& device : report->devices()) capacity_bytes += device.total_memory_bytes();
  if (capacity_bytes > 0) {
    oversubscription->set_device_capacity_bytes(capacity_bytes);
    oversubscription->set_peak_ratio(static_cast<double>(managed.peak_bytes) / static_cast<double>(capacity_bytes));
  }
  MemoryActivity sum;
  for (const auto& process : run) sum.Add(process->totals);
  if (known.host_to_device && known.device_to_host) oversubscription->set_refaulted_bytes(sum.refaulted_bytes);
  if (known.device_to_host) oversubscription->set_evicted_bytes(sum.evicted_bytes);
  if (managed.allocations == 0) {
    AddEmptySection("oversubscription", "no managed memory was allocated: only managed memory can exceed a GPU's",
                    report);
  }
}

}  // namespace

std::string CauseName(MigrationCause cause) {
  switch (cause) {
    case MigrationCause::kUser:
      return "user";
    case MigrationCause::kCoherence:
      return "coherence";
    case MigrationCause::kPrefetch:
      return "prefetch";
    case MigrationCause::kEviction:
      return "eviction";
    case MigrationCause::kAccessCounters:
      return "access_counters";
    default:
      return "unknown";
  }
}

void AddMovement(const Run& run, const Knowledge& known, Report* report) {
  AddTotals(run, known, report->mutable_totals());
  if (report->totals().gpu_fault_records() == 0 && report->totals().cpu_faults() == 0 &&
      report->totals().gpu_faults() == 0) {
    AddEmptySection("faults", WhyNoUnifiedMemoryEvents(run, "cupti.gpu_page_faults"), report);
  }
  AddMigrations(run, known, report);
  AddOversubscription(run, known, report);
}

}  // namespace uvmtrace::analyzer
