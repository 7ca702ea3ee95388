#include "analyzer/accounts/event_worker.h"

#include <algorithm>
#include <protozero/exception.hpp>

#include "analyzer/model/event_values.h"

namespace uvmtrace::analyzer {
namespace {

constexpr auto kQueue = static_cast<uint32_t>(EventSource::kDriverQueue);
constexpr ColumnMask Columns(std::initializer_list<int> columns) {
  ColumnMask mask = 0;
  for (const int column : columns) mask |= ColumnMask{1} << column;
  return mask;
}

// Why a GPU's access failed, what kind of unit it came from: nothing in the report needs them.
constexpr ColumnMask kQueueFaultColumns =
    Columns({gpu_faults::kStart, gpu_faults::kAddress, gpu_faults::kDevice, gpu_faults::kAccess, gpu_faults::kBatch});
constexpr ColumnMask kFaultColumns = kQueueFaultColumns | Columns({gpu_faults::kDuration, gpu_faults::kGroups});

}  // namespace

void ChunkFindings::Clear() {
  pieces.clear();
  shares.clear();
  replays.clear();
  busy.clear();
  touches.clear();
  for (auto& rows : migrated) rows.clear();
}

EventWorker::EventWorker(const Timeline& timeline, const SampledMigrations& sampled, const TableBounds& bounds)
    : timeline_(timeline),
      finder_(timeline.versions),
      clocks_(timeline.clocks),
      phases_(&timeline.phases),
      everything_(timeline.filter.everything()),
      sums_(bounds) {
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
  sums_.unconverted_times += clocks_.ToMonotonic(batch.clock, recorded, &last_time_ns_, times_.data());
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
          DecodeColumns(kind, message, &batch_, SourceOf(kind, message) == kQueue ? kQueueFaultColumns : kFaultColumns);
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

}  // namespace uvmtrace::analyzer
