// The model's parts: time, lifetimes, unions, percentiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "analyzer/model/allocation_table.h"
#include "analyzer/model/clock.h"
#include "analyzer/model/histogram.h"
#include "analyzer/model/interval_union.h"
#include "analyzer/model/memory_ledger.h"
#include "analyzer/units.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

using analyzer::Allocation;
using analyzer::AllocationTable;
constexpr auto kManaged = analyzer::MemoryKind::kManaged;

// What events see of a table once all calls are known: numbers of allocations, 0 for none.
class Sealed {
 public:
  explicit Sealed(const AllocationTable& table) : versions_(table.versions()) { versions_.Seal(); }

  uint64_t Find(uint64_t address, uint64_t time_ns) { return NumberOf(finder_.Find(address, time_ns)); }
  std::vector<std::pair<uint64_t, uint64_t>> Split(uint64_t address, uint64_t bytes) {
    std::vector<std::pair<uint64_t, uint64_t>> parts;
    finder_.Split(address, bytes, 1000,
                  [&](uint32_t version, uint64_t, uint64_t part) { parts.emplace_back(NumberOf(version), part); });
    return parts;
  }

 private:
  uint64_t NumberOf(uint32_t version) const {
    return version == analyzer::AllocationVersions::kNone ? 0 : versions_[version].number;
  }

  analyzer::AllocationVersions versions_;
  analyzer::AllocationVersions::Finder finder_{&versions_};
};

// As many steps for the millionth use of an address as for the first: what is asked of the table between an allocation
// and its free, too, and frees whose allocation was lost.
TEST(AllocationTableTest, AnAddressThatIsUsedAgainAndAgainCostsNoMoreEachTime) {
  AllocationTable table;
  constexpr uint64_t kBase = 0x7f0000000000;
  constexpr uint64_t kUses = 200'000;
  table.Add(kBase - 64 * kMiB, 128 * kMiB, 1, kManaged, 0);  // reaches over all that follow
  for (uint64_t use = 1; use <= kUses; ++use) {
    const uint64_t now_ns = use * 10'000;  // 2 s in all: nothing can be forgotten
    Allocation* const allocation = table.Add(kBase, (use % 2 + 1) * kMiB, now_ns, kManaged, 0).allocation;
    ASSERT_EQ(table.At(kBase + 5, now_ns + 10).live, allocation);
    ASSERT_EQ(table.Free(kBase, now_ns + 100, now_ns + 200).allocation, allocation);
    ASSERT_EQ(table.At(kBase + 5, now_ns + 300).freed, allocation);
    ASSERT_EQ(table.Free(kBase, now_ns + 400, now_ns + 500).allocation, nullptr);
  }
  EXPECT_LT(table.steps(), 100 * kUses);
}

// With records lost, some allocations lack their free and some frees their allocation.
TEST(AllocationTableTest, LostRecordsDoNotMakeTheNextOnesDearer) {
  AllocationTable table;
  constexpr uint64_t kBase = 0x7f0000000000;
  constexpr uint64_t kUses = 200'000;
  uint64_t random = 1;
  for (uint64_t use = 1; use <= kUses; ++use) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const uint64_t now_ns = use * 10'000;
    if ((random >> 60) % 2 == 0) table.Add(kBase, kMiB, now_ns, kManaged, 0);
    if ((random >> 50) % 2 == 0) table.Free(kBase, now_ns + 100, now_ns + 200);
  }
  EXPECT_LT(table.steps(), 100 * kUses);
}

TEST(AllocationTableTest, AddressUsedAgainGoesToWhoLivedThereThen) {
  AllocationTable table;
  constexpr uint64_t kBase = 0x10000000;
  Allocation* first = table.Add(kBase, kMiB, 10'000'000, kManaged, 0).allocation;
  table.Free(kBase, 20'000'000, 20'000'100);
  Allocation* second = table.Add(kBase, 4 * kMiB, 30'000'000, kManaged, 0).allocation;
  Sealed sealed(table);
  EXPECT_EQ(sealed.Find(kBase + 5, 15'000'000), first->id);
  EXPECT_EQ(sealed.Find(kBase + 5, 35'000'000), second->id);
  EXPECT_EQ(sealed.Find(kBase + 2 * kMiB, 35'000'000), second->id);
  EXPECT_EQ(sealed.Find(kBase + 2 * kMiB, 15'000'000), 0u);
  EXPECT_EQ(sealed.Find(kBase + 5, 15'000'000), first->id);  // the cache must not answer
}

