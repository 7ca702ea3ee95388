// What faulted and what moved: totals, migrations by direction and cause, and whether it fits.
#include <algorithm>
#include <cmath>

#include "analyzer/findings/estimate.h"
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

// One cause of one direction.
struct CauseSums {
  long double bytes = 0;  // scaled
  long double count = 0;
  long double busy_ns = 0;
  long double low_bytes = 0;
  long double high_bytes = 0;
  uint64_t recorded = 0;
  uint64_t recorded_busy_ns = 0;
  bool estimated = false;
};

using Sums = std::array<std::array<CauseSums, kMigrationCauseCount>, kDirectionCount>;

void AddProcess(const ProcessModel& process, Sums* sums) {
  const ProcessBytes bytes = BytesOfProcess(process);
  const SampleMoments moments = bytes.estimated ? process.sampled.Moments() : SampleMoments{};
  for (size_t index = 0; index < kDirectionCount; ++index) {
    const DirectionBytes& direction = bytes.directions[index];
    for (size_t number = 0; number < kMigrationCauseCount; ++number) {
      const MigrationStatistics& cause = process.migrations[index][number];
      CauseSums& sum = (*sums)[index][number];
      if (cause.count == 0) continue;
      const auto full = static_cast<long double>(cause.bytes - cause.sampled_bytes);
      const auto sampled = static_cast<long double>(cause.sampled_bytes);
      const long double scaled = full + sampled * direction.scale;
      // Busy time stands for as many bytes as were recorded in it.
      const long double growth = cause.bytes > 0 ? scaled / static_cast<long double>(cause.bytes) : 1;
      const uint64_t busy_ns = cause.busy.length();
      sum.bytes += scaled;
      sum.count += static_cast<long double>(cause.count - cause.sampled_count) +
                   static_cast<long double>(cause.sampled_count) * direction.scale;
      sum.busy_ns += static_cast<long double>(busy_ns) * growth;
      sum.recorded += cause.bytes;
      sum.recorded_busy_ns += busy_ns;
      if (!bytes.estimated) {
        sum.low_bytes += scaled;
        sum.high_bytes += scaled;
        continue;
      }
      sum.estimated = true;
      // What was seen is a lower bound whatever the windows say; what was seen of the others bounds it from above.
      const auto captured = static_cast<long double>(direction.captured_sampled);
      const long double rest = captured * direction.scale;
      const double half = moments.HalfWidth(index, number);
      const long double low = half < 0 ? sampled : std::max(sampled, sampled * direction.scale - half * rest);
      const long double most = rest - (captured - sampled);
      const long double high = half < 0 ? most : std::min(most, sampled * direction.scale + half * rest);
      sum.low_bytes += full + low;
      sum.high_bytes += full + std::max(low, high);
    }
    if (direction.unsampled > 0) {
      CauseSums& unknown = (*sums)[index][static_cast<size_t>(MigrationCause::kUnknown)];
      unknown.bytes += static_cast<long double>(direction.unsampled);
      unknown.low_bytes += static_cast<long double>(direction.unsampled);
      unknown.high_bytes += static_cast<long double>(direction.unsampled);
    }
  }
}

