#include "analyzer/findings/estimate.h"

#include <algorithm>

#include "analyzer/findings/sections.h"
#include "analyzer/timeline/windows_detail.h"

namespace uvmtrace::analyzer {
namespace {

constexpr std::array<const char*, kDirectionCount> kCounterNames = {"cupti.htod_bytes", "cupti.dtoh_bytes",
                                                                    "cupti.dtod_bytes", ""};

// While sampling, until the end of the trace.
uint64_t SampledSpan(const ProcessModel& process) {
  if (!process.process) return 0;
  uint64_t span_ns = 0;
  bool in_sample = InWindowsOnly(process.process->detail);
  uint64_t since_ns = process.process->started_ns;
  for (const DetailChangeDefinition& change : process.detail_changes) {
    if (in_sample && change.time_ns > since_ns) span_ns += change.time_ns - since_ns;
    in_sample = InWindowsOnly(change.detail);
    since_ns = change.time_ns;
  }
  if (in_sample && process.last_ns > since_ns) span_ns += process.last_ns - since_ns;
  return span_ns;
}

}  // namespace

ProcessBytes BytesOfProcess(const ProcessModel& process) {
  const Knowledge known = WhatIsKnown(process);
  const bool counters = HasCounters(process);
  const std::array<bool, kDirectionCount> recorded = {known.host_to_device, known.device_to_host,
                                                      known.device_to_device, known.any_migration()};
  const std::array<uint64_t, kDirectionCount> exact = {process.counters.host_to_device_bytes,
                                                       process.counters.device_to_host_bytes, 0, 0};
  ProcessBytes bytes;
  bytes.estimated = known.estimated;
  for (size_t index = 0; index < kDirectionCount; ++index) {
    DirectionBytes& direction = bytes.directions[index];
    const bool counted = counters && index < 2;
    direction.recorded = recorded[index];
    for (const MigrationStatistics& cause : process.migrations[index]) {
      direction.captured += cause.bytes;
      direction.captured_sampled += cause.sampled_bytes;
    }
    if (!recorded[index]) {
      if (!counted) continue;
      direction.total = exact[index];
      direction.from = BytesFrom::kExactCounters;
      continue;
    }
    const auto queue_bytes = process.migrated_by_source[static_cast<size_t>(EventSource::kDriverQueue)][index];
    const bool queue = queue_bytes > 0 || (QueueFeedsMigrations(process) && !CuptiFeeds(process, kCounterNames[index]));
    direction.total = direction.captured;
    direction.from = process.reconstruction ? BytesFrom::kReconstructed
                     : queue                ? BytesFrom::kDriverQueue
                                            : BytesFrom::kCupti;
    if (process.reconstruction && counted && exact[index] > direction.captured) {
      // What the faults do not explain has moved all the same; whose it was is not known.
      direction.total = exact[index];
      direction.from = BytesFrom::kExactCounters;
      direction.unsampled = exact[index] - direction.captured;
      continue;
    }
    if (!known.estimated) continue;
    const uint64_t full = direction.captured - direction.captured_sampled;
    if (counted) {
      direction.total = std::max(exact[index], direction.captured);
      direction.from = BytesFrom::kExactCounters;
      const uint64_t rest = *direction.total - full;
      if (direction.captured_sampled > 0) {
        direction.scale = static_cast<long double>(rest) / static_cast<long double>(direction.captured_sampled);
      } else {
        direction.unsampled = rest;
      }
    } else if (const uint64_t windows_ns = process.sampled.windows_ns(); windows_ns > 0) {
      // No counter of this direction: time is all there is to scale by.
      const auto span = static_cast<long double>(SampledSpan(process));
      direction.scale = std::max<long double>(1, span / static_cast<long double>(windows_ns));
      direction.total = full + RoundToBytes(static_cast<long double>(direction.captured_sampled) * direction.scale);
    }
  }
  return bytes;
}

MemoryActivity ActivityScaler::Scale(const MemoryActivity& recorded) {
  if (!bytes_.estimated) return recorded;
  MemoryActivity scaled = recorded;
  const auto scale = [](uint64_t* bytes, uint64_t sampled, const DirectionBytes& direction, Rounder* rounder) {
    *bytes = *bytes - sampled + rounder->Next(static_cast<long double>(sampled) * direction.scale);
  };
  scale(&scaled.host_to_device_bytes, recorded.sampled_host_to_device_bytes, bytes_.of(Direction::kHostToDevice),
        &rounders_[0]);
  scale(&scaled.device_to_host_bytes, recorded.sampled_device_to_host_bytes, bytes_.of(Direction::kDeviceToHost),
        &rounders_[1]);
  scale(&scaled.device_to_device_bytes, recorded.sampled_device_to_device_bytes, bytes_.of(Direction::kDeviceToDevice),
        &rounders_[2]);
  scale(&scaled.evicted_bytes, recorded.sampled_evicted_bytes, bytes_.of(Direction::kDeviceToHost), &rounders_[3]);
  return scaled;
}

}  // namespace uvmtrace::analyzer