TEST(AllocationTableTest, InteriorPointersAndBorders) {
  AllocationTable table;
  constexpr uint64_t kBase = 0x10000000;
  Allocation* allocation = table.Add(kBase, kMiB, 100, kManaged, 0).allocation;
  Sealed sealed(table);
  EXPECT_EQ(sealed.Find(kBase - 1, 200), 0u);
  EXPECT_EQ(sealed.Find(kBase, 200), allocation->id);
  EXPECT_EQ(sealed.Find(kBase + kMiB - 1, 200), allocation->id);
  EXPECT_EQ(sealed.Find(kBase + kMiB, 200), 0u);
}

TEST(AllocationTableTest, LateEventsWithinTheClockErrorHitLaterOnesDoNot) {
  AllocationTable table;
  constexpr uint64_t kBase = 0x10000000;
  constexpr uint64_t kError = AllocationTable::kClockErrorNs;
  Allocation* allocation = table.Add(kBase, kMiB, 10 * kError, kManaged, 0).allocation;
  table.Free(kBase, 20 * kError - 50, 20 * kError);
  Sealed sealed(table);
  EXPECT_EQ(sealed.Find(kBase, 21 * kError), allocation->id);
  EXPECT_EQ(sealed.Find(kBase, 21 * kError + 1), 0u);
  EXPECT_EQ(sealed.Find(kBase, 9 * kError), allocation->id);
  EXPECT_EQ(sealed.Find(kBase, 9 * kError - 1), 0u);
}

TEST(AllocationTableTest, LowerAllocationThatReachesOverADeadOneIsFound) {
  AllocationTable table;
  Allocation* large = table.Add(0x1000000, 16 * kMiB, 10'000'000, kManaged, 0).allocation;
  table.Free(0x1000000, 20'000'000, 20'000'000);
  Allocation* small = table.Add(0x1000000 + kMiB, kMiB, 30'000'000, kManaged, 0).allocation;
  Sealed sealed(table);
  EXPECT_EQ(sealed.Find(0x1000000 + kMiB + 5, 15'000'000), large->id);
  EXPECT_EQ(sealed.Find(0x1000000 + kMiB + 5, 35'000'000), small->id);
}

TEST(AllocationTableTest, FreeRecordedAfterTheNextAllocationBelongsToTheFirst) {
  AllocationTable table;
  Allocation* first = table.Add(0x1000000, kMiB, 100, kManaged, 0).allocation;
  const auto outcome = table.Add(0x1000000, kMiB, 300, kManaged, 0);
  EXPECT_EQ(outcome.superseded, first);
  const auto free = table.Free(0x1000000, 200, 210);
  EXPECT_EQ(free.allocation, first);
  EXPECT_TRUE(free.was_superseded);
  EXPECT_TRUE(outcome.allocation->live());
  const auto second_free = table.Free(0x1000000, 400, 410);
  EXPECT_EQ(second_free.allocation, outcome.allocation);
  EXPECT_FALSE(second_free.was_superseded);
}

TEST(AllocationTableTest, UnknownFreeIsNoCrash) {
  AllocationTable table;
  EXPECT_EQ(table.Free(0x1234, 1, 2).allocation, nullptr);
  table.Add(0x1000, 10, 5, kManaged, 0);
  table.Free(0x1000, 6, 7);
  EXPECT_EQ(table.Free(0x1000, 8, 9).allocation, nullptr);
}

using Parts = std::vector<std::pair<uint64_t, uint64_t>>;

TEST(AllocationTableTest, MigrationOverNeighboursIsSplitByBytes) {
  AllocationTable table;
  table.Add(0x10000000, kMiB, 100, kManaged, 0);
  table.Add(0x10000000 + kMiB, kMiB / 2, 100, kManaged, 0);
  table.Add(0x10000000 + 3 * kMiB / 2, kMiB, 100, kManaged, 0);
  EXPECT_EQ(Sealed(table).Split(0x10000000, 2 * kMiB), (Parts{{1, kMiB}, {2, kMiB / 2}, {3, kMiB / 2}}));
}

