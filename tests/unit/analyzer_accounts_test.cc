// What events are added up in: kernels at an instant, batches, pages that come back, cells.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "analyzer/accounts/block_table.h"
#include "analyzer/accounts/cells.h"
#include "analyzer/accounts/migration_order.h"
#include "analyzer/accounts/service_batches.h"
#include "analyzer/timeline/interval_index.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

using analyzer::BatchShare;
using analyzer::BlockTable;
using analyzer::Cells;
using analyzer::IntervalIndex;
using analyzer::LeftBecause;
using analyzer::NameSets;
using analyzer::ServiceBatches;

constexpr uint64_t kBase = 0x40000000;

uint64_t Sum(const BlockTable::CameBack& came_back) {
  uint64_t sum = 0;
  for (const uint64_t bytes : came_back) sum += bytes;
  return sum;
}

TEST(IntervalIndexTest, AnInstantHasEveryKernelThatRanThen) {
  NameSets sets;
  IntervalIndex index;
  index.Add(300, 400, 3);
  index.Add(100, 200, 1);
  index.Add(150, 250, 2);
  index.Seal(&sets);
  IntervalIndex::Cursor cursor(&index);
  const auto names = [&](uint64_t time) { return sets.names(cursor.SetAt(time)); };
  EXPECT_EQ(names(99), std::vector<uint32_t>{});
  EXPECT_EQ(names(100), std::vector<uint32_t>{1});
  EXPECT_EQ(names(150), (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(names(200), std::vector<uint32_t>{2});
  EXPECT_EQ(names(250), std::vector<uint32_t>{});
  EXPECT_EQ(names(399), std::vector<uint32_t>{3});
  EXPECT_EQ(names(400), std::vector<uint32_t>{});
  EXPECT_EQ(names(120), std::vector<uint32_t>{1});  // back again
  EXPECT_EQ(index.CoveredNs(0, 1000), 250u);
}

TEST(IntervalIndexTest, AgreesWithAPlainSearch) {
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    struct Run {
      uint64_t start, end;
      uint32_t name;
    };
    std::vector<Run> runs;
    NameSets sets;
    IntervalIndex index;
    for (int i = 0; i < 60; ++i) {
      const uint64_t start = random() % 1000;
      runs.push_back({start, start + random() % 40, static_cast<uint32_t>(random() % 5)});
      index.Add(runs.back().start, runs.back().end, runs.back().name);
    }
    index.Seal(&sets);
    IntervalIndex::Cursor cursor(&index);
    for (int i = 0; i < 500; ++i) {
      const uint64_t time = random() % 1100;
      std::vector<uint32_t> expected;
      for (const Run& run : runs) {
        if (time >= run.start && time < run.end) expected.push_back(run.name);
      }
      std::sort(expected.begin(), expected.end());
      expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
      ASSERT_EQ(sets.names(cursor.SetAt(time)), expected) << time;
    }
  }
}

TEST(IntervalIndexTest, CoarseningKeepsNamesAndTheirBounds) {
  NameSets sets;
  IntervalIndex index;
  for (uint64_t i = 0; i < 10'000; ++i) index.Add(i * 100, i * 100 + 90, i < 5'000 ? 1 : 2);
  index.Coarsen(100);
  EXPECT_LE(index.intervals(), 100u);
  index.Seal(&sets);
  IntervalIndex::Cursor cursor(&index);
  EXPECT_EQ(sets.names(cursor.SetAt(1005)), std::vector<uint32_t>{1});
  EXPECT_EQ(sets.names(cursor.SetAt(900'005)), std::vector<uint32_t>{2});
  EXPECT_EQ(cursor.SetAt(2'000'000), NameSets::kNone);
}

BatchShare ShareOf(uint32_t account, uint32_t faults) { return {{account, 0, 0}, faults}; }

TEST(ServiceBatchesTest, PiecesAndReplaysOfABatchMayComeInAnyOrder) {
  Cells cells;
  ServiceBatches batches;
  const BatchShare one = ShareOf(1, 3);
  const BatchShare other = ShareOf(2, 1);
  batches.AddReplay(7, 500);  // before any fault of its batch is read
  batches.AddFaults(8, 600, 1, &other, 1, &cells);
  batches.AddFaults(7, 150, 1, &other, 1, &cells);
  batches.AddFaults(7, 100, 3, &one, 1, &cells);
  batches.AddReplay(8, 700);
  batches.Finish(&cells);
  const auto statistics = batches.Summarize();
  EXPECT_EQ(statistics.batches, 2u);
  EXPECT_EQ(statistics.entries, 5u);
  EXPECT_EQ(statistics.service.length(), 500u);
  EXPECT_DOUBLE_EQ(cells.At({1, 0, 0}).gpu_waited_ns, 300);
  EXPECT_DOUBLE_EQ(cells.At({2, 0, 0}).gpu_waited_ns, 100 + 100);
}

TEST(ServiceBatchesTest, NumbersWrapAndComeBack) {
  Cells cells;
  ServiceBatches batches;
  const BatchShare share = ShareOf(1, 2);
  for (uint64_t i = 0; i < 100'000; ++i) {
    const auto number = static_cast<uint32_t>(0xfffff000 + i);
    batches.AddFaults(number, i * 100, 2, &share, 1, &cells);
    batches.AddReplay(number, i * 100 + 50);
  }
  // The first number again, for something new.
  batches.AddFaults(0xfffff000, 20'000'000, 1, &share, 1, &cells);
  const auto statistics = batches.Summarize();
  EXPECT_EQ(statistics.batches, 100'001u);
  EXPECT_EQ(statistics.without_replay, 1u);
  EXPECT_EQ(statistics.service.length(), 100'000u * 50);
}

TEST(ServiceBatchesTest, TheLastReplayEndsABatchAndOthersReplaysAreNotOurs) {
  Cells cells;
  ServiceBatches batches;
  const BatchShare share = ShareOf(1, 1);
  batches.AddReplay(1, 50);  // before the fault: another program's
  batches.AddFaults(1, 100, 1, &share, 1, &cells);
  batches.AddReplay(1, 300);
  batches.AddReplay(1, 200);
  batches.AddReplay(2, 1000);
  const auto statistics = batches.Summarize();
  EXPECT_EQ(statistics.batches, 1u);
  EXPECT_EQ(statistics.replays, 2u);
  EXPECT_EQ(statistics.service_ns.maximum(), 200u);
  EXPECT_EQ(batches.Summarize().batches, 1u);  // asking twice changes nothing
}

TEST(ServiceBatchesTest, RecordsWithOneEndAreOneBatch) {
  Cells cells;
  ServiceBatches batches;
  const BatchShare share = ShareOf(1, 1);
  for (uint64_t i = 0; i < 10'000; ++i) {
    for (uint64_t fault = 0; fault < 4; ++fault)
      batches.AddFaultsUntil(i * 1000 + fault, i * 1000 + 500 + fault % 2, 1, &share, 1, &cells);
  }
  const auto statistics = batches.Summarize();
  EXPECT_EQ(statistics.batches, 10'000u);
  EXPECT_EQ(statistics.service.length(), 10'000u * 500);
}

TEST(BlockTableTest, WhatLeftAndReturnsCameBackForTheReasonThatItLeftFor) {
  BlockTable blocks;
  EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase, 2 * kMiB)), 0u);
  blocks.Leave(0, 1, kBase, kMiB, LeftBecause::kEviction);
  blocks.Leave(0, 1, kBase + kMiB, kMiB / 2, LeftBecause::kCall);
  blocks.Leave(0, 1, kBase + 3 * kMiB / 2, kMiB / 2, LeftBecause::kTouch);
  const auto came_back = blocks.Arrive(0, 1, kBase + kMiB / 2, 3 * kMiB / 2);
  EXPECT_EQ(came_back[static_cast<size_t>(LeftBecause::kEviction)], kMiB / 2);
  EXPECT_EQ(came_back[static_cast<size_t>(LeftBecause::kCall)], kMiB / 2);
  EXPECT_EQ(came_back[static_cast<size_t>(LeftBecause::kTouch)], kMiB / 2);
  EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase, kMiB / 2)), kMiB / 2);
}

TEST(BlockTableTest, OtherPagesDevicesAndAllocationsAreTheirOwn) {
  BlockTable blocks;
  for (uint64_t offset = 0; offset < 2 * kMiB; offset += 65536)
    EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase + offset, 65536)), 0u);
  blocks.Leave(0, 1, kBase, 2 * kMiB, LeftBecause::kTouch);
  EXPECT_EQ(Sum(blocks.Arrive(1, 1, kBase, 2 * kMiB)), 0u);
  EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase + 2 * kMiB, 2 * kMiB)), 0u);
  EXPECT_EQ(Sum(blocks.Arrive(0, 2, kBase, 2 * kMiB)), 0u);  // the address is another allocation's by now
}

