// Migrations of some blocks, put into the order of time before residency is told from them.
//
// The driver delivers records out of order: copies to the host may stand in the file before earlier copies to the GPU.
// What came back depends on the order, so rows wait here until kWindow newer ones of these blocks are known. Blocks are
// independent of each other: several of these work side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/accounts/block_table.h"
#include "analyzer/accounts/cells.h"

namespace uvmtrace::analyzer {

struct MigratedPart {
  uint64_t time_ns;
  uint64_t address;
  uint32_t bytes;   // within one block
  uint32_t memory;  // version of the allocation
  CellKey cell;
  int16_t source;
  int16_t destination;
  MigrationCause cause;
};

class MigrationOrder {
 public:
  // Among recorded traces the latest row stood behind 6,757 newer ones of the whole file, 621 of one share of the
  // blocks.
  static constexpr size_t kWindow = 8192;

  explicit MigrationOrder(size_t maximum_blocks = BlockTable::kMaximumBlocks,
                          size_t maximum_cells = Cells::kMaximumCells)
      : blocks_(maximum_blocks), cells_(maximum_cells) {}

  // Takes rows in any order. They are sorted when the next ones are told, all that were added since together.
  void Add(const std::vector<MigratedPart>& rows);
  // Tells residency from those that are older than the window.
  void Advance() { Release(kWindow); }
  void Finish() { Release(0); }

  const Cells& cells() const { return cells_; }  // what came back
  uint64_t late() const { return late_; }        // rows that came after newer ones had been told
  uint64_t untracked_bytes() const { return blocks_.untracked(); }

 private:
  void Sort();
  void Release(size_t keep);
  void Apply(const MigratedPart& row);

  std::vector<MigratedPart> waiting_;  // sorted by time in [first_, sorted_)
  size_t first_ = 0;
  size_t sorted_ = 0;
  uint64_t told_until_ns_ = 0;
  uint64_t late_ = 0;
  BlockTable blocks_;
  Cells cells_;
};

}  // namespace uvmtrace::analyzer