TEST(AllocationTableTest, PaddingOfThePageBelongsToItsAllocation) {
  AllocationTable table;
  table.Add(0x10000000, 1000, 100, kManaged, 0);
  EXPECT_EQ(Sealed(table).Split(0x10000000, 65536), (Parts{{1, 65536}}));
  table.Add(0x10000000 + 4096, 1000, 100, kManaged, 0);
  EXPECT_EQ(Sealed(table).Split(0x10000000, 65536), (Parts{{1, 4096}, {2, 61440}}));
}

TEST(AllocationTableTest, GapsAreUnattributed) {
  AllocationTable table;
  table.Add(0x10000000, kMiB / 2, 100, kManaged, 0);
  table.Add(0x10000000 + kMiB, kMiB, 100, kManaged, 0);
  EXPECT_EQ(Sealed(table).Split(0x10000000, 2 * kMiB), (Parts{{1, kMiB / 2}, {0, kMiB / 2}, {2, kMiB}}));
}

TEST(AllocationTableTest, AbsurdMigrationEnds) {
  AllocationTable table;
  for (uint64_t i = 1; i <= 10'000; ++i) table.Add(i << 24, 1000, 100, kManaged, 0);
  uint64_t sum = 0;
  for (const auto& [id, bytes] : Sealed(table).Split(0, UINT64_MAX)) sum += bytes;
  EXPECT_EQ(sum, UINT64_MAX);
}

TEST(AllocationTableTest, AgreesWithALinearSearch) {
  // Many allocations that share addresses over time, asked at random: the answer must be the one that a naive search
  // gives.
  std::mt19937_64 random(7);
  AllocationTable table;
  struct Naive {
    uint64_t base, end, allocated, freed, id;
  };
  std::vector<Naive> all;
  uint64_t now = 10'000'000'000;
  std::vector<size_t> live;
  for (int i = 0; i < 3000; ++i) {
    now += 5'000'000;
    if (!live.empty() && random() % 2 == 0) {
      const size_t pick = random() % live.size();
      Naive& victim = all[live[pick]];
      victim.freed = now;
      table.Free(victim.base, now, now);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(pick));
      continue;
    }
    const uint64_t base = (1 + random() % 64) * 16 * kMiB;
    const uint64_t bytes = (1 + random() % 16) * kMiB;
    const bool overlaps = std::any_of(live.begin(), live.end(), [&](size_t index) {
      return all[index].base < base + bytes && base < all[index].end;
    });
    if (overlaps) continue;
    const uint64_t id = table.Add(base, bytes, now, kManaged, 0).allocation->id;
    all.push_back({base, base + bytes, now, UINT64_MAX, id});
    live.push_back(all.size() - 1);
  }
  ASSERT_GT(all.size(), 500u);
  Sealed sealed(table);
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t address = 16 * kMiB + random() % (65 * 16 * kMiB);
    // Never nearer to a border than the clock error, where the answer is a matter of taste.
    const uint64_t time = 10'000'000'000 + random() % 3000 * 5'000'000 + 2'500'000;
    uint64_t expected = 0;
    for (const Naive& one : all) {
      if (address >= one.base && address < one.end && time >= one.allocated && time < one.freed) expected = one.id;
    }
    ASSERT_EQ(sealed.Find(address, time), expected) << i;
  }
}

