// The ring: contents, wrapping, overflow, a reader and a writer at once; and the registry that hands rings out.
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "record/ring.h"
#include "record/ring_registry.h"

namespace uvmtrace {
namespace {

constexpr size_t kCapacity = 4096;

struct TestRing {
  TestRing() { ring.Initialize(memory, kCapacity); }
  alignas(8) uint8_t memory[kCapacity + 64];  // the last bytes must stay as they are
  Ring ring;
};

using Words = std::vector<uint64_t>;

Ring::PushResult PushWords(Ring& ring, const Words& event, const Words& tail = {}) {
  return ring.Push(EventType::kKernel, event.data(), event.size() * 8, tail);
}

struct Record {
  Words event;
  Words tail;
  bool operator==(const Record&) const = default;
};

std::vector<Record> DrainAll(Ring& ring) {
  std::vector<Record> records;
  ring.Drain(ring.head(), [&](EventType type, const void* event, size_t bytes, const uint64_t* tail, size_t words) {
    EXPECT_EQ(type, EventType::kKernel);
    const uint64_t* begin = static_cast<const uint64_t*>(event);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(begin) % 8, 0u);
    records.push_back({Words(begin, begin + bytes / 8), Words(tail, tail + words)});
  });
  return records;
}

TEST(Ring, GivesBackWhatWasPushedInOrder) {
  auto test = std::make_unique<TestRing>();
  EXPECT_EQ(PushWords(test->ring, {1, 2}), Ring::PushResult::kPushed);
  EXPECT_EQ(PushWords(test->ring, {3}, {4, 5, 6}), Ring::PushResult::kPushed);
  const std::vector<Record> records = DrainAll(test->ring);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0], (Record{{1, 2}, {}}));
  EXPECT_EQ(records[1], (Record{{3}, {4, 5, 6}}));
  EXPECT_TRUE(DrainAll(test->ring).empty());
}

TEST(Ring, WrapsAtEveryOffsetWithEveryLength) {
  auto test = std::make_unique<TestRing>();
  uint64_t value = 0;
  for (int round = 0; round < 5000; ++round) {
    const Words event(1 + round % 11, ++value);
    const Words tail(round % 67, ++value);
    ASSERT_NE(PushWords(test->ring, event, tail), Ring::PushResult::kLost);
    const std::vector<Record> records = DrainAll(test->ring);
    ASSERT_EQ(records.size(), 1u);
    ASSERT_EQ(records[0], (Record{event, tail}));
  }
}

TEST(Ring, FullMeansDroppedAndCountedByType) {
  auto test = std::make_unique<TestRing>();
  int pushed = 0;
  while (PushWords(test->ring, Words(10, 7)) != Ring::PushResult::kLost) ++pushed;
  EXPECT_EQ(pushed, int(kCapacity / 88));
  const uint64_t event = 1;
  EXPECT_NE(test->ring.Push(EventType::kApiCall, &event, 8, {}), Ring::PushResult::kLost) << "a small one still fits";
  EXPECT_EQ(PushWords(test->ring, Words(10, 7)), Ring::PushResult::kLost);
  EXPECT_EQ(test->ring.TakeLost(Ring::LossReason::kFull, EventType::kKernel), 2u);
  EXPECT_EQ(test->ring.TakeLost(Ring::LossReason::kFull, EventType::kKernel), 0u);
  EXPECT_EQ(test->ring.TakeLost(Ring::LossReason::kFull, EventType::kApiCall), 0u);
  int drained = 0;
  test->ring.Drain(test->ring.head(), [&](auto...) { ++drained; });
  EXPECT_EQ(drained, pushed + 1);
  EXPECT_NE(PushWords(test->ring, Words(10, 7)), Ring::PushResult::kLost) << "and there is room again";
}

TEST(Ring, ARecordLargerThanHalfIsRefusedAndHarmsNothing) {
  auto test = std::make_unique<TestRing>();
  memset(test->memory + kCapacity, 0xab, 64);
  EXPECT_EQ(PushWords(test->ring, Words(8, 1), Words(kCapacity / 8, 2)), Ring::PushResult::kLost);
  EXPECT_EQ(test->ring.head(), 0u);
  EXPECT_EQ(test->memory[kCapacity], 0xab);
  EXPECT_EQ(PushWords(test->ring, {5}), Ring::PushResult::kPushed);
  EXPECT_EQ(DrainAll(test->ring).size(), 1u);
}

TEST(Ring, TellsWhenItIsMoreThanHalfFull) {
  auto test = std::make_unique<TestRing>();
  size_t used = 0;
  while (used < kCapacity) {
    const Ring::PushResult result = PushWords(test->ring, Words(7, 1));
    used += 64;
    EXPECT_EQ(result == Ring::PushResult::kPushedMoreThanHalfFull, used > kCapacity / 2) << used;
  }
  DrainAll(test->ring);
  EXPECT_EQ(PushWords(test->ring, Words(7, 1)), Ring::PushResult::kPushed)
      << "an old idea of the reader is not trusted";
}

TEST(Ring, DrainStopsAtTheHeadThatWasRead) {
  auto test = std::make_unique<TestRing>();
  PushWords(test->ring, {1});
  const uint64_t head = test->ring.head();
  PushWords(test->ring, {2});
  int drained = 0;
  test->ring.Drain(head, [&](auto...) { ++drained; });
  EXPECT_EQ(drained, 1);
  EXPECT_EQ(DrainAll(test->ring)[0].event[0], 2u);
}