TEST(BlockTableTest, CopiesDroppedWithoutAMigrationAreSeenWhenTheyReturn) {
  BlockTable blocks;  // read-mostly
  EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase, 2 * kMiB)), 0u);
  EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase, 2 * kMiB)), 2 * kMiB);
}

TEST(BlockTableTest, FirstTouchOnTheDeviceThenEvictedCameBack) {
  BlockTable blocks;  // nothing arrives at first touch: the page is made on the device
  blocks.Leave(0, 1, kBase, 2 * kMiB, LeftBecause::kEviction);
  EXPECT_EQ(Sum(blocks.Arrive(0, 1, kBase, 2 * kMiB)), 2 * kMiB);
}

TEST(BlockTableTest, BeyondItsBoundBlocksAreCountedNotFollowed) {
  BlockTable blocks(10);
  for (uint64_t i = 0; i < 20; ++i) blocks.Arrive(0, 1, kBase + i * 2 * kMiB, kMiB);
  EXPECT_EQ(blocks.blocks(), 10u);
  EXPECT_EQ(blocks.untracked(), 10 * kMiB);
}

// To the GPU, to the host, to the GPU: one page came back, in whatever order the records stand.
TEST(MigrationOrderTest, TheOrderOfTheFileDoesNotMatter) {
  std::vector<analyzer::MigratedPart> rows;
  for (uint64_t page = 0; page < 512; ++page) {
    const uint64_t address = kBase + page * 4096;
    const analyzer::CellKey cell{1, 0, 0};
    rows.push_back({1000 + page, address, 4096, 1, cell, -1, 0, analyzer::MigrationCause::kCoherence});
    rows.push_back({5000 + page, address, 4096, 1, cell, 0, -1, analyzer::MigrationCause::kUser});
    rows.push_back({9000 + page, address, 4096, 1, cell, -1, 0, analyzer::MigrationCause::kCoherence});
  }
  std::mt19937 random(3);
  for (int round = 0; round < 10; ++round) {
    std::shuffle(rows.begin(), rows.end(), random);
    analyzer::MigrationOrder order;
    for (size_t i = 0; i < rows.size(); i += 100) {
      order.Add({rows.begin() + static_cast<std::ptrdiff_t>(i),
                 rows.begin() + static_cast<std::ptrdiff_t>(std::min(i + 100, rows.size()))});
      order.Advance();
    }
    order.Finish();
    ASSERT_EQ(order.cells().entries().size(), 1u);
    const analyzer::MemoryActivity& activity = order.cells().entries()[0].activity;
    EXPECT_EQ(activity.refaulted_bytes, 2 * kMiB);
    EXPECT_EQ(activity.refaulted_after[static_cast<size_t>(LeftBecause::kCall)], 2 * kMiB);
    EXPECT_EQ(order.late(), 0u);
  }
}

TEST(CellsTest, TwoTablesAddUpAndTheNumberOfCellsIsBounded) {
  Cells one;
  Cells other;
  for (uint32_t i = 0; i < 400'000; ++i) {
    one.At({i % 7, 0, i}).cpu_faults += 1;
    other.At({i % 11, i, 0}).cpu_faults += 1;
  }
  one.Add(other);
  uint64_t sum = 0;
  for (const Cells::Entry& entry : one.entries()) sum += entry.activity.cpu_faults;
  EXPECT_EQ(sum, 800'000u);
  EXPECT_LT(one.entries().size(), Cells::kMaximumCells + 100);
  EXPECT_GT(one.coarsened(), 0u);
}

}  // namespace
}  // namespace uvmtrace::testing
