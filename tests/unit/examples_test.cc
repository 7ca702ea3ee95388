// Tests of what the examples decide before they touch a GPU: how much memory there is, what is refused, who is evicted.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "examples/common/host_memory.h"
#include "examples/common/program.h"
#include "examples/oversub/mode.h"
#include "examples/oversub/plan.h"
#include "examples/oversub/resident_set.h"
#include "examples/oversub/visit_kernel.h"

namespace {

using examples::ReadHostMemory;
using examples::Refused;

constexpr uint64_t kMiB = 1ull << 20;
constexpr uint64_t kGiB = 1ull << 30;

// A folder that stands before /proc and /sys.
class HostMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/host_memory_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

TEST_F(HostMemoryTest, NoMeminfoIsUnknownAndRefused) {
  EXPECT_FALSE(ReadHostMemory(root_).has_value());
  EXPECT_THROW(examples::RequireHostMemory(1, "test", root_), Refused);
}

TEST_F(HostMemoryTest, WithoutGroupsMemAvailableCounts) {
  Write("/proc/meminfo", "MemTotal: 9000000 kB\nMemFree: 1 kB\nMemAvailable: 2097152 kB\n");
  EXPECT_EQ(ReadHostMemory(root_)->available_bytes, 2 * kGiB);
  EXPECT_EQ(ReadHostMemory(root_)->limited_by, "MemAvailable");
}

TEST_F(HostMemoryTest, ALimitOfAParentGroupBinds) {
  Write("/proc/meminfo", "MemAvailable: 8388608 kB\n");
  Write("/proc/self/cgroup", "0::/outer/inner\n");
  Write("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  Write("/sys/fs/cgroup/outer/inner/memory.current", "1048576\n");
  Write("/sys/fs/cgroup/outer/memory.max", std::to_string(3 * kGiB));
  Write("/sys/fs/cgroup/outer/memory.current", std::to_string(2 * kGiB));
  EXPECT_EQ(ReadHostMemory(root_)->available_bytes, kGiB);
  EXPECT_NE(ReadHostMemory(root_)->limited_by.find("/outer"), std::string::npos);
}

TEST_F(HostMemoryTest, CacheThatTheKernelGivesBackIsNotUsed) {
  Write("/proc/meminfo", "MemAvailable: 8388608 kB\n");
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", std::to_string(3 * kGiB));
  Write("/sys/fs/cgroup/memory.current", std::to_string(2 * kGiB));
  Write("/sys/fs/cgroup/memory.stat", "anon 5\ninactive_file " + std::to_string(kGiB) + "\n");
  EXPECT_EQ(ReadHostMemory(root_)->available_bytes, 2 * kGiB);
}

TEST_F(HostMemoryTest, VersionOneGroupsAreFoundAmongOthers) {
  Write("/proc/meminfo", "MemAvailable: 8388608 kB\n");
  Write("/proc/self/cgroup", "12:cpu,cpuacct:/a\n5:memory:/box\n0::/\n");
  Write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", std::to_string(kGiB));
  Write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "0");
  EXPECT_EQ(ReadHostMemory(root_)->available_bytes, kGiB);
}

TEST_F(HostMemoryTest, AGroupOverItsLimitLeavesNothing) {
  Write("/proc/meminfo", "MemAvailable: 8388608 kB\n");
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "100");
  Write("/sys/fs/cgroup/memory.current", "200");
  EXPECT_EQ(ReadHostMemory(root_)->available_bytes, 0u);
}

