// The paging model of a GPU that is too small: what cycles through it move, which block goes first, and who gets the
// room.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/unit/sim_machine.h"

namespace uvm_model {
namespace {

// m chunks in a circle, room for k, N cycles.
struct Cyclic {
  uint64_t chunks = 8;
  uint64_t room = 4;
  uint64_t cycles = 3;
  uint64_t chunk_blocks = 2;
  uint64_t Chunk() const { return chunk_blocks * kBlockBytes; }
  uint64_t All() const { return chunks * Chunk(); }
};

void RunCyclic(const Cyclic& c, Access access, Machine* machine) {
  for (uint64_t cycle = 0; cycle < c.cycles; ++cycle) {
    for (uint64_t chunk = 0; chunk < c.chunks; ++chunk) machine->Gpu(kBase + chunk * c.Chunk(), c.Chunk(), access);
  }
}

TEST(ModelCyclic, CpuInitialisedReadOrWrite) {
  for (const Access access : {Access::kWrite, Access::kRead}) {
    for (const auto& [m, k] : std::vector<std::pair<uint64_t, uint64_t>>{{8, 4}, {5, 4}, {12, 4}, {3, 1}}) {
      Cyclic c;
      c.chunks = m;
      c.room = k;
      Machine machine(k * c.chunk_blocks);
      machine.model.AddRange(kBase, c.All());
      machine.Cpu(kBase, c.All(), Access::kWrite);
      machine.Reset();
      RunCyclic(c, access, &machine);
      EXPECT_EQ(machine->host_to_device, c.cycles * m * c.Chunk());
      // Clean pages are written back as well: there is no dirty bit.
      EXPECT_EQ(machine->device_to_host, (c.cycles * m - k) * c.Chunk());
      EXPECT_EQ(machine->evicted, machine->device_to_host);
      EXPECT_EQ(machine.model.ResidentBytes(0, kBase, c.All()), k * c.Chunk());
    }
  }
}

TEST(ModelCyclic, NeverPopulated) {
  Cyclic c;
  Machine machine(c.room * c.chunk_blocks);
  machine.model.AddRange(kBase, c.All());
  RunCyclic(c, Access::kWrite, &machine);
  EXPECT_EQ(machine->host_to_device, (c.cycles - 1) * c.All());
  EXPECT_EQ(machine->device_to_host, (c.cycles * c.chunks - c.room) * c.Chunk());
}

TEST(ModelCyclic, ReadMostlyEvictsForFree) {
  Cyclic c;
  Machine machine(c.room * c.chunk_blocks);
  machine.model.AddRange(kBase, c.All());
  machine.Cpu(kBase, c.All(), Access::kWrite);
  machine.Advise(kBase, c.All(), Advice::kSetReadMostly, kCpu);
  machine.Reset();
  RunCyclic(c, Access::kRead, &machine);
  EXPECT_EQ(machine->host_to_device, c.cycles * c.All());
  EXPECT_EQ(machine->device_to_host, 0u);
  // The CPU's copies were there all the time.
  machine.Cpu(kBase, c.All(), Access::kRead);
  EXPECT_EQ(machine->cpu_faults, 0u);
}

TEST(ModelCyclic, PreferredOnTheCpuAndAccessedByTheGpuMovesNothing) {
  Cyclic c;
  Machine machine(c.room * c.chunk_blocks);
  machine.model.AddRange(kBase, c.All());
  machine.Cpu(kBase, c.All(), Access::kWrite);
  machine.Advise(kBase, c.All(), Advice::kSetPreferredLocation, kCpu);
  machine.Advise(kBase, c.All(), Advice::kSetAccessedBy, 0);
  EXPECT_EQ(machine->remote_maps, c.All());
  RunCyclic(c, Access::kWrite, &machine);
  EXPECT_TRUE(machine->migrations.empty());
  EXPECT_EQ(machine->gpu_batches, 0u);
  EXPECT_EQ(machine->remote, c.cycles * c.All());
  EXPECT_EQ(machine.model.UsedBytes(0), 0u);
}

// Chunks that a cycle through them in alternating directions misses.
std::vector<int> PingPongMisses(int m, int k, EvictionOrder order) {
  ModelOptions options;
  options.eviction_order = order;
  Machine machine(static_cast<uint64_t>(k), options);
  machine.model.AddRange(kBase, static_cast<uint64_t>(m) * kBlockBytes);
  std::vector<int> misses;
  for (int cycle = 0; cycle < 5; ++cycle) {
    int missed = 0;
    for (int i = 0; i < m; ++i) {
      const auto chunk = static_cast<uint64_t>(cycle % 2 == 0 ? i : m - 1 - i);
      const uint64_t before = machine->gpu_batches;
      machine.Gpu(kBase + chunk * kBlockBytes, kBlockBytes, Access::kWrite);
      missed += machine->gpu_batches != before;
    }
    misses.push_back(missed);
  }
  misses.erase(misses.begin());  // the first fills the GPU
  return misses;
}

TEST(ModelEviction, OrderIsByLastMigrationNotByLastAccess) {
  EXPECT_EQ(PingPongMisses(5, 4, EvictionOrder::kLastMigration), (std::vector<int>{1, 4, 1, 4}));
  EXPECT_EQ(PingPongMisses(5, 4, EvictionOrder::kLastAccess), (std::vector<int>{1, 1, 1, 1}));
  EXPECT_EQ(PingPongMisses(8, 7, EvictionOrder::kLastMigration), (std::vector<int>{1, 7, 1, 7}));
  EXPECT_EQ(PingPongMisses(8, 7, EvictionOrder::kLastAccess), (std::vector<int>{1, 1, 1, 1}));
  EXPECT_EQ(PingPongMisses(6, 4, EvictionOrder::kLastMigration), (std::vector<int>{2, 4, 2, 4}));
  EXPECT_EQ(PingPongMisses(6, 4, EvictionOrder::kLastAccess), (std::vector<int>{2, 2, 2, 2}));
}

bool Resident(const Machine& machine, uint64_t block) {
  return machine.model.ResidentBytes(0, kBase + block * kBlockBytes, kBlockBytes) != 0;
}

TEST(ModelEviction, PrefetchOfResidentMemoryMovesItToTheTail) {
  Machine machine(3);
  machine.model.AddRange(kBase, 4 * kBlockBytes);
  for (uint64_t block : {0, 1, 2}) machine.Gpu(kBase + block * kBlockBytes, kBlockBytes, Access::kWrite);
  machine.Prefetch(kBase, kBlockBytes, 0);
  EXPECT_TRUE(machine->migrations.empty());
  machine.Gpu(kBase + 3 * kBlockBytes, kBlockBytes, Access::kWrite);
  EXPECT_TRUE(Resident(machine, 0));
  EXPECT_FALSE(Resident(machine, 1));
}

TEST(ModelEviction, PartialBlocksStayWhereTheyWereAllocated) {
  Machine machine(3);
  // Half a block; it enters the list first and is prefetched again later, which moves whole blocks only.
  machine.model.AddRange(kBase, kBlockBytes / 2);
  machine.model.AddRange(kBase + kBlockBytes, 3 * kBlockBytes);
  machine.Gpu(kBase, kBlockBytes / 2, Access::kWrite);
  machine.Gpu(kBase + kBlockBytes, 2 * kBlockBytes, Access::kWrite);
  machine.Prefetch(kBase, kBlockBytes / 2, 0);
  machine.Gpu(kBase + 3 * kBlockBytes, kBlockBytes, Access::kWrite);
  EXPECT_FALSE(Resident(machine, 0));
}

TEST(ModelEviction, BlocksThatNobodyUsesGoFirstAndMoveNothing) {
  Machine machine(2);
  machine.model.AddRange(kBase, 3 * kBlockBytes);
  machine.Gpu(kBase, 2 * kBlockBytes, Access::kWrite);
  machine.Cpu(kBase + kBlockBytes, kBlockBytes, Access::kWrite);  // takes the younger one home
  EXPECT_EQ(machine->device_to_host, kBlockBytes);
  machine.Gpu(kBase + 2 * kBlockBytes, kBlockBytes, Access::kWrite);
  EXPECT_EQ(machine->evicted, 0u);
  EXPECT_TRUE(Resident(machine, 0));
}

TEST(ModelEviction, DeviceAllocationsTakeTheRoomAndGiveItBack) {
  Machine machine(4);
  machine.model.AddRange(kBase, 4 * kBlockBytes);
  machine.Gpu(kBase, 4 * kBlockBytes, Access::kWrite);
  Outcome outcome;
  ASSERT_TRUE(machine.model.ReserveDeviceMemory(0, 3 * kBlockBytes, &outcome));
  EXPECT_EQ(outcome.evicted_blocks, 3u);
  EXPECT_TRUE(Resident(machine, 3));
  EXPECT_FALSE(machine.model.ReserveDeviceMemory(0, 2 * kBlockBytes, &outcome));
  EXPECT_TRUE(Resident(machine, 3)) << "evicted for an allocation that failed";
  ASSERT_TRUE(machine.model.ReserveDeviceMemory(0, kBlockBytes, &outcome));
  Outcome full;
  machine.model.GpuAccess(0, kBase, 1, Access::kRead, &full);
  EXPECT_TRUE(full.out_of_memory);
  machine.model.ReleaseDeviceMemory(0, 4 * kBlockBytes);
  EXPECT_EQ(machine.model.UsedBytes(0), 0u);
}

TEST(ModelEviction, RemovedRangesGiveTheirMemoryBack) {
  Machine machine(4);
  machine.model.AddRange(kBase, 4 * kBlockBytes);
  machine.Gpu(kBase, 4 * kBlockBytes, Access::kWrite);
  machine.model.RemoveRange(kBase, 4 * kBlockBytes);
  EXPECT_EQ(machine.model.UsedBytes(0), 0u);
  EXPECT_FALSE(machine.model.Contains(kBase, 1));
  ASSERT_TRUE(machine.model.AddRange(kBase, 5 * kBlockBytes - 1));
  machine.Gpu(kBase, 5 * kBlockBytes - 1, Access::kWrite);
  EXPECT_EQ(machine->evicted, kBlockBytes);
}

}  // namespace
}  // namespace uvm_model