TEST(AllocationTableTest, ForgetsWhatWasFreedLongAgoWithoutEvents) {
  AllocationTable table;
  for (uint64_t i = 0; i < 1000; ++i) {
    table.Add(0x1000, 64, i * 20'000'000'000, kManaged, 0);
    table.Free(0x1000, i * 20'000'000'000 + 10, i * 20'000'000'000 + 20);
  }
  EXPECT_LT(table.known(), 20u);
  EXPECT_EQ(table.allocations(), 1000u);
}

// Address space that is never used again: what is kept is bounded, what the site held is not forgotten.
TEST(AllocationTableTest, AMillionRangesThatWereFreedAreFoldedIntoTheirSite) {
  AllocationTable table;
  for (uint64_t i = 1; i <= 1'000'000; ++i) {
    table.Add(i << 21, kMiB, i * 1000, kManaged, 7);
    table.Free(i << 21, i * 1000 + 10, i * 1000 + 20);
  }
  EXPECT_LT(table.known(), 100'000u);
  ASSERT_EQ(table.sites().size(), 1u);
  EXPECT_EQ(table.sites()[0].allocations, 1'000'000u);
  EXPECT_EQ(table.sites()[0].frees, 1'000'000u);
  EXPECT_EQ(table.sites()[0].peak_bytes, kMiB);
  EXPECT_EQ(table.sites()[0].live_bytes, 0u);
}

analyzer::MemoryCall CallOf(analyzer::Operation operation, uint64_t address, uint64_t bytes, uint64_t time_ns,
                            uint64_t handle = 0) {
  analyzer::MemoryCall call;
  call.operation = operation;
  call.kind = kManaged;
  call.start_ns = time_ns;
  call.end_ns = time_ns + 10;
  call.address = address;
  call.bytes = bytes;
  call.handle = handle;
  return call;
}

TEST(MemoryLedgerTest, PeakIsTheHighestSumOfWhatLives) {
  using analyzer::Operation;
  analyzer::MemoryLedger ledger;
  ledger.Apply(CallOf(Operation::kAllocate, 0x1000000, 100, 10));
  ledger.Apply(CallOf(Operation::kAllocate, 0x2000000, 50, 20));
  ledger.Apply(CallOf(Operation::kFree, 0x1000000, 0, 30));
  ledger.Apply(CallOf(Operation::kAllocate, 0x3000000, 60, 40));
  const auto& managed = ledger.of(kManaged);
  EXPECT_EQ(managed.peak_bytes, 150u);
  EXPECT_EQ(managed.live_bytes, 110u);
  EXPECT_EQ(managed.total_bytes, 210u);
  EXPECT_EQ(managed.allocations, 3u);
  EXPECT_EQ(managed.frees, 1u);
  EXPECT_EQ(managed.call_ns, 40u);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
}

TEST(MemoryLedgerTest, FailedCallsAllocateNothing) {
  analyzer::MemoryLedger ledger;
  auto call = CallOf(analyzer::Operation::kAllocate, 0x1000, 100, 10);
  call.failed = true;
  ledger.Apply(call);
  EXPECT_EQ(ledger.of(kManaged).failures, 1u);
  EXPECT_EQ(ledger.of(kManaged).allocations, 0u);
  EXPECT_EQ(ledger.of(kManaged).peak_bytes, 0u);
}

TEST(MemoryLedgerTest, FreeOfNullIsNothingFreeOfUnknownIsCounted) {
  analyzer::MemoryLedger ledger;
  ledger.Apply(CallOf(analyzer::Operation::kFree, 0, 0, 10));
  EXPECT_EQ(ledger.unknown_frees(), 0u);
  ledger.Apply(CallOf(analyzer::Operation::kFree, 0x5000, 0, 10));
  EXPECT_EQ(ledger.unknown_frees(), 1u);
}

TEST(MemoryLedgerTest, MissedFreeDoesNotCountMemoryTwice) {
  analyzer::MemoryLedger ledger;
  for (uint64_t i = 0; i < 5; ++i) ledger.Apply(CallOf(analyzer::Operation::kAllocate, 0x1000, 100, 10 + 100 * i));
  EXPECT_EQ(ledger.of(kManaged).live_bytes, 100u);
  EXPECT_EQ(ledger.of(kManaged).peak_bytes, 100u);
  EXPECT_EQ(ledger.missed_frees(), 4u);
}

TEST(MemoryLedgerTest, PhysicalMemoryLivesUntilReleasedAndUnmapped) {
  using analyzer::Operation;
  analyzer::MemoryLedger ledger;
  const auto& physical = ledger.of(analyzer::MemoryKind::kPhysical);
  ledger.Apply(CallOf(Operation::kReserve, 0x10000000, 8 * kMiB, 5));
  ledger.Apply(CallOf(Operation::kCreate, 77, 2 * kMiB, 10));
  ledger.Apply(CallOf(Operation::kMap, 0x10000000, 2 * kMiB, 20, 77));
  ledger.Apply(CallOf(Operation::kRelease, 77, 0, 30));
  EXPECT_EQ(physical.live_bytes, 2 * kMiB);
  // The handle's value is used again for other memory.
  ledger.Apply(CallOf(Operation::kCreate, 77, 4 * kMiB, 40));
  ledger.Apply(CallOf(Operation::kMap, 0x10000000 + 2 * kMiB, 4 * kMiB, 50, 77));
  EXPECT_EQ(physical.live_bytes, 6 * kMiB);
  ASSERT_NE(ledger.table().At(0x10000000 + 3 * kMiB, 61).live, nullptr);
  EXPECT_EQ(ledger.table().At(0x10000000 + 3 * kMiB, 61).live->kind, analyzer::MemoryKind::kPhysical);
  ledger.Apply(CallOf(Operation::kUnmap, 0x10000000, 6 * kMiB, 70));
  EXPECT_EQ(physical.live_bytes, 4 * kMiB);
  ledger.Apply(CallOf(Operation::kRelease, 77, 0, 80));
  EXPECT_EQ(physical.live_bytes, 0u);
  EXPECT_EQ(physical.peak_bytes, 6 * kMiB);
  ledger.Apply(CallOf(Operation::kUnreserve, 0x10000000, 0, 90));
  EXPECT_EQ(ledger.of(analyzer::MemoryKind::kReserved).live_bytes, 0u);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
}

TEST(IntervalUnionTest, OverlapsCountOnce) {
  analyzer::IntervalUnion intervals;
  intervals.Add(10, 20);
  intervals.Add(15, 30);
  intervals.Add(40, 50);
  intervals.Add(12, 45);
  intervals.Add(60, 60);
  intervals.Add(70, 65);
  EXPECT_EQ(intervals.length(), 40u);
}

TEST(IntervalUnionTest, AgreesWithABitmapForAnyOrderWithinTheWindow) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<bool> time(2000);
    analyzer::IntervalUnion intervals;
    for (int i = 0; i < 300; ++i) {
      const uint64_t start = random() % 1900;
      const uint64_t end = start + random() % 20;
      intervals.Add(start, end);
      for (uint64_t t = start; t < end; ++t) time[t] = true;
    }
    ASSERT_EQ(intervals.length(), static_cast<uint64_t>(std::count(time.begin(), time.end(), true)));
    ASSERT_EQ(intervals.clipped(), 0u);
  }
}

