// Strings and stacks: equal ones share an id, different ones never do, and memory has an end.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "record/interner.h"
#include "record/loss_table.h"
#include "record_oracle/trace_oracle.pb.h"

namespace uvmtrace {
namespace {

TEST(StringInterner, KeepsValuesAcrossSegmentsAndRehashing) {
  auto interner = std::make_unique<StringInterner>();
  for (int round = 0; round < 2; ++round) {
    for (uint32_t i = 1; i <= 20'000; ++i) {
      ASSERT_EQ(interner->Intern("name " + std::to_string(i)), i);
    }
  }
  EXPECT_EQ(interner->count(), 20'000u);
  for (uint32_t i = 1; i <= 20'000; ++i) ASSERT_EQ(interner->Get(i), "name " + std::to_string(i));
}

TEST(StringInterner, EmptyEmbeddedZeroAndLong) {
  auto interner = std::make_unique<StringInterner>();
  const uint32_t empty = interner->Intern("");
  const uint32_t zero = interner->Intern(std::string_view("\0", 1));
  const uint32_t zeros = interner->Intern(std::string_view("\0\0", 2));
  const std::string large(1 << 20, 'x');
  const uint32_t long_one = interner->Intern(large);
  EXPECT_EQ((std::set<uint32_t>{empty, zero, zeros, long_one}).size(), 4u);
  EXPECT_EQ(interner->Get(empty), "");
  EXPECT_EQ(interner->Get(zeros).size(), 2u);
  EXPECT_EQ(interner->Get(long_one), large);
}

TEST(StringInterner, SaysZeroAtItsLimitAndStaysWhole) {
  auto interner = std::make_unique<StringInterner>();
  const std::string large(StringInterner::kLimitBytes / 4, 'x');
  uint32_t last = 1;
  int i = 0;
  for (; i < 10 && last != 0; ++i) last = interner->Intern(large + std::to_string(i));
  EXPECT_EQ(i, 4);
  EXPECT_EQ(interner->count(), 3u);
  EXPECT_EQ(interner->Intern("small"), 4u);
  EXPECT_EQ(interner->Get(4), "small");
}

TEST(StringInterner, ThreadsAgreeAndAReaderSeesWholeEntries) {
  auto interner = std::make_unique<StringInterner>();
  std::atomic<bool> done{false};
  std::thread reader([&] {
    uint32_t next = 1;
    while (!done.load() || next <= interner->count()) {
      for (const uint32_t count = interner->count(); next <= count; ++next) {
        ASSERT_TRUE(interner->Get(next).starts_with("string "));
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::vector<uint32_t>> ids(4, std::vector<uint32_t>(5000));
  std::vector<std::thread> threads;
  for (auto& mine : ids) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < mine.size(); ++i) mine[i] = interner->Intern("string " + std::to_string(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  done.store(true);
  reader.join();
  for (const auto& mine : ids) EXPECT_EQ(mine, ids[0]);
  EXPECT_EQ(interner->count(), 5000u);
}

TEST(StackInterner, OrderAndDepthMatter) {
  auto interner = std::make_unique<StackInterner>();
  using Pcs = std::vector<uint64_t>;
  EXPECT_EQ(interner->Intern({}), 0u);
  EXPECT_EQ(interner->Intern(Pcs{1, 2}), 1u);
  EXPECT_EQ(interner->Intern(Pcs{2, 1}), 2u);
  EXPECT_EQ(interner->Intern(Pcs{1, 2, 0}), 3u);
  EXPECT_EQ(interner->Intern(Pcs{1}), 4u);
  EXPECT_EQ(interner->Intern(Pcs{1, 2}), 1u);
  EXPECT_EQ(interner->Get(3).size(), 3u);
}

TEST(StackInterner, SaysZeroAtItsLimitAndStillFindsTheOld) {
  auto interner = std::make_unique<StackInterner>();
  std::vector<uint64_t> pcs(128, 5);
  uint64_t stacks = 0;
  for (;; ++stacks) {
    pcs[0] = stacks;
    if (interner->Intern(pcs) == 0) break;
  }
  EXPECT_EQ(stacks, StackInterner::kLimitBytes / sizeof(uint64_t) / 128);
  pcs[0] = 17;
  EXPECT_EQ(interner->Intern(pcs), 18u);
}

TEST(StackInterner, TheSameWordsAsPythonFramesAreAnotherStack) {
  auto interner = std::make_unique<StackInterner>();
  const uint64_t words[] = {1, 2, 3};
  EXPECT_EQ(interner->Intern(words), 1u);
  EXPECT_EQ(interner->Intern(words, 1), 2u);
  EXPECT_EQ(interner->Intern(words, 3), 3u);
  EXPECT_EQ(interner->Intern(words, 1), 2u);
  EXPECT_EQ(interner->Intern(words, 4), 0u) << "more Python frames than there are words";
  EXPECT_EQ(interner->Get(2).size(), 2u);
  EXPECT_EQ(interner->GetPython(2)[0], 3u);
  EXPECT_TRUE(interner->Get(3).empty());
}

pb::Chunk Appended(LossTable& table) {
  WireBuffer out;
  table.Append(out);
  pb::Chunk chunk;
  EXPECT_TRUE(chunk.ParseFromArray(out.data(), static_cast<int>(out.size())));
  out.Free();
  return chunk;
}

TEST(LossTable, ACountStaysUntilItsChunkIsWritten) {
  auto table = std::make_unique<LossTable>();
  table->Count("cupti", "buffers", 2);
  table->Count("cupti", "buffers", 3);
  table->Count("cupti", "other", 0);
  EXPECT_EQ(Appended(*table).loss_size(), 1);
  table->Count("cupti", "buffers", 1);  // between the encoding and a failed write
  EXPECT_EQ(Appended(*table).loss(0).count(), 6u) << "not committed: said again, with what came since";
  table->Count("cupti", "buffers", 10);  // between the encoding and a good write
  table->Commit();
  EXPECT_EQ(Appended(*table).loss(0).count(), 10u);
  table->Commit();
  EXPECT_FALSE(table->HasPending());
  EXPECT_EQ(Appended(*table).loss_size(), 0);
}

TEST(LossTable, TooManyKindsStillAddUp) {
  auto table = std::make_unique<LossTable>();
  for (int i = 0; i < 1000; ++i) table->Count("source", "reason " + std::to_string(i), 1);
  uint64_t sum = 0;
  const pb::Chunk chunk = Appended(*table);
  for (const pb::Loss& loss : chunk.loss()) sum += loss.count();
  EXPECT_EQ(sum, 1000u);
}

}  // namespace
}  // namespace uvmtrace