TEST_F(HostMemoryTest, GarbageInTheGroupFilesIsNoLimit) {
  Write("/proc/meminfo", "MemAvailable: 1048576 kB\n");
  Write("/proc/self/cgroup", "nonsense\n:\n0::/a/b\n0::\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "lots");
  EXPECT_EQ(ReadHostMemory(root_)->available_bytes, kGiB);
}

TEST_F(HostMemoryTest, TheMarginIsAtLeast256MiB) {
  Write("/proc/meminfo", "MemAvailable: 1048576 kB\n");
  EXPECT_NO_THROW(examples::RequireHostMemory(768 * kMiB, "test", root_));
  EXPECT_THROW(examples::RequireHostMemory(768 * kMiB + 1, "test", root_), Refused);
  EXPECT_THROW(examples::RequireHostMemory(UINT64_MAX, "test", root_), Refused);
}

TEST(FormatBytes, KeepsWholeNumbersWhole) {
  EXPECT_EQ(examples::FormatBytes(0), "0 bytes");
  EXPECT_EQ(examples::FormatBytes(64 * kMiB), "64 MiB");
  EXPECT_EQ(examples::FormatBytes(kGiB + kGiB / 2), "1.50 GiB");
}

// The refusals that need no GPU; the ones that pass go on to ask a device, so these tests use the manual mode for
// success.
class PlanTest : public testing::Test {
 protected:
  PlanTest() {
    machine_.free_bytes = kGiB;
    machine_.total_bytes = kGiB;
    arguments_.modes = {"manual"};
    arguments_.chunks = 8;
    arguments_.resident_chunks = 4;
    arguments_.capacity_bytes = 64 * kMiB;
  }

  std::string Refusal() {
    try {
      oversub::MakePlan(arguments_, machine_);
    } catch (const Refused& refused) {
      return refused.what();
    }
    return "";
  }

  oversub::Arguments arguments_;
  examples::Machine machine_;
};

TEST_F(PlanTest, ChunksAreCapacityOverKInWholeBlocks) {
  arguments_.capacity_bytes = 63 * kMiB;
  const oversub::Plan plan = oversub::MakePlan(arguments_, machine_);
  EXPECT_EQ(plan.chunk_bytes, 14 * kMiB);
  EXPECT_EQ(plan.total_bytes(), 8 * 14 * kMiB);
  EXPECT_EQ(plan.managed_eviction, oversub::Eviction::kProgram);
}

TEST_F(PlanTest, WithoutCapacityTheDriverEvictsAndTheFreeMemoryCounts) {
  arguments_.capacity_bytes = 0;
  machine_.free_bytes = 62 * kMiB;
  const oversub::Plan plan = oversub::MakePlan(arguments_, machine_);
  EXPECT_EQ(plan.chunk_bytes, 14 * kMiB);
  EXPECT_EQ(plan.managed_eviction, oversub::Eviction::kDriver);
}

TEST_F(PlanTest, ManagedMemoryBeyondARealGpuIsRefused) {
  arguments_.modes = {"manual", "uvm"};
  arguments_.capacity_bytes = 0;
  EXPECT_NE(Refusal().find("--allow-oversubscription"), std::string::npos) << Refusal();
  arguments_.capacity_bytes = kGiB;  // evicted by the program, but 2 GiB of managed memory all the same
  EXPECT_NE(Refusal().find("--allow-oversubscription"), std::string::npos) << Refusal();
}

TEST_F(PlanTest, ACapacityThatIsNotThereIsRefused) {
  arguments_.capacity_bytes = machine_.free_bytes + 1;
  EXPECT_NE(Refusal().find("free device memory"), std::string::npos) << Refusal();
}

TEST_F(PlanTest, AChunkBelowOneBlockIsRefused) {
  arguments_.resident_chunks = 33;
  EXPECT_NE(Refusal().find("2 MiB"), std::string::npos) << Refusal();
}

TEST_F(PlanTest, ChunksThatDoNotFitKTimesAreRefused) {
  arguments_.chunk_bytes = 18 * kMiB;
  EXPECT_NE(Refusal().find("do not fit"), std::string::npos) << Refusal();
}

TEST_F(PlanTest, MoreThanTheHostHasIsRefused) {
  arguments_.chunks = 1ull << 20;
  EXPECT_NE(Refusal().find("host memory"), std::string::npos) << Refusal();
}

TEST(Modes, EveryNameIsKnownAndNoOther) {
  const std::vector<std::string> names = oversub::ModeNames();
  EXPECT_EQ(std::vector<std::string>(names.begin(), names.begin() + 4),
            (std::vector<std::string>{"manual", "pinned", "uvm", "prefetch"}));  // the blog post's columns
  EXPECT_TRUE(oversub::IsManagedMode("prefetch"));
  EXPECT_FALSE(oversub::IsManagedMode("pinned"));
  EXPECT_THROW(oversub::IsManagedMode("all"), Refused);
}

// N cycles over m > k chunks miss every time: N * m come in, N * m - k go out.
TEST(ResidentSet, CyclicOrderMissesEveryTime) {
  constexpr int kCycles = 3;
  constexpr uint64_t kChunks = 8;
  oversub::ResidentSet resident(4);
  int misses = 0;
  int evictions = 0;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      const auto outcome = resident.Use(chunk);
      misses += !outcome.was_resident;
      evictions += outcome.victim.has_value();
      EXPECT_EQ(outcome.victim.value_or((chunk + kChunks - 4) % kChunks), (chunk + kChunks - 4) % kChunks);
      EXPECT_LE(resident.chunks().size(), 4u);
    }
  }
  EXPECT_EQ(misses, kCycles * 8);
  EXPECT_EQ(evictions, kCycles * 8 - 4);
}

