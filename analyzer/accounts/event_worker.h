// One thread's share of the events: decodes chunks, looks each event up in the timeline, adds it up.
//
// Workers share nothing that changes. What has to be seen in order (batches that span chunks, what migrated when) is
// handed over chunk by chunk in a ChunkFindings, which whoever drives the workers takes in the order of the file.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "analyzer/accounts/event_sums.h"
#include "analyzer/accounts/kernel_touches.h"
#include "analyzer/accounts/migration_order.h"
#include "analyzer/accounts/service_batches.h"
#include "analyzer/read/chunk.h"
#include "analyzer/timeline/migration_event.h"
#include "analyzer/timeline/timeline.h"

namespace uvmtrace::analyzer {

// Blocks are dealt out to so many orders, whatever the number of threads, so that a report does not depend on it.
inline constexpr size_t kMigrationOrders = 16;

struct ChunkFindings {
  // Consecutive faults of one batch.
  struct Piece {
    int32_t device = 0;
    bool by_end = false;  // CUPTI
    uint32_t number = 0;
    uint64_t first = 0;  // in the clock of the records
    uint64_t end = 0;
    uint64_t faults = 0;
    uint32_t first_share = 0;
    uint32_t shares = 0;
  };
  struct Replay {
    int32_t device = 0;
    uint32_t number = 0;
    uint64_t time = 0;
  };
  // Copies of one direction and cause, overlapping ones merged.
  struct Busy {
    uint8_t direction = 0;
    uint8_t cause = 0;
    uint64_t start_ns = 0;
    uint64_t end_ns = 0;
  };
  std::vector<Piece> pieces;
  std::vector<BatchShare> shares;
  std::vector<Replay> replays;
  std::vector<Busy> busy;
  std::vector<KernelTouch> touches;
  std::array<std::vector<MigratedPart>, kMigrationOrders> migrated;

  void Clear();
};

Direction DirectionOf(int32_t source, int32_t destination);

// What a trace calls its source can only be one that records.
inline size_t SourceIndex(uint32_t source) {
  return source < static_cast<uint32_t>(EventSource::kReconstructed) ? source : 0;
}

class EventWorker {
 public:
  // The timeline must be sealed and outlive the worker. `sampled` has the windows.
  EventWorker(const Timeline& timeline, const SampledMigrations& sampled, const TableBounds& bounds = {});

  // The fields of a chunk that was checked before. Bytes that are no chunk after all are left out.
  void Read(std::string_view fields, ChunkFindings* findings);
  // Migrations that no chunk has: those that were reconstructed.
  void AddMigrations(const std::vector<MigrationEvent>& events, ChunkFindings* findings);

  const EventSums& sums() const { return sums_; }

 private:
  // A record is of one block as a rule. Damage may claim any number of blocks: beyond this many, or so many for each
  // record, residency is not told.
  static constexpr uint64_t kMaximumBlocksAhead = uint64_t{1} << 18;
  static constexpr uint64_t kBlocksOfRecord = 16;

  struct Place {
    uint32_t version;
    CellKey cell;
  };

  uint64_t Monotonic(TimeBase clock, uint64_t time_ns);
  // A column of times, converted. Valid until the next call.
  std::span<const uint64_t> Times(const ColumnBatch& batch, size_t column);
  bool Wanted(uint64_t time_ns) {
    if (everything_ || timeline_.filter.Has(time_ns)) return true;
    ++sums_.filtered_rows;
    return false;
  }
  uint32_t AccountOf(uint32_t version) const {
    return version == AllocationVersions::kNone ? 0 : (*timeline_.versions)[version].account;
  }
  IntervalIndex::Cursor& KernelsOf(int32_t device);
  DeviceSums& DeviceOf(int32_t ordinal);
  Place PlaceOf(uint64_t address, uint64_t time_ns, int32_t device);
  void Use(uint32_t version, uint64_t time_ns);
  // Touches of the CPU while a kernel runs.
  void SeeTouch(const KernelTouch& touch, ChunkFindings* findings);
  // Null if no page there is shared.
  SharedPageSums* SharedPageAt(uint64_t address) {
    if (sums_.shared_pages.empty()) return nullptr;
    const uint32_t page = timeline_.shared_pages.At(address);
    return page == SharedPages::kNone ? nullptr : &sums_.shared_pages[page];
  }
  void ReadGpuFaults(const ColumnBatch& batch, ChunkFindings* findings);
  void ReadReplays(const ColumnBatch& batch, ChunkFindings* findings);
  void ReadCpuFaults(const ColumnBatch& batch, ChunkFindings* findings);
  void ReadMigrations(const ColumnBatch& batch, ChunkFindings* findings);
  void ReadRegionEvents(const ColumnBatch& batch);
  void AddMigration(const MigrationEvent& event, EventSource source, ChunkFindings* findings);
  size_t AddMigrationsLike(const MigrationEvent& like, const ColumnBatch& batch, std::span<const uint64_t> times,
                           size_t row, EventSource source, ChunkFindings* findings);
  void CountMigrations(const MigrationEvent& like, EventSource source, uint64_t bytes, uint64_t count, bool sampled);
  void CountMoved(const MigrationEvent& like, const CellKey& cell, uint64_t bytes, bool sampled);
  void CountPrefetched(const MigrationEvent& event, uint32_t version, uint64_t address, uint64_t part);
  void AddBusy(Direction direction, MigrationCause cause, uint64_t time_ns, uint64_t duration_ns,
               ChunkFindings* findings);
  void AddPart(const MigrationEvent& like, uint32_t version, const CellKey& cell, uint64_t time_ns, uint64_t address,
               uint64_t bytes, ChunkFindings* findings);
  void ClosePiece(ChunkFindings* findings);

  // A cell of the piece that is being put together.
  struct PieceCell {
    CellKey cell;
    std::array<uint32_t, kAccessCount> entries{};
    uint32_t records = 0;
    uint64_t groups = 0;
  };
  PieceCell& CellOfPiece(const CellKey& key, ChunkFindings* findings);

  const Timeline& timeline_;
  AllocationVersions::Finder finder_;
  ClockConverter clocks_;
  IntervalIndex::Cursor phases_;
  std::map<int32_t, IntervalIndex::Cursor> kernels_;
  int32_t last_kernels_device_ = kUnknownDevice;
  IntervalIndex::Cursor* last_kernels_ = nullptr;
  int32_t last_device_ = kUnknownDevice;
  DeviceSums* last_device_sums_ = nullptr;
  const bool everything_;
  uint64_t blocks_left_ = kMaximumBlocksAhead;
  uint64_t last_time_ns_ = 0;
  ChunkFindings::Piece piece_;
  bool piece_open_ = false;
  std::vector<PieceCell> piece_cells_;
  ColumnBatch batch_;
  std::vector<uint64_t> times_;
  EventSums sums_;
};

}  // namespace uvmtrace::analyzer
