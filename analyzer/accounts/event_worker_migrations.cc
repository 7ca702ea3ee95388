// Migrations: added up by direction, cause, memory and kernel, and handed over for residency.
//
// The driver moves a batch's pages one after the other, so a record is like the one before it as a rule: same way, same
// cause, same allocation, same kernel. Such a run is added up at once.
#include <algorithm>

#include "analyzer/accounts/event_worker.h"
#include "analyzer/model/event_values.h"

namespace uvmtrace::analyzer {
namespace {

constexpr uint64_t kMaximumPartBytes = uint64_t{1} << 31;

bool IsByFaults(MigrationCause cause) {
  return cause == MigrationCause::kCoherence || cause == MigrationCause::kPrefetch ||
         cause == MigrationCause::kAccessCounters;
}

size_t OrderOf(uint64_t address) {
  const uint64_t number = address / kBlockBytes;
  return (number ^ number >> 4 ^ number >> 8) % kMigrationOrders;
}

}  // namespace

Direction DirectionOf(int32_t source, int32_t destination) {
  if (source == kCpu && destination >= 0) return Direction::kHostToDevice;
  if (source >= 0 && destination == kCpu) return Direction::kDeviceToHost;
  if (source >= 0 && destination >= 0) return Direction::kDeviceToDevice;
  return Direction::kUnknown;
}

void EventWorker::ReadMigrations(const ColumnBatch& batch, ChunkFindings* findings) {
  const auto source = static_cast<EventSource>(SourceIndex(batch.source));
  sums_.migration_rows += batch.rows;
  if (timeline_.migrations_reconstructed) return;
  sums_.migration_sources[SourceIndex(batch.source)] += batch.rows;
  const auto times = Times(batch, migrations::kStart);
  const auto causes = batch[migrations::kCause];
  const bool sampling = timeline_.detail.starts_sampled || !timeline_.detail.changes.empty();
  const bool in_runs = everything_ && !sampling && sums_.shared_pages.empty();
  for (size_t row = 0; row < batch.rows;) {
    const auto cause =
        causes[row] < kMigrationCauseCount ? static_cast<MigrationCause>(causes[row]) : MigrationCause::kUnknown;
    const MigrationEvent event{times[row],
                               batch[migrations::kDuration][row],
                               batch[migrations::kAddress][row],
                               batch[migrations::kBytes][row],
                               DeviceOrdinal(batch[migrations::kSourceDevice][row]),
                               DeviceOrdinal(batch[migrations::kDestinationDevice][row]),
                               cause};
    AddMigration(event, source, findings);
    // What a prefetch call moved is looked up for each record.
    row = in_runs && cause != MigrationCause::kUser ? AddMigrationsLike(event, batch, times, row, source, findings)
                                                    : row + 1;
  }
}

// Rows after `row`, which has been added as `like`, that differ from it in time, address and size alone. Returns the
// first that does not.
size_t EventWorker::AddMigrationsLike(const MigrationEvent& like, const ColumnBatch& batch,
                                      std::span<const uint64_t> times, size_t row, EventSource source,
                                      ChunkFindings* findings) {
  const auto durations = batch[migrations::kDuration];
  const auto addresses = batch[migrations::kAddress];
  const auto bytes = batch[migrations::kBytes];
  const auto sources = batch[migrations::kSourceDevice];
  const auto destinations = batch[migrations::kDestinationDevice];
  const auto causes = batch[migrations::kCause];
  if (!finder_.Holds(like.address, like.time_ns)) return row + 1;
  const int32_t kernel_device = like.destination >= 0 ? like.destination : like.source;
  IntervalIndex::Cursor* const kernels = kernel_device >= 0 ? &KernelsOf(kernel_device) : nullptr;
  const uint32_t version = finder_.last();
  const CellKey cell{AccountOf(version), kernels == nullptr ? NameSets::kNone : kernels->SetAt(like.time_ns),
                     phases_.SetAt(like.time_ns)};
  const Direction direction = DirectionOf(like.source, like.destination);
  uint64_t moved = 0;
  const size_t begin = row + 1;
  for (row = begin; row < batch.rows; ++row) {
    const uint64_t time_ns = times[row];
    const uint64_t address = addresses[row];
    if (causes[row] != causes[begin - 1] || sources[row] != sources[begin - 1] ||
        destinations[row] != destinations[begin - 1] || !finder_.HoldsAll(address, bytes[row], time_ns) ||
        bytes[row] > kBlockBytes - address % kBlockBytes || !phases_.Holds(time_ns) ||
        (kernels != nullptr && !kernels->Holds(time_ns))) {
      break;
    }
    moved += bytes[row];
    AddBusy(direction, like.cause, time_ns, durations[row], findings);
    if (bytes[row] > 0) AddPart(like, version, cell, time_ns, address, bytes[row], findings);
  }
  if (row == begin) return row;
  CountMigrations(like, source, moved, row - begin, false);
  CountMoved(like, cell, moved, false);
  blocks_left_ = std::min(blocks_left_ + kBlocksOfRecord * (row - begin), kMaximumBlocksAhead);
  return row;
}

void EventWorker::AddMigrations(const std::vector<MigrationEvent>& events, ChunkFindings* findings) {
  findings->Clear();
  sums_.migration_sources[static_cast<size_t>(EventSource::kReconstructed)] += events.size();
  for (const MigrationEvent& event : events) AddMigration(event, EventSource::kReconstructed, findings);
}

// `count` records like this one that moved `bytes` together.
void EventWorker::CountMigrations(const MigrationEvent& like, EventSource source, uint64_t bytes, uint64_t count,
                                  bool sampled) {
  const auto direction = static_cast<size_t>(DirectionOf(like.source, like.destination));
  const uint64_t sampled_bytes = sampled ? bytes : 0;
  MigrationSums& statistics = sums_.migrations[direction][static_cast<size_t>(like.cause)];
  statistics.bytes += bytes;
  statistics.count += count;
  sums_.migrated_by_source[static_cast<size_t>(source)][direction] += bytes;
  if (sampled) {
    statistics.sampled_bytes += bytes;
    statistics.sampled_count += count;
  }
  if (like.destination >= 0 && IsByFaults(like.cause)) {
    DeviceSums& device = DeviceOf(like.destination);
    device.serviced_bytes += bytes;
    device.sampled_arrived_bytes += sampled_bytes;
  }
  if (like.source >= 0 && like.cause == MigrationCause::kEviction) {
    DeviceSums& device = DeviceOf(like.source);
    device.serviced_bytes += bytes;
    device.sampled_evicted_bytes += sampled_bytes;
  }
}

// The part of it that is of one cell.
void EventWorker::CountMoved(const MigrationEvent& like, const CellKey& cell, uint64_t bytes, bool sampled) {
  MemoryActivity& activity = sums_.cells.At(cell);
  const uint64_t sampled_bytes = sampled ? bytes : 0;
  switch (DirectionOf(like.source, like.destination)) {
    case Direction::kHostToDevice:
      activity.host_to_device_bytes += bytes;
      activity.sampled_host_to_device_bytes += sampled_bytes;
      if (like.cause != MigrationCause::kUser) {
        activity.unasked_host_to_device_bytes += bytes;
        activity.sampled_unasked_host_to_device_bytes += sampled_bytes;
      }
      break;
    case Direction::kDeviceToHost:
      activity.device_to_host_bytes += bytes;
      activity.sampled_device_to_host_bytes += sampled_bytes;
      break;
    case Direction::kDeviceToDevice:
      activity.device_to_device_bytes += bytes;
      activity.sampled_device_to_device_bytes += sampled_bytes;
      break;
    case Direction::kUnknown:
      break;
  }
  if (like.cause == MigrationCause::kEviction) {
    activity.evicted_bytes += bytes;
    activity.sampled_evicted_bytes += sampled_bytes;
  }
  if (like.destination >= 0 && IsByFaults(like.cause)) activity.faulted_bytes += bytes;
  if (like.destination >= 0 && like.cause == MigrationCause::kUser) activity.prefetched_bytes += bytes;
}

// Time that copies of this direction and cause were under way.
void EventWorker::AddBusy(Direction direction, MigrationCause cause, uint64_t time_ns, uint64_t duration_ns,
                          ChunkFindings* findings) {
  if (duration_ns == 0) return;
  const uint64_t end_ns = SaturatingAdd(time_ns, duration_ns);
  ChunkFindings::Busy* const last = findings->busy.empty() ? nullptr : &findings->busy.back();
  if (last != nullptr && last->direction == static_cast<uint8_t>(direction) &&
      last->cause == static_cast<uint8_t>(cause) && time_ns >= last->start_ns && time_ns <= last->end_ns) {
    last->end_ns = std::max(last->end_ns, end_ns);
  } else {
    findings->busy.push_back({static_cast<uint8_t>(direction), static_cast<uint8_t>(cause), time_ns, end_ns});
  }
}

// A part that lies in one block.
void EventWorker::AddPart(const MigrationEvent& like, uint32_t version, const CellKey& cell, uint64_t time_ns,
                          uint64_t address, uint64_t bytes, ChunkFindings* findings) {
  if (version != AllocationVersions::kNone) sums_.touched.Touch(address, version, cell.account);
  findings->migrated[OrderOf(address)].push_back({time_ns, address, static_cast<uint32_t>(bytes), version, cell,
                                                  static_cast<int16_t>(like.source),
                                                  static_cast<int16_t>(like.destination), like.cause});
}

void EventWorker::CountPrefetched(const MigrationEvent& event, uint32_t version, uint64_t address, uint64_t part) {
  const uint32_t call = timeline_.prefetches.Find(version, event.time_ns, address, event.destination);
  if (call == PrefetchCalls::kNone) return;
  if (sums_.prefetched.bytes.empty()) {
    sums_.prefetched.bytes.resize(timeline_.prefetches.size());
    sums_.prefetched.ns.resize(timeline_.prefetches.size());
  }
  sums_.prefetched.bytes[call] += part;
  // A record over several allocations is shared out by bytes.
  sums_.prefetched.ns[call] +=
      event.bytes == part ? event.duration_ns
                          : static_cast<uint64_t>(static_cast<double>(event.duration_ns) * static_cast<double>(part) /
                                                  static_cast<double>(event.bytes));
}

void EventWorker::AddMigration(const MigrationEvent& event, EventSource source, ChunkFindings* findings) {
  if (!Wanted(event.time_ns)) return;
  const Direction direction = DirectionOf(event.source, event.destination);
  const bool sampled = !timeline_.migrations_reconstructed &&
                       (timeline_.detail.starts_sampled || !timeline_.detail.changes.empty()) &&
                       timeline_.detail.IsSampled(event.time_ns);
  CountMigrations(event, source, event.bytes, 1, sampled);
  if (sampled)
    sums_.sampled.Add(event.time_ns, static_cast<size_t>(direction), static_cast<size_t>(event.cause), event.bytes);
  AddBusy(direction, event.cause, event.time_ns, event.duration_ns, findings);
  if (!sums_.shared_pages.empty()) {
    for (uint64_t offset = 0; offset < std::min(event.bytes, kBlockBytes); offset += SharedPages::kPageBytes) {
      if (SharedPageSums* page = SharedPageAt(event.address + offset)) page->bytes += SharedPages::kPageBytes;
    }
  }
  const int32_t kernel_device = event.destination >= 0 ? event.destination : event.source;
  CellKey cell;
  cell.kernels = kernel_device >= 0 ? KernelsOf(kernel_device).SetAt(event.time_ns) : NameSets::kNone;
  cell.phases = phases_.SetAt(event.time_ns);
  finder_.Split(event.address, event.bytes, event.time_ns, [&](uint32_t version, uint64_t address, uint64_t part) {
    cell.account = AccountOf(version);
    CountMoved(event, cell, part, sampled);
    if (event.cause == MigrationCause::kUser && version != AllocationVersions::kNone)
      CountPrefetched(event, version, address, part);
    uint64_t left = std::min(part, kMaximumPartBytes);
    blocks_left_ = std::min(blocks_left_ + kBlocksOfRecord, kMaximumBlocksAhead);
    for (; left > 0 && blocks_left_ > 0; --blocks_left_) {
      const uint64_t in_block = std::min(left, kBlockBytes - address % kBlockBytes);
      AddPart(event, version, cell, event.time_ns, address, in_block, findings);
      address += in_block;
      left -= in_block;
    }
  });
}

}  // namespace uvmtrace::analyzer
