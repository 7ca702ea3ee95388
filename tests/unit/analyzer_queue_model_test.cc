// The models beneath the report of the driver's queue: batches, counters over time, sampled migrations.
#include <gtest/gtest.h>

#include "analyzer/model/counter_series.h"
#include "analyzer/model/queue_batches.h"
#include "analyzer/model/sampled_migrations.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kStart = 1'000'000'000;

TEST(QueueBatchesTest, NumbersWrapAndComeBack) {
  analyzer::QueueBatches batches;
  for (uint64_t i = 0; i < 10'000; ++i) {
    const auto number = static_cast<uint32_t>(0xfffff000 + i);
    batches.AddFault(number, i * 100);
    batches.AddFault(number, i * 100 + 10);
    batches.AddReplay(number, i * 100 + 50);
  }
  // The first number again, for something new.
  batches.AddFault(0xfffff000, 2'000'000);
  const auto statistics = batches.Summarize();
  EXPECT_EQ(statistics.batches, 10'001u);
  EXPECT_EQ(statistics.entries, 20'001u);
  EXPECT_EQ(statistics.without_replay, 1u);
  EXPECT_EQ(statistics.service.length(), 10'000u * 50);
}

TEST(QueueBatchesTest, TheLastReplayEndsABatchAndOthersReplaysAreNotOurs) {
  analyzer::QueueBatches batches;
  batches.AddReplay(1, 50);  // before any fault: another program's
  batches.AddFault(1, 100);
  batches.AddReplay(1, 300);
  batches.AddReplay(1, 200);
  batches.AddReplay(2, 1000);
  const auto statistics = batches.Summarize();
  EXPECT_EQ(statistics.batches, 1u);
  EXPECT_EQ(statistics.replays, 2u);
  EXPECT_EQ(statistics.service_ns.maximum(), 200u);
  EXPECT_EQ(batches.Summarize().batches, 1u);  // asking twice changes nothing
}

TEST(CounterSeriesTest, StaysBoundedAndExact) {
  analyzer::CounterSeries series;
  analyzer::CounterAmounts amounts;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    amounts.host_to_device_bytes = i;
    sum += i;
    series.Add(kStart + i * 7'000'000, amounts);
  }
  EXPECT_LE(series.buckets().size(), analyzer::CounterSeries::kMaximumBuckets);
  uint64_t seen = 0;
  for (const auto& bucket : series.buckets()) seen += bucket.host_to_device_bytes;
  EXPECT_EQ(seen, sum);
}

TEST(CounterSeriesTest, MergeOfDifferentWidthsIsExactAndTimesMayGoBack) {
  analyzer::CounterAmounts one;
  one.cpu_faults = 1;
  analyzer::CounterSeries wide;
  analyzer::CounterSeries narrow;
  for (uint64_t i = 0; i < 1000; ++i) wide.Add(5'000'000'000 + i * 100'000'000, one);
  for (uint64_t i = 0; i < 10; ++i) narrow.Add(1'000'000'000 - i * 10'000'000, one);
  narrow.Merge(wide);
  narrow.Add(~uint64_t{0}, one);
  EXPECT_LE(narrow.buckets().size(), analyzer::CounterSeries::kMaximumBuckets);
  uint64_t seen = 0;
  for (const auto& bucket : narrow.buckets()) seen += bucket.cpu_faults;
  EXPECT_EQ(seen, 1011u);
}

TEST(SampledMigrationsTest, RecordsMayComeBeforeOrAfterTheirWindow) {
  analyzer::SampledMigrations sampled;
  sampled.Add(10'000'000, 0, 2, kMiB);  // waits
  sampled.AddWindow(9'500'000, 12'000'000);
  sampled.Add(11'000'000, 0, 3, 3 * kMiB);
  sampled.AddWindow(50'000'000, 60'000'000);
  sampled.Add(55'000'000, 0, 3, 2 * kMiB);
  sampled.Add(80'000'000, 1, 1, kMiB);  // in no window
  const auto moments = sampled.Moments();
  EXPECT_EQ(moments.directions[0].windows, 2u);
  EXPECT_DOUBLE_EQ(moments.directions[0].x, 6);
  EXPECT_DOUBLE_EQ(moments.directions[0].y[3], 5);
  EXPECT_DOUBLE_EQ(moments.directions[1].x, 1);
  EXPECT_LT(moments.HalfWidth(1, 1), 0);  // one window says nothing about variance
}

TEST(SampledMigrationsTest, EqualWindowsAreCertain) {
  analyzer::SampledMigrations sampled;
  for (uint64_t i = 0; i < 1000; ++i) {
    sampled.Add(i * 100'000'000, 0, 2, kMiB);
    sampled.Add(i * 100'000'000, 0, 3, kMiB);
    sampled.AddWindow(i * 100'000'000, i * 100'000'000 + 10'000'000);
  }
  EXPECT_EQ(sampled.windows(), 1000u);
  EXPECT_NEAR(sampled.Moments().HalfWidth(0, 2), 0, 1e-9);
}

}  // namespace
}  // namespace uvmtrace::testing