TEST(ResidentSet, WhatWasUsedLastStays) {
  oversub::ResidentSet resident(2);
  resident.Use(1);
  resident.Use(2);
  EXPECT_TRUE(resident.Use(1).was_resident);
  EXPECT_EQ(resident.Use(3).victim, 2u);
  EXPECT_TRUE(resident.Use(1).was_resident);
}

// The ledger of a mode counts whole chunks: that is right only if an order visits each page, and none twice.
TEST(Order, EveryPatternVisitsEachPageOnce) {
  using oversub::Pattern;
  for (const uint64_t pages : {512ull, 1024ull, 3 * 512ull, 7 * 512ull}) {
    for (const Pattern pattern : {Pattern::kSequential, Pattern::kStrided, Pattern::kRandom, Pattern::kPingPong}) {
      std::set<uint64_t> seen;
      for (uint64_t step = 0; step < pages; ++step) seen.insert(oversub::PageAtStep(pattern, step, pages));
      EXPECT_EQ(seen.size(), pages);
      EXPECT_EQ(*seen.rbegin(), pages - 1);
    }
  }
}

TEST(Order, RandomIsNotNearlySequential) {
  int neighbours = 0;
  for (uint64_t step = 1; step < 4096; ++step) {
    neighbours += oversub::PageAtStep(oversub::Pattern::kRandom, step, 4096) ==
                  oversub::PageAtStep(oversub::Pattern::kRandom, step - 1, 4096) + 1;
  }
  EXPECT_LT(neighbours, 20);
}

TEST(ResidentSet, WhatTheHostTookBackMakesRoom) {
  oversub::ResidentSet resident(2);
  resident.Use(1);
  resident.Use(2);
  resident.Remove(1);
  const auto outcome = resident.Use(3);
  EXPECT_FALSE(outcome.victim.has_value());
  EXPECT_FALSE(resident.Use(1).was_resident);
}

TEST(Pattern, ASwappedChunkAStaleVisitAndAShiftedPageAllDiffer) {
  std::set<uint64_t> words;
  for (uint64_t chunk = 0; chunk < 8; ++chunk) {
    for (uint64_t visit = 0; visit < 4; ++visit) {
      const uint64_t pattern = oversub::PatternOfVisit(1, chunk, visit);
      for (uint64_t index : {0, 1, 512, 8192, 262144}) words.insert(oversub::WordOfPattern(pattern, index));
    }
  }
  EXPECT_EQ(words.size(), 8u * 4 * 5);
}

}  // namespace
