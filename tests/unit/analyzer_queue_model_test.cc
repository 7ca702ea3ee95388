// The models beneath the report of the driver's queue: counters over time, sampled migrations.
#include <gtest/gtest.h>

#include "analyzer/model/counter_series.h"
#include "analyzer/model/sampled_migrations.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kStart = 1'000'000'000;

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

TEST(SampledMigrationsTest, RecordsMayComeInAnyOrder) {
  analyzer::SampledMigrations sampled;
  sampled.AddWindow(50'000'000, 60'000'000);
  sampled.AddWindow(9'500'000, 12'000'000);
  sampled.Seal();
  analyzer::SampledMigrations other = sampled;  // another worker's
  sampled.Add(55'000'000, 0, 3, 2 * kMiB);
  sampled.Add(10'000'000, 0, 2, kMiB);
  other.Add(11'000'000, 0, 3, 3 * kMiB);
  sampled.Add(80'000'000, 1, 1, kMiB);  // in no window
  sampled.Merge(other);
  const auto moments = sampled.Moments();
  EXPECT_EQ(moments.directions[0].windows, 2u);
  EXPECT_DOUBLE_EQ(moments.directions[0].x, 6);
  EXPECT_DOUBLE_EQ(moments.directions[0].y[3], 5);
  EXPECT_DOUBLE_EQ(moments.directions[1].x, 1);
  EXPECT_LT(moments.HalfWidth(1, 1), 0);  // one window says nothing about variance
}

TEST(SampledMigrationsTest, EqualWindowsAreCertain) {
  analyzer::SampledMigrations sampled;
  for (uint64_t i = 0; i < 1000; ++i) sampled.AddWindow(i * 100'000'000, i * 100'000'000 + 10'000'000);
  sampled.Seal();
  for (uint64_t i = 0; i < 1000; ++i) {
    sampled.Add(i * 100'000'000, 0, 2, kMiB);
    sampled.Add(i * 100'000'000, 0, 3, kMiB);
  }
  EXPECT_EQ(sampled.windows(), 1000u);
  EXPECT_NEAR(sampled.Moments().HalfWidth(0, 2), 0, 1e-9);
}

}  // namespace
}  // namespace uvmtrace::testing