TEST(IntervalUnionTest, IsNeverTooLongBeyondTheWindow) {
  analyzer::IntervalUnion intervals;
  for (uint64_t i = 0; i < 100'000; ++i) intervals.Add(i * 10, i * 10 + 5);
  EXPECT_EQ(intervals.length(), 500'000u);
  intervals.Add(0, 10'000);  // long closed
  EXPECT_EQ(intervals.length(), 500'000u);
  EXPECT_EQ(intervals.clipped(), 1u);
}

TEST(HistogramTest, QuantilesAreWithinThreePercent) {
  std::mt19937_64 random(11);
  for (const double mean : {3.0, 200.0, 1e4, 1e9}) {
    analyzer::Histogram histogram;
    std::vector<uint64_t> values;
    std::exponential_distribution<double> distribution(1 / mean);
    for (int i = 0; i < 20'001; ++i) values.push_back(static_cast<uint64_t>(distribution(random)));
    for (const uint64_t value : values) histogram.Add(value);
    std::sort(values.begin(), values.end());
    for (const double fraction : {0.0, 0.5, 0.9, 0.99, 1.0}) {
      const double exact = static_cast<double>(values[static_cast<size_t>(fraction * 20'000)]);
      EXPECT_NEAR(static_cast<double>(histogram.Quantile(fraction)), exact, exact * 0.03) << mean << " " << fraction;
    }
  }
}

TEST(HistogramTest, ExtremesAndMerge) {
  analyzer::Histogram a;
  EXPECT_EQ(a.Quantile(0.5), 0u);
  a.Add(0);
  a.Add(UINT64_MAX);
  analyzer::Histogram b;
  b.Add(7);
  b.Merge(a);
  EXPECT_EQ(b.count(), 3u);
  EXPECT_EQ(b.Quantile(0.5), 7u);
  EXPECT_EQ(b.maximum(), UINT64_MAX);
}

analyzer::ColumnBatch Samples(const std::vector<std::array<uint64_t, 4>>& rows) {
  analyzer::ColumnBatch batch;
  batch.rows = rows.size();
  for (const auto& row : rows) {
    for (size_t column = 0; column < 4; ++column) batch.columns[column].push_back(row[column]);
  }
  return batch;
}

TEST(ClockTest, InterpolatesBetweenSamplesAndExtrapolatesAfter) {
  analyzer::ClockConverter clocks;
  // RAW runs 100 ppm slow.
  clocks.AddSamples(Samples({{1'000'000'000, 5'000'000'000'000'000'000, 900'000'000, 0},
                             {2'000'000'000, 5'000'000'001'000'000'000, 1'899'900'000, 0}}));
  EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kMonotonic, 5), 5u);
  EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kRealtime, 5'000'000'000'500'000'000), 1'500'000'000u);
  EXPECT_NEAR(static_cast<double>(*clocks.ToMonotonic(analyzer::TimeBase::kMonotonicRaw, 900'000'000 + 499'950'000)),
              1.5e9, 2);
  EXPECT_NEAR(static_cast<double>(*clocks.ToMonotonic(analyzer::TimeBase::kMonotonicRaw, 2'899'800'000u)), 3e9, 2);
  EXPECT_EQ(clocks.steps(), 0u);
}

TEST(ClockTest, CuptiIsRealtimeUnlessSampled) {
  analyzer::ClockConverter clocks;
  clocks.AddSamples(Samples({{1000, 51'000, 0, 0}}));
  EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kCupti, 51'500), 1500u);
  clocks.AddSamples(Samples({{2000, 52'000, 0, 7000}}));
  EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kCupti, 7500), 2500u);
}

TEST(ClockTest, NeverSampledIsUnknown) {
  analyzer::ClockConverter clocks;
  EXPECT_FALSE(clocks.ToMonotonic(analyzer::TimeBase::kMonotonicRaw, 5).has_value());
  EXPECT_FALSE(clocks.ToMonotonic(analyzer::TimeBase::kUnknown, 5).has_value());
}

TEST(ClockTest, StepOfRealtimeIsFlaggedAndNotInterpolated) {
  for (const int64_t step : {int64_t{3'600'000'000'000}, int64_t{-5'000'000'000}}) {
    analyzer::ClockConverter clocks;
    constexpr uint64_t kReal = 1'700'000'000'000'000'000;
    const uint64_t after = kReal + static_cast<uint64_t>(step);
    // Sampled at 1 s and 2 s; set at 1.5 s.
    clocks.AddSamples(Samples({{1'000'000'000, kReal, 0, 0}, {2'000'000'000, after + 1'000'000'000, 0, 0}}));
    EXPECT_EQ(clocks.steps(), 1u);
    if (step > 0) {
      EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kRealtime, kReal + 400'000'000), 1'400'000'000u);
    }
    EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kRealtime, after + 600'000'000), 1'600'000'000u);
    EXPECT_EQ(clocks.ToMonotonic(analyzer::TimeBase::kRealtime, after + 1'500'000'000), 2'500'000'000u);
  }
}

TEST(UnitsTest, ThreeDigitsAndTheRightUnit) {
  EXPECT_EQ(analyzer::FormatBytes(1023), "1023 B");
  EXPECT_EQ(analyzer::FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(analyzer::FormatBytes(kGiB - 1), "1.00 GiB");
  EXPECT_EQ(analyzer::FormatBytes(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(analyzer::FormatDuration(999), "999 ns");
  EXPECT_EQ(analyzer::FormatDuration(12'345'678), "12.3 ms");
  EXPECT_EQ(analyzer::FormatDuration(999'600'000), "1.00 s");
  EXPECT_EQ(analyzer::FormatCount(1234567), "1,234,567");
  EXPECT_EQ(analyzer::FormatCount(123), "123");
  EXPECT_EQ(analyzer::FormatRate(51.2e9), "51.2 GB/s");
  EXPECT_EQ(analyzer::FormatPercent(0.123), "12 %");
  EXPECT_EQ(analyzer::FormatPercent(0.0001), "<0.1 %");
  EXPECT_EQ(analyzer::FormatPercent(0), "0.0 %");
}

}  // namespace
}  // namespace uvmtrace::testing