void AddTotals(const Run& run, const Knowledge& known, const Sums& sums, Totals* totals) {
  MemoryActivity sum;
  RegionStatistics regions;
  uint64_t batches = 0;
  uint64_t service_ns = 0;
  std::optional<uint64_t> to_device;
  std::optional<uint64_t> to_host;
  std::optional<uint64_t> between;
  uint64_t cpu_faults = 0;
  bool cpu_faults_known = false;
  const auto add = [](std::optional<uint64_t>* into, const DirectionBytes& direction) {
    if (direction.total) *into = into->value_or(0) + *direction.total;
  };
  for (const auto& process : run) {
    sum.Add(process->totals);
    const ProcessBytes bytes = BytesOfProcess(*process);
    add(&to_device, bytes.of(Direction::kHostToDevice));
    add(&to_host, bytes.of(Direction::kDeviceToHost));
    add(&between, bytes.of(Direction::kDeviceToDevice));
    const Knowledge one = WhatIsKnown(*process);
    const bool counters = HasCounters(*process);
    cpu_faults_known |= one.cpu_faults || counters;
    cpu_faults += one.cpu_faults ? process->totals.cpu_faults : counters ? process->counters.cpu_faults : 0;
    regions.thrashing_events += process->regions.thrashing_events;
    regions.throttling_events += process->regions.throttling_events;
    regions.remote_mapped_bytes += process->regions.remote_mapped_bytes;
    regions.fatal_faults += process->regions.fatal_faults;
    regions.read_duplicated_bytes += process->regions.read_duplicated_bytes;
    regions.read_duplicate_invalidated_bytes += process->regions.read_duplicate_invalidated_bytes;
  }
  for (const auto& [key, gpu] : SumByGpu(run)) {
    batches += gpu.batches;
    service_ns += gpu.service_ns;
  }
  if (known.fault_groups) {
    totals->set_gpu_fault_groups(sum.gpu_fault_groups);
    totals->set_gpu_fault_records(sum.gpu_fault_records);
  }
  if (known.fault_entries) totals->set_gpu_fault_entries(sum.gpu_fault_entries);
  if (known.gpu_faults()) {
    totals->set_fault_batches(batches);
    if (known.gpu_waits()) totals->set_fault_service_ns(service_ns);
  }
  const ExactSums exact = SumExactCounters(run);
  if (exact.known && exact.all_processes) totals->set_gpu_faults(exact.counters.gpu_faults);
  if (cpu_faults_known) totals->set_cpu_faults(cpu_faults);
  if (to_device) totals->set_host_to_device_bytes(*to_device);
  if (to_host) totals->set_device_to_host_bytes(*to_host);
  if (between) totals->set_device_to_device_bytes(*between);
  long double evicted = 0;
  long double prefetched = 0;
  for (const auto& causes : sums) {
    evicted += causes[static_cast<size_t>(MigrationCause::kEviction)].bytes;
    prefetched += causes[static_cast<size_t>(MigrationCause::kPrefetch)].bytes;
  }
  if (known.device_to_host) totals->set_evicted_bytes(RoundToBytes(evicted));
  if (known.any_migration()) totals->set_prefetched_ahead_bytes(RoundToBytes(prefetched));
  if (known.remote_map) totals->set_remote_mapped_bytes(regions.remote_mapped_bytes);
  if (known.thrashing) totals->set_thrashing_events(regions.thrashing_events);
  if (known.throttling) totals->set_throttling_events(regions.throttling_events);
  if (known.fatal_faults) totals->set_fatal_faults(regions.fatal_faults);
  if (known.read_duplication) {
    totals->set_read_duplicated_bytes(regions.read_duplicated_bytes);
    totals->set_read_duplicate_invalidated_bytes(regions.read_duplicate_invalidated_bytes);
  }
  if (!known.estimated) return;
  if (between) totals->add_estimated("device_to_device_bytes");
  if (known.device_to_host) totals->add_estimated("evicted_bytes");
  totals->add_estimated("prefetched_ahead_bytes");
  if (!exact.known || !exact.all_processes) {
    totals->add_estimated("host_to_device_bytes");
    totals->add_estimated("device_to_host_bytes");
  }
}

void AddMigrations(const Run& run, const Knowledge& known, const Sums& sums, Report* report) {
  for (size_t direction = 0; direction < kDirectionCount; ++direction) {
    Rounder rounder;
    for (size_t cause = 0; cause < kMigrationCauseCount; ++cause) {
      const CauseSums& sum = sums[direction][cause];
      if (sum.count == 0 && sum.bytes == 0) continue;
      MigrationRow* row = report->add_migrations();
      row->set_direction(DirectionName(static_cast<Direction>(direction)));
      row->set_cause(CauseName(static_cast<MigrationCause>(cause)));
      row->set_bytes(rounder.Next(sum.bytes));
      if (sum.count > 0) row->set_count(RoundToBytes(sum.count));
      if (sum.recorded_busy_ns > 0) {
        row->set_busy_ns(RoundToBytes(sum.busy_ns));
        row->set_bytes_per_second(static_cast<double>(sum.recorded) * 1e9 / static_cast<double>(sum.recorded_busy_ns));
      }
      if (!sum.estimated) continue;
      row->set_estimated(true);
      row->set_low_bytes(RoundToBytes(sum.low_bytes));
      row->set_high_bytes(RoundToBytes(sum.high_bytes));
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
  if (known.refaults()) oversubscription->set_refaulted_bytes(sum.refaulted_bytes);
  if (report->totals().has_evicted_bytes()) oversubscription->set_evicted_bytes(report->totals().evicted_bytes());
  if (known.estimated) oversubscription->set_estimated(true);
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
  Sums sums;
  for (const auto& process : run) AddProcess(*process, &sums);
  AddTotals(run, known, sums, report->mutable_totals());
  if (report->totals().gpu_fault_records() == 0 && report->totals().gpu_fault_entries() == 0 &&
      report->totals().cpu_faults() == 0 && report->totals().gpu_faults() == 0) {
    AddEmptySection("faults", WhyNoUnifiedMemoryEvents(run, "cupti.gpu_page_faults"), report);
  }
  AddMigrations(run, known, sums, report);
  AddOversubscription(run, known, report);
}

}  // namespace uvmtrace::analyzer
