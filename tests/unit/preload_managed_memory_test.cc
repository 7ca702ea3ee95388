#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "preload/session/managed_memory.h"

namespace uvmtrace {
namespace {

uint64_t Remove(uint64_t address) {
  const uint64_t bytes = managed_memory.BeginFree(address);
  managed_memory.EndFree(bytes);
  return bytes;
}

class PreloadManagedMemory : public testing::Test {
 protected:
  void SetUp() override { managed_memory.Forget(); }
  void TearDown() override { managed_memory.Forget(); }
};

TEST_F(PreloadManagedMemory, LivesFromInsertToRemove) {
  EXPECT_FALSE(managed_memory.Live());
  EXPECT_TRUE(managed_memory.Insert(0x7000'0000, 4096));
  EXPECT_TRUE(managed_memory.Live());
  EXPECT_EQ(managed_memory.LiveBytes(), 4096u);
  EXPECT_EQ(Remove(0x7000'0000), 4096u);
  EXPECT_FALSE(managed_memory.Live());
  EXPECT_EQ(managed_memory.LiveBytes(), 0u);
}

TEST_F(PreloadManagedMemory, IsAliveUntilTheRealFreeHasReturned) {
  managed_memory.Insert(0x1000, 10);
  EXPECT_EQ(managed_memory.BeginFree(0x1000), 10u);
  EXPECT_TRUE(managed_memory.Live());  // a kernel may still fault on it
  EXPECT_EQ(managed_memory.LiveBytes(), 10u);
  EXPECT_EQ(managed_memory.BeginFree(0x1000), 0u);  // the driver call beneath the runtime call
  managed_memory.EndFree(0);
  EXPECT_TRUE(managed_memory.Live());
  managed_memory.EndFree(10);
  EXPECT_FALSE(managed_memory.Live());
}

TEST_F(PreloadManagedMemory, AFreeThatFailsGivesTheAllocationBack) {
  managed_memory.Insert(0x1000, 10);
  const uint64_t bytes = managed_memory.BeginFree(0x1000);
  managed_memory.Insert(0x1000, bytes);
  managed_memory.EndFree(bytes);
  EXPECT_TRUE(managed_memory.Live());
  EXPECT_EQ(managed_memory.LiveBytes(), 10u);
  EXPECT_EQ(Remove(0x1000), 10u);
  EXPECT_FALSE(managed_memory.Live());
}

TEST_F(PreloadManagedMemory, TheNextOwnerOfAnAddressBeingFreedIsAnAllocationOfItsOwn) {
  managed_memory.Insert(0x1000, 10);
  const uint64_t bytes = managed_memory.BeginFree(0x1000);
  managed_memory.Insert(0x1000, 20);  // another thread, between the real free and our return from it
  managed_memory.EndFree(bytes);
  EXPECT_TRUE(managed_memory.Live());
  EXPECT_EQ(managed_memory.LiveBytes(), 20u);
}

TEST_F(PreloadManagedMemory, RuntimeAndDriverSayTheSameAllocationOnce) {
  EXPECT_TRUE(managed_memory.Insert(0x1000, 10));
  EXPECT_FALSE(managed_memory.Insert(0x1000, 10));
  EXPECT_EQ(managed_memory.LiveBytes(), 10u);
  EXPECT_EQ(Remove(0x1000), 10u);
  EXPECT_EQ(Remove(0x1000), 0u);
  EXPECT_FALSE(managed_memory.Live());
}

TEST_F(PreloadManagedMemory, ContainsWhatLives) {
  EXPECT_FALSE(managed_memory.Contains(0));
  EXPECT_FALSE(managed_memory.Contains(0x1000));
  managed_memory.Insert(0x1000, 10);
  EXPECT_TRUE(managed_memory.Contains(0x1000));
  EXPECT_FALSE(managed_memory.Contains(0x1001));
  Remove(0x1000);
  EXPECT_FALSE(managed_memory.Contains(0x1000));
  EXPECT_FALSE(managed_memory.Contains(1));  // the mark of a removed slot
}

TEST_F(PreloadManagedMemory, UnknownAndNullAddressesAreNotManaged) {
  EXPECT_FALSE(managed_memory.Insert(0, 10));
  EXPECT_EQ(Remove(0), 0u);
  managed_memory.Insert(0x2000, 1);
  EXPECT_EQ(Remove(0x3000), 0u);
  EXPECT_TRUE(managed_memory.Live());
}

TEST_F(PreloadManagedMemory, SlotsAreUsedAgain) {
  for (uint64_t i = 1; i < 200'000; ++i) {
    managed_memory.Insert(i * 0x1000, 1);
    ASSERT_EQ(Remove(i * 0x1000), 1u) << i;
  }
  EXPECT_FALSE(managed_memory.Live());
}

TEST_F(PreloadManagedMemory, AFullTableStaysLiveInsteadOfForgetting) {
  constexpr uint64_t kTooMany = 40'000;
  for (uint64_t i = 1; i <= kTooMany; ++i) managed_memory.Insert(i * 0x1000, 1);
  for (uint64_t i = 1; i <= kTooMany; ++i) Remove(i * 0x1000);
  EXPECT_TRUE(managed_memory.Live());
  managed_memory.Forget();
  EXPECT_FALSE(managed_memory.Live());
}

TEST_F(PreloadManagedMemory, ThreadsBalance) {
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= 4; ++t) {
    threads.emplace_back([t] {
      for (uint64_t i = 1; i < 3000; ++i) {
        const uint64_t address = (t << 40) + i * 0x1000;
        managed_memory.Insert(address, 7);
        EXPECT_EQ(Remove(address), 7u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(managed_memory.Live());
  EXPECT_EQ(managed_memory.LiveBytes(), 0u);
}

}  // namespace
}  // namespace uvmtrace