TEST(Ring, TwoThreadsEveryRecordIsWholeInOrderOrCounted) {
  auto test = std::make_unique<TestRing>();
  constexpr uint64_t kRecords = 400'000;
  std::atomic<bool> done{false};
  uint64_t lost_seen_by_producer = 0;
  std::thread producer([&] {
    uint64_t words[40];
    for (uint64_t i = 1; i <= kRecords; ++i) {
      for (uint64_t& word : words) word = i;
      const size_t tail = i % 30;
      if (test->ring.Push(EventType::kKernel, words, 8 * (1 + i % 9), {words, tail}) == Ring::PushResult::kLost) {
        ++lost_seen_by_producer;
        std::this_thread::yield();
      }
    }
    done.store(true);
  });
  uint64_t received = 0;
  uint64_t last = 0;
  bool torn = false;
  bool disordered = false;
  for (bool finished = false; !finished;) {
    finished = done.load();
    test->ring.Drain(test->ring.head(),
                     [&](EventType, const void* event, size_t bytes, const uint64_t* tail, size_t words) {
                       const uint64_t* data = static_cast<const uint64_t*>(event);
                       const uint64_t id = data[0];
                       for (size_t i = 0; i < bytes / 8; ++i) torn |= data[i] != id;
                       for (size_t i = 0; i < words; ++i) torn |= tail[i] != id;
                       torn |= bytes / 8 != 1 + id % 9 || words != id % 30;
                       disordered |= id <= last;
                       last = id;
                       ++received;
                     });
    if (!finished) std::this_thread::yield();
  }
  producer.join();
  EXPECT_FALSE(torn);
  EXPECT_FALSE(disordered);
  const uint64_t lost = test->ring.TakeLost(Ring::LossReason::kFull, EventType::kKernel);
  EXPECT_EQ(lost, lost_seen_by_producer);
  EXPECT_EQ(received + lost, kRecords);
}

TEST(RingRegistry, TheBudgetEndsInSmallerRingsAndThenInNone) {
  auto registry = std::make_unique<RingRegistry>();
  registry->SetBudget(RingRegistry::kSourceRingBytes + RingRegistry::kHostRingBytes + 64 * 1024);
  ThreadRing* source = registry->Attach(RingKind::kSource);
  ASSERT_NE(source, nullptr);
  EXPECT_EQ(source->ring.capacity(), RingRegistry::kSourceRingBytes);
  ThreadRing* small = registry->Attach(RingKind::kSource);
  ASSERT_NE(small, nullptr);
  EXPECT_EQ(small->ring.capacity(), RingRegistry::kHostRingBytes);
  ThreadRing* smallest = registry->Attach(RingKind::kHost);
  ASSERT_NE(smallest, nullptr);
  EXPECT_EQ(smallest->ring.capacity(), RingRegistry::kSmallestRingBytes);
  EXPECT_EQ(registry->Attach(RingKind::kHost), nullptr);
  registry->Orphan(smallest);
  EXPECT_EQ(registry->Attach(RingKind::kHost), nullptr) << "not before it was drained";
  registry->Recycle(smallest);
  EXPECT_EQ(registry->Attach(RingKind::kSource), nullptr) << "a host's ring is not a source's";
  EXPECT_EQ(registry->Attach(RingKind::kHost), smallest);
  EXPECT_EQ(registry->Attach(RingKind::kHost), nullptr);
}

TEST(RingRegistry, FindsRingsOfThreadsThatDiedWithoutAWord) {
  auto registry = std::make_unique<RingRegistry>();
  registry->SetBudget(1 << 20);
  ThreadRing* dead = nullptr;
  std::thread([&] { dead = registry->Attach(RingKind::kHost); }).join();
  ThreadRing* alive = registry->Attach(RingKind::kHost);
  // The kernel removes the thread a moment after it is joined.
  for (int i = 0; i < 1000 && dead->state.load() == ThreadRing::kInUse; ++i) {
    registry->OrphanRingsOfDeadThreads(getpid());
    std::this_thread::yield();
  }
  EXPECT_EQ(dead->state.load(), uint32_t{ThreadRing::kOrphaned});
  EXPECT_EQ(alive->state.load(), uint32_t{ThreadRing::kInUse});
}

TEST(RingRegistry, ManyThreadsAtOnceGetDifferentRings) {
  auto registry = std::make_unique<RingRegistry>();
  registry->SetBudget(64 << 20);
  std::vector<std::thread> threads;
  std::vector<ThreadRing*> rings(32);
  for (size_t i = 0; i < rings.size(); ++i) {
    threads.emplace_back([&, i] { rings[i] = registry->Attach(RingKind::kHost); });
  }
  for (std::thread& thread : threads) thread.join();
  std::sort(rings.begin(), rings.end());
  EXPECT_EQ(std::unique(rings.begin(), rings.end()), rings.end());
  size_t listed = 0;
  for (ThreadRing* ring = registry->first(); ring != nullptr; ring = ring->next) ++listed;
  EXPECT_EQ(listed, rings.size());
}

}  // namespace
}  // namespace uvmtrace
