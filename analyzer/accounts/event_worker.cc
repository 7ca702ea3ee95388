#include "analyzer/accounts/event_worker.h"

#include <algorithm>
#include <protozero/exception.hpp>

#include "analyzer/model/event_values.h"

namespace uvmtrace::analyzer {
namespace {

constexpr auto kQueue = static_cast<uint32_t>(EventSource::kDriverQueue);
constexpr uint64_t kMaximumPartBytes = uint64_t{1} << 31;
// A record is of one block as a rule. Damage may claim any number of blocks: beyond this many, or so many for each
// record, residency is not told.
constexpr uint64_t kMaximumBlocksAhead = uint64_t{1} << 18;
constexpr uint64_t kBlocksOfRecord = 16;

constexpr ColumnMask Columns(std::initializer_list<int> columns) {
  ColumnMask mask = 0;
  for (const int column : columns) mask |= ColumnMask{1} << column;
  return mask;
}

// Why a GPU's access failed, what kind of unit it came from: nothing in the report needs them.
constexpr ColumnMask kFaultColumns =
    Columns({gpu_faults::kStart, gpu_faults::kDuration, gpu_faults::kAddress, gpu_faults::kDevice, gpu_faults::kAccess,
             gpu_faults::kGroups, gpu_faults::kBatch});

}  // namespace

Direction DirectionOf(int32_t source, int32_t destination) {
  if (source == kCpu && destination >= 0) return Direction::kHostToDevice;
  if (source >= 0 && destination == kCpu) return Direction::kDeviceToHost;
  if (source >= 0 && destination >= 0) return Direction::kDeviceToDevice;
  return Direction::kUnknown;
}

void ChunkFindings::Clear() {
  pieces.clear();
  shares.clear();
  replays.clear();
  busy.clear();
  touches.clear();
  for (auto& rows : migrated) rows.clear();
}

EventWorker::EventWorker(const Timeline& timeline, const SampledMigrations& sampled)
    : timeline_(timeline),
      finder_(timeline.versions),
      clocks_(timeline.clocks),
      phases_(&timeline.phases),
      everything_(timeline.filter.everything()),
      blocks_left_(kMaximumBlocksAhead) {
  sums_.sampled = sampled;
  sums_.shared_pages.resize(timeline.shared_pages.pages().size());
}

uint64_t EventWorker::Monotonic(TimeBase clock, uint64_t time_ns) {
  if (const auto converted = clocks_.ToMonotonic(clock, time_ns)) return last_time_ns_ = *converted;
  // A time of another clock says nothing: the newest known one is nearer to the truth.
  ++sums_.unconverted_times;
  return last_time_ns_;
}

std::span<const uint64_t> EventWorker::Times(const ColumnBatch& batch, size_t column) {
  const std::span<const uint64_t> recorded = batch[column];
  if (times_.size() < recorded.size()) times_.resize(recorded.size());
  for (size_t row = 0; row < recorded.size(); ++row) times_[row] = Monotonic(batch.clock, recorded[row]);
  return {times_.data(), recorded.size()};
}

IntervalIndex::Cursor& EventWorker::KernelsOf(int32_t device) {
  if (last_kernels_ == nullptr || device != last_kernels_device_) {
    auto known = kernels_.find(device);
    if (known == kernels_.end()) {
      const auto index = timeline_.kernels.find(device);
      known =
          kernels_.emplace(device, IntervalIndex::Cursor(index == timeline_.kernels.end() ? nullptr : &index->second))
              .first;
    }
    last_kernels_ = &known->second;
    last_kernels_device_ = device;
  }
  return *last_kernels_;
}

DeviceSums& EventWorker::DeviceOf(int32_t ordinal) {
  if (last_device_sums_ == nullptr || ordinal != last_device_) {
    last_device_sums_ = &sums_.devices[ordinal];
    last_device_ = ordinal;
  }
  return *last_device_sums_;
}

EventWorker::Place EventWorker::PlaceOf(uint64_t address, uint64_t time_ns, int32_t device) {
  const uint32_t version = finder_.Find(address, time_ns);
  const uint32_t kernels = device >= 0 ? KernelsOf(device).SetAt(time_ns) : NameSets::kNone;
  return {version, {AccountOf(version), kernels, phases_.SetAt(time_ns)}};
}

void EventWorker::Use(uint32_t version, uint64_t time_ns) {
  if (version == AllocationVersions::kNone) return;
  const uint32_t followed = (*timeline_.versions)[version].followed;
  if (followed == 0) return;
  if (sums_.last_use_ns.size() <= followed) sums_.last_use_ns.resize(followed + 1);
  sums_.last_use_ns[followed] = std::max(sums_.last_use_ns[followed], time_ns);
}

void EventWorker::Read(std::string_view fields, ChunkFindings* findings) {
  findings->Clear();
  try {
    ForEachColumns(fields, [&](EventKind kind, std::string_view message) {
      switch (kind) {
        case EventKind::kGpuFaults:
          DecodeColumns(kind, message, &batch_, kFaultColumns);
          return ReadGpuFaults(batch_, findings);
        case EventKind::kReplays:
          DecodeColumns(kind, message, &batch_, Columns({replays::kTime, replays::kDevice, replays::kBatch}));
          return ReadReplays(batch_, findings);
        case EventKind::kCpuFaults:
          DecodeColumns(kind, message, &batch_,
                        Columns({cpu_faults::kStart, cpu_faults::kAddress, cpu_faults::kPc, cpu_faults::kAccess,
                                 cpu_faults::kTid}));
          return ReadCpuFaults(batch_, findings);
        case EventKind::kMigrations:
          DecodeColumns(kind, message, &batch_);
          return ReadMigrations(batch_, findings);
        case EventKind::kRegionEvents:
          DecodeColumns(kind, message, &batch_);
          return ReadRegionEvents(batch_);
        default:
          return;
      }
    });
  } catch (const ColumnError&) {
    // The chunk was whole when the timeline was read: somebody writes into the file. What was read of it stays.
  } catch (const protozero::exception&) {
  }
  ClosePiece(findings);
}

void EventWorker::ClosePiece(ChunkFindings* findings) {
  if (!piece_open_) return;
  piece_open_ = false;
  DeviceSums& device = DeviceOf(piece_.device);
  piece_.first_share = static_cast<uint32_t>(findings->shares.size());
  piece_.shares = static_cast<uint32_t>(piece_cells_.size());
  for (const PieceCell& part : piece_cells_) {
    MemoryActivity& activity = sums_.cells.At(part.cell);
    uint32_t entries = 0;
    for (size_t access = 0; access < kAccessCount; ++access) {
      entries += part.entries[access];
      activity.accesses[access] += part.entries[access];
      device.entries[access] += part.entries[access];
    }
    activity.gpu_fault_entries += entries;
    activity.gpu_fault_records += part.records;
    activity.gpu_fault_groups += part.groups;
    device.fault_records += part.records;
    device.fault_groups += part.groups;
    findings->shares.push_back({part.cell, entries + part.records});
  }
  if (piece_.faults > 0) findings->pieces.push_back(piece_);
  piece_cells_.clear();
}

void EventWorker::ReadGpuFaults(const ColumnBatch& batch, ChunkFindings* findings) {
  const auto starts = batch[gpu_faults::kStart];
  const auto durations = batch[gpu_faults::kDuration];
  const auto addresses = batch[gpu_faults::kAddress];
  const auto devices = batch[gpu_faults::kDevice];
  const auto accesses = batch[gpu_faults::kAccess];
  const auto groups = batch[gpu_faults::kGroups];
  const auto numbers = batch[gpu_faults::kBatch];
  const bool queue = batch.source == kQueue;
  sums_.gpu_fault_sources[SourceIndex(batch.source)] += batch.rows;
  sums_.gpu_fault_rows += batch.rows;
  ClosePiece(findings);
  const auto times = Times(batch, gpu_faults::kStart);
  const auto access_of = [&](size_t row) { return accesses[row] < kAccessCount ? accesses[row] : 0; };
  for (size_t row = 0, end; row < batch.rows; row = end) {
    end = row + 1;
    const uint64_t time_ns = times[row];
    if (!Wanted(time_ns)) continue;
    const uint64_t address = addresses[row];
    const int32_t device = DeviceOrdinal(devices[row]);
    const Place place = PlaceOf(address, time_ns, device);
    const uint64_t end_of_fault = queue ? 0 : SaturatingAdd(starts[row], durations[row]);
    const auto number = static_cast<uint32_t>(numbers[row]);
    const bool same = piece_open_ && piece_.device == device && piece_.by_end != queue &&
                      (queue ? piece_.number == number : piece_.end == end_of_fault);
    if (!same) {
      ClosePiece(findings);
      piece_ = {};
      piece_.device = device;
      piece_.by_end = !queue;
      piece_.number = number;
      piece_.first = starts[row];
      piece_.end = end_of_fault;
      piece_open_ = true;
    }
    PieceCell& cell = CellOfPiece(place.cell, findings);
    uint64_t first = starts[row];
    uint64_t newest_ns = time_ns;
    if (queue) {
      ++cell.entries[access_of(row)];
      // The driver sorts a batch by address, so the entries that follow are of the same block of the same allocation as
      // a rule: only what differs in them is looked at.
      if (everything_ && finder_.Holds(address, time_ns)) {
        const IntervalIndex::Cursor* kernels = device >= 0 ? &KernelsOf(device) : nullptr;
        for (; end < batch.rows && numbers[end] == numbers[row] && devices[end] == devices[row] &&
               addresses[end] / kBlockBytes == address / kBlockBytes && finder_.Holds(addresses[end], times[end]) &&
               phases_.Holds(times[end]) && (kernels == nullptr || kernels->Holds(times[end]));
             ++end) {
          first = std::min(first, starts[end]);
          newest_ns = std::max(newest_ns, times[end]);
          ++cell.entries[access_of(end)];
        }
      }
      piece_.faults += end - row;
    } else {
      ++cell.records;
      cell.groups += groups[row];
      if (durations[row] != 0) {
        ++piece_.faults;
      } else {
        ++sums_.faults_without_end;
      }
    }
    piece_.first = std::min(piece_.first, first);
    if (place.version != AllocationVersions::kNone) {
      sums_.touched.Touch(address, place.version, place.cell.account);
      Use(place.version, newest_ns);
    }
    if (sums_.shared_pages.empty()) continue;
    for (size_t i = row; i < end; ++i) {
      if (SharedPageSums* page = SharedPageAt(addresses[i])) ++page->gpu_faults;
    }
  }
  ClosePiece(findings);
}

EventWorker::PieceCell& EventWorker::CellOfPiece(const CellKey& key, ChunkFindings* findings) {
  for (size_t i = piece_cells_.size(); i-- > 0;) {
    if (piece_cells_[i].cell == key) return piece_cells_[i];
  }
  // Damage can make every fault of a batch a cell of its own.
  constexpr size_t kMaximumPieceCells = 256;
  if (piece_cells_.size() >= kMaximumPieceCells) {
    const ChunkFindings::Piece open = piece_;
    ClosePiece(findings);
    piece_ = open;
    piece_.faults = 0;
    piece_open_ = true;
  }
  PieceCell& cell = piece_cells_.emplace_back();
  cell.cell = key;
  return cell;
}

void EventWorker::ReadMigrations(const ColumnBatch& batch, ChunkFindings* findings) {
  const auto source = static_cast<EventSource>(SourceIndex(batch.source));
  sums_.migration_rows += batch.rows;
  if (timeline_.migrations_reconstructed) return;
  sums_.migration_sources[SourceIndex(batch.source)] += batch.rows;
  const auto times = Times(batch, migrations::kStart);
  const auto durations = batch[migrations::kDuration];
  const auto addresses = batch[migrations::kAddress];
  const auto bytes = batch[migrations::kBytes];
  const auto sources = batch[migrations::kSourceDevice];
  const auto destinations = batch[migrations::kDestinationDevice];
  const auto causes = batch[migrations::kCause];
  for (size_t row = 0; row < batch.rows; ++row) {
    const auto cause =
        causes[row] < kMigrationCauseCount ? static_cast<MigrationCause>(causes[row]) : MigrationCause::kUnknown;
    AddMigration({times[row], durations[row], addresses[row], bytes[row], DeviceOrdinal(sources[row]),
                  DeviceOrdinal(destinations[row]), cause},
                 source, findings);
  }
}

void EventWorker::AddMigrations(const std::vector<MigrationEvent>& events, ChunkFindings* findings) {
  findings->Clear();
  sums_.migration_sources[static_cast<size_t>(EventSource::kReconstructed)] += events.size();
  for (const MigrationEvent& event : events) AddMigration(event, EventSource::kReconstructed, findings);
}

void EventWorker::AddMigration(const MigrationEvent& event, EventSource event_source, ChunkFindings* findings) {
  if (!Wanted(event.time_ns)) return;
  const Direction direction = DirectionOf(event.source, event.destination);
  const auto direction_index = static_cast<size_t>(direction);
  const auto cause_index = static_cast<size_t>(event.cause);
  const bool sampled = !timeline_.migrations_reconstructed &&
                       (timeline_.detail.starts_sampled || !timeline_.detail.changes.empty()) &&
                       timeline_.detail.IsSampled(event.time_ns);
  const uint64_t sampled_bytes = sampled ? event.bytes : 0;

  MigrationSums& statistics = sums_.migrations[direction_index][cause_index];
  statistics.bytes += event.bytes;
  ++statistics.count;
  sums_.migrated_by_source[static_cast<size_t>(event_source)][direction_index] += event.bytes;
  if (sampled) {
    statistics.sampled_bytes += event.bytes;
    ++statistics.sampled_count;
    sums_.sampled.Add(event.time_ns, direction_index, cause_index, event.bytes);
  }
  if (event.duration_ns > 0) {
    const uint64_t end_ns = SaturatingAdd(event.time_ns, event.duration_ns);
    ChunkFindings::Busy* last = findings->busy.empty() ? nullptr : &findings->busy.back();
    if (last != nullptr && last->direction == direction_index && last->cause == cause_index &&
        event.time_ns >= last->start_ns && event.time_ns <= last->end_ns) {
      last->end_ns = std::max(last->end_ns, end_ns);
    } else {
      findings->busy.push_back(
          {static_cast<uint8_t>(direction_index), static_cast<uint8_t>(cause_index), event.time_ns, end_ns});
    }
  }

  const bool by_faults = event.cause == MigrationCause::kCoherence || event.cause == MigrationCause::kPrefetch ||
                         event.cause == MigrationCause::kAccessCounters;
  if (event.destination >= 0 && by_faults) {
    DeviceSums& device = DeviceOf(event.destination);
    device.serviced_bytes += event.bytes;
    device.sampled_arrived_bytes += sampled_bytes;
  }
  if (event.source >= 0 && event.cause == MigrationCause::kEviction) {
    DeviceSums& device = DeviceOf(event.source);
    device.serviced_bytes += event.bytes;
    device.sampled_evicted_bytes += sampled_bytes;
  }

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
    MemoryActivity& activity = sums_.cells.At(cell);
    const uint64_t sampled_part = sampled ? part : 0;
    switch (direction) {
      case Direction::kHostToDevice:
        activity.host_to_device_bytes += part;
        activity.sampled_host_to_device_bytes += sampled_part;
        if (event.cause != MigrationCause::kUser) {
          activity.unasked_host_to_device_bytes += part;
          activity.sampled_unasked_host_to_device_bytes += sampled_part;
        }
        break;
      case Direction::kDeviceToHost:
        activity.device_to_host_bytes += part;
        activity.sampled_device_to_host_bytes += sampled_part;
        break;
      case Direction::kDeviceToDevice:
        activity.device_to_device_bytes += part;
        activity.sampled_device_to_device_bytes += sampled_part;
        break;
      case Direction::kUnknown:
        break;
    }
    if (event.cause == MigrationCause::kEviction) {
      activity.evicted_bytes += part;
      activity.sampled_evicted_bytes += sampled_part;
    }
    if (event.destination >= 0 && by_faults) activity.faulted_bytes += part;
    if (event.destination >= 0 && event.cause == MigrationCause::kUser) activity.prefetched_bytes += part;
    if (event.cause == MigrationCause::kUser && version != AllocationVersions::kNone) {
      const uint32_t call = timeline_.prefetches.Find(version, event.time_ns, address, event.destination);
      if (call != PrefetchCalls::kNone) {
        if (sums_.prefetched.bytes.empty()) {
          sums_.prefetched.bytes.resize(timeline_.prefetches.size());
          sums_.prefetched.ns.resize(timeline_.prefetches.size());
        }
        sums_.prefetched.bytes[call] += part;
        // A record over several allocations is shared out by bytes.
        sums_.prefetched.ns[call] +=
            event.bytes == part ? event.duration_ns
                                : static_cast<uint64_t>(static_cast<double>(event.duration_ns) *
                                                        static_cast<double>(part) / static_cast<double>(event.bytes));
      }
    }
    uint64_t left = std::min(part, kMaximumPartBytes);
    blocks_left_ = std::min(blocks_left_ + kBlocksOfRecord, kMaximumBlocksAhead);
    for (; left > 0 && blocks_left_ > 0; --blocks_left_) {
      const uint64_t in_block = std::min(left, kBlockBytes - address % kBlockBytes);
      if (version != AllocationVersions::kNone) sums_.touched.Touch(address, version, cell.account);
      const uint64_t number = address / kBlockBytes;
      findings->migrated[(number ^ number >> 4 ^ number >> 8) % kMigrationOrders].push_back(
          {event.time_ns, address, static_cast<uint32_t>(in_block), version, cell, static_cast<int16_t>(event.source),
           static_cast<int16_t>(event.destination), event.cause});
      address += in_block;
      left -= in_block;
    }
  });
}

}  // namespace uvmtrace::analyzer
