// Tests of what the experiments compute on the host: their summaries, their schedules, their references.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "examples/common/options.h"
#include "examples/common/program.h"
#include "examples/common/rows.h"
#include "examples/kv_remap/schedule.h"
#include "examples/paged_attention/reference.h"

namespace {

using examples::Row;

TEST(Rows, ASummaryHasMedianAndRangeOfEachVariant) {
  std::vector<Row> rows;
  for (const double seconds : {3.0, 1.0, 2.0}) {
    rows.push_back(Row().Set("mode", std::string("a")).Set("seconds", seconds).Set("bytes", uint64_t{7}));
    rows.push_back(Row().Set("mode", std::string("b")).Set("seconds", 10 * seconds).Set("bytes", uint64_t{8}));
  }
  const std::vector<Row> summary = examples::Summarise(rows, {"mode"});
  ASSERT_EQ(summary.size(), 2u);
  EXPECT_EQ(std::get<double>(*summary[1].Find("seconds")), 20);
  EXPECT_EQ(std::get<double>(*summary[1].Find("seconds_low")), 10);
  EXPECT_EQ(std::get<double>(*summary[1].Find("seconds_high")), 30);
  EXPECT_EQ(std::get<uint64_t>(*summary[1].Find("bytes")), 8u);
}

TEST(Rows, PercentilesAreNearestRank) {
  std::vector<double> values;
  for (int i = 100; i > 0; --i) values.push_back(i);
  EXPECT_EQ(examples::Percentile(values, 50), 50);
  EXPECT_EQ(examples::Percentile(values, 99), 99);
  EXPECT_EQ(examples::Percentile(values, 100), 100);
  EXPECT_EQ(examples::Percentile({}, 50), 0);
}

TEST(Rows, QuotesInJsonAreEscaped) { EXPECT_EQ(examples::Quote("a\"b\\c\n"), "\"a\\\"b\\\\c\""); }

TEST(Options, ManagedMemoryBeyondARealGpuIsRefused) {
  examples::CommonOptions options;
  EXPECT_THROW(examples::RefuseOversubscription(2, 1, /*simulated=*/false, options), examples::Refused);
  EXPECT_NO_THROW(examples::RefuseOversubscription(1, 1, false, options));
  EXPECT_NO_THROW(examples::RefuseOversubscription(2, 1, /*simulated=*/true, options));
  options.allow_oversubscription = true;
  EXPECT_NO_THROW(examples::RefuseOversubscription(2, 1, false, options));
}

// The designs swap while the step before still runs: that is right only if it does not use what leaves or comes.
TEST(Schedule, WhatASwapTouchesIsIdleDuringTheStepBefore) {
  for (const char* reuse : {"cyclic", "zipf"}) {
    remap::Shape shape;
    shape.blocks = 40;
    shape.slots = 16;
    shape.window = 8;
    shape.steps = 200;
    shape.reuse = reuse;
    std::set<uint32_t> resident;
    std::vector<uint32_t> uses(shape.blocks);
    std::vector<uint32_t> before;
    for (const remap::Step& step : remap::MakeSchedule(shape)) {
      for (const remap::Swap& swap : step.swaps) {
        for (const uint32_t block : before) {
          EXPECT_NE(block, swap.victim);
          EXPECT_NE(block, swap.wanted);
        }
        if (swap.victim != remap::Swap::kNone) {
          EXPECT_EQ(resident.erase(swap.victim), 1u);
        }
        EXPECT_TRUE(resident.insert(swap.wanted).second);
      }
      EXPECT_LE(resident.size(), shape.slots);
      EXPECT_EQ(std::set<uint32_t>(step.needed.begin(), step.needed.end()).size(), shape.window);
      for (size_t i = 0; i < step.needed.size(); ++i) {
        EXPECT_EQ(resident.count(step.needed[i]), 1u);
        EXPECT_EQ(step.versions[i], uses[step.needed[i]]++);
      }
      before = step.needed;
    }
  }
}

TEST(Schedule, AllDesignsGetTheSameLoadFromTheSameSeed) {
  remap::Shape shape;
  shape.reuse = "zipf";
  EXPECT_EQ(remap::MakeSchedule(shape)[50].needed, remap::MakeSchedule(shape)[50].needed);
}

// All tokens have the same key and the same value, so whatever the weights are the output is that value.
TEST(Reference, NoOffsetGivesTheOneValue) {
  paged::Attention attention{};
  attention.sequences = 1;
  attention.kv_heads = 1;
  attention.tokens = 128;
  attention.block_tokens = 1;
  attention.lookup = paged::Lookup::kNoOffset;  // all 128 tokens are the same one
  const paged::Data data{1, 2, 3, 4.0f};
  const std::vector<double> output = paged::ReferenceRow(attention, data, {}, 0, 0);
  for (int d = 0; d < paged::kHeadSize; ++d) EXPECT_NEAR(output[d], paged::ValueAt(d, data.value_seed), 1e-12);
}

TEST(Reference, ATableThatNamesTheBlocksInOrderChangesNothing) {
  paged::Attention attention{};
  attention.sequences = 2;
  attention.kv_heads = 2;
  attention.tokens = 128;
  attention.block_tokens = 16;
  const paged::Data data{1, 2, 3, 4.0f};
  std::vector<int> table(16);
  for (int i = 0; i < 16; ++i) table[i] = i;
  attention.lookup = paged::Lookup::kDirect;
  const auto direct = paged::ReferenceRow(attention, data, {}, 3, 5);
  attention.lookup = paged::Lookup::kTable;
  EXPECT_EQ(paged::ReferenceRow(attention, data, table, 3, 5), direct);
  std::swap(table[8], table[0]);
  EXPECT_NE(paged::ReferenceRow(attention, data, table, 3, 5), direct);
}

TEST(Reference, AnErrorAndANanAreSeen) {
  const std::vector<double> expected = {1, 0.5};
  __half found[2] = {__float2half(1.0f), __float2half(0.5f)};
  EXPECT_LT(paged::RelativeError(expected, found), 1e-6);
  found[1] = __float2half(0.51f);
  EXPECT_NEAR(paged::RelativeError(expected, found), 0.01, 1e-3);
  found[1] = __float2half(NAN);
  EXPECT_FALSE(paged::RelativeError(expected, found) <= 1e-3);
}

}  // namespace
