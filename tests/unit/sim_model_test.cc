// The paging model against the closed forms that follow from the driver's policy: exact counts and exact bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "sim/uvm_model/model.h"

namespace uvmsim {
namespace {

constexpr uint64_t kBase = uint64_t{1} << 40;

// A model with what was moved so far.
class Machine {
 public:
  explicit Machine(uint64_t blocks, ModelOptions options = {})
      : model([&] {
          options.device_bytes = blocks * kBlockBytes;
          return options;
        }()) {}

  void Cpu(uint64_t address, uint64_t bytes, Access access) {
    for (uint64_t at = address; at < address + bytes; at += kPageBytes) {
      Outcome outcome;
      model.CpuAccess(at, access, &outcome);
      Take(outcome);
    }
  }
  // A piece at a time, as UvmsimForEachSpan walks.
  void Gpu(uint64_t address, uint64_t bytes, Access access, uint64_t piece = kBigPageBytes) {
    for (uint64_t at = address; at < address + bytes; at += piece) {
      Outcome outcome;
      model.GpuAccess(0, at, std::min(piece, address + bytes - at), access, &outcome);
      ASSERT_FALSE(outcome.invalid);
      ASSERT_FALSE(outcome.out_of_memory);
      Take(outcome);
    }
  }
  void Prefetch(uint64_t address, uint64_t bytes, int destination) {
    Outcome outcome;
    model.Prefetch(address, bytes, destination, &outcome);
    Take(outcome);
  }
  void Advise(uint64_t address, uint64_t bytes, Advice advice, int processor) {
    Outcome outcome;
    model.Advise(address, bytes, advice, processor, &outcome);
    ASSERT_FALSE(outcome.invalid);
    Take(outcome);
  }
  void Reset() { *this->totals() = {}; }

  struct Sums {
    uint64_t host_to_device = 0;
    uint64_t device_to_host = 0;
    uint64_t evicted = 0;
    uint64_t remote = 0;
    uint64_t remote_maps = 0;
    uint64_t gpu_batches = 0;
    uint64_t cpu_faults = 0;
    std::vector<Event> migrations;
    std::vector<ProtectionChange> protections;
    ServiceTime time;
  };
  Sums* totals() { return &sums_; }
  const Sums* operator->() const { return &sums_; }
  // What the CPU may do with a page, as told by the protection changes so far.
  CpuProtection Shown(uint64_t address) const {
    const auto it = shown_.find(address / kPageBytes);
    return it == shown_.end() ? CpuProtection::kNone : it->second;
  }

  Model model;

 private:
  void Take(const Outcome& outcome) {
    for (const Event& event : outcome.events) {
      if (event.kind == EventKind::kMigration) {
        (event.source == kCpu ? sums_.host_to_device : sums_.device_to_host) += event.bytes;
        if (event.cause == static_cast<uint8_t>(MigrationCause::kEviction)) sums_.evicted += event.bytes;
        sums_.migrations.push_back(event);
      }
      if (event.kind == EventKind::kCpuFault) ++sums_.cpu_faults;
      if (event.kind == EventKind::kRemoteMap) sums_.remote_maps += event.bytes;
    }
    for (const Batch& batch : outcome.batches) sums_.gpu_batches += batch.kind == BatchKind::kGpuFaults;
    for (const ProtectionChange& change : outcome.protections) {
      for (uint64_t at = change.address; at < change.address + change.bytes; at += kPageBytes) {
        shown_[at / kPageBytes] = change.protection;
      }
      sums_.protections.push_back(change);
    }
    sums_.remote += outcome.remote_bytes;
    sums_.time += outcome.TotalTime();
  }
  Sums sums_;
  std::map<uint64_t, CpuProtection> shown_;
};

TEST(Model, SequentialWalkOfOneBlockGivesSixServicesAndTwelveTransfers) {
  Machine machine(4);
  ASSERT_TRUE(machine.model.AddRange(kBase, kBlockBytes));
  machine.Cpu(kBase, kBlockBytes, Access::kWrite);
  EXPECT_EQ(machine->cpu_faults, 6u);
  EXPECT_EQ(machine->migrations.size(), 0u);
  machine.Gpu(kBase, kBlockBytes, Access::kRead, kPageBytes);
  EXPECT_EQ(machine->gpu_batches, 6u);
  ASSERT_EQ(machine->migrations.size(), 12u);
  std::vector<uint64_t> services;
  uint64_t largest = 0;
  for (size_t i = 0; i < 12; i += 2) {
    services.push_back((machine->migrations[i].bytes + machine->migrations[i + 1].bytes) / 1024);
    EXPECT_EQ(machine->migrations[i].cause, static_cast<uint8_t>(MigrationCause::kCoherence));
    EXPECT_EQ(machine->migrations[i + 1].cause, static_cast<uint8_t>(MigrationCause::kPrefetch));
    largest = std::max(largest, machine->migrations[i + 1].bytes);
  }
  EXPECT_EQ(services, (std::vector<uint64_t>{64, 64, 128, 256, 512, 1024}));
  EXPECT_EQ(largest, (1024u - 4) * 1024);
  EXPECT_EQ(machine->host_to_device, kBlockBytes);
}

TEST(Model, ThresholdSetsTheNumberOfServices) {
  for (const auto& [threshold, services] : std::map<int, uint64_t>{{1, 1}, {25, 3}, {51, 6}, {75, 20}, {100, 512}}) {
    ModelOptions options;
    options.prefetch_threshold = threshold;
    Machine machine(4, options);
    machine.model.AddRange(kBase, kBlockBytes);
    machine.Gpu(kBase, kBlockBytes, Access::kWrite, kPageBytes);
    EXPECT_EQ(machine->gpu_batches, services) << "threshold " << threshold;
  }
}

TEST(Model, FirstTouchOnTheGpuMovesNoBytes) {
  Machine machine(4);
  machine.model.AddRange(kBase, 2 * kBlockBytes);
  machine.Gpu(kBase, 2 * kBlockBytes, Access::kWrite);
  EXPECT_GT(machine->gpu_batches, 0u);
  EXPECT_TRUE(machine->migrations.empty());
  machine.Cpu(kBase, 2 * kBlockBytes, Access::kRead);
  EXPECT_EQ(machine->device_to_host, 2 * kBlockBytes);
  EXPECT_EQ(machine->cpu_faults, 12u);
}

TEST(Model, IsolatedPageMovesSixtyFourKibibytes) {
  Machine machine(4);
  machine.model.AddRange(kBase, kBlockBytes);
  machine.Cpu(kBase, kBlockBytes, Access::kWrite);
  machine.Gpu(kBase + 300 * kPageBytes, 1, Access::kRead);
  EXPECT_EQ(machine->host_to_device, kBigPageBytes);
}

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

TEST(ModelRanges, RefusesWhatOverlapsOrIsUnaligned) {
  Machine machine(4);
  EXPECT_TRUE(machine.model.AddRange(kBase, kBlockBytes + 1));
  EXPECT_FALSE(machine.model.AddRange(kBase + kBlockBytes, kBlockBytes));
  EXPECT_FALSE(machine.model.AddRange(kBase + kPageBytes, kPageBytes));
  EXPECT_FALSE(machine.model.AddRange(kBase + 4 * kBlockBytes, 0));
  EXPECT_TRUE(machine.model.Contains(kBase, kBlockBytes + kPageBytes));
  EXPECT_FALSE(machine.model.Contains(kBase, kBlockBytes + kPageBytes + 1));
  Outcome outcome;
  machine.model.GpuAccess(0, kBase + kBlockBytes, 2 * kPageBytes, Access::kRead, &outcome);
  EXPECT_TRUE(outcome.invalid);
}

TEST(ModelAdvice, ReadMostlyDuplicatesAndAWriteCollapses) {
  Machine machine(4);
  machine.model.AddRange(kBase, kBlockBytes);
  machine.Cpu(kBase, kBlockBytes, Access::kWrite);
  machine.Advise(kBase, kBlockBytes, Advice::kSetReadMostly, kCpu);
  machine.Reset();
  machine.Gpu(kBase, kBlockBytes, Access::kRead);
  EXPECT_EQ(machine.model.ResidentBytes(0, kBase, kBlockBytes), kBlockBytes);
  EXPECT_EQ(machine.model.ResidentBytes(kCpu, kBase, kBlockBytes), kBlockBytes);
  EXPECT_EQ(machine.Shown(kBase), CpuProtection::kRead);
  // A write of the CPU makes the page its own again, and moves nothing.
  machine.Cpu(kBase, 1, Access::kWrite);
  EXPECT_EQ(machine->cpu_faults, 1u);
  EXPECT_EQ(machine->device_to_host, 0u);
  EXPECT_EQ(machine.Shown(kBase), CpuProtection::kReadWrite);
  EXPECT_EQ(machine.model.ResidentBytes(0, kBase, kPageBytes), 0u);
  EXPECT_GT(machine.model.ResidentBytes(0, kBase, kBlockBytes), 0u);
  // A write of the GPU takes the CPU's copy away.
  machine.Gpu(kBase + kBigPageBytes, kPageBytes, Access::kWrite, kPageBytes);
  EXPECT_EQ(machine.Shown(kBase + kBigPageBytes), CpuProtection::kNone);
  EXPECT_EQ(machine.model.ResidentBytes(kCpu, kBase + kBigPageBytes, kPageBytes), 0u);
}

TEST(ModelAdvice, UnsetReadMostlyKeepsOneCopy) {
  for (const int preferred : {kNoProcessor, 0}) {
    Machine machine(4);
    machine.model.AddRange(kBase, kBlockBytes);
    machine.Cpu(kBase, kBlockBytes, Access::kWrite);
    if (preferred == 0) machine.Advise(kBase, kBlockBytes, Advice::kSetPreferredLocation, 0);
    machine.Advise(kBase, kBlockBytes, Advice::kSetReadMostly, kCpu);
    machine.Gpu(kBase, kBlockBytes, Access::kRead);
    machine.Advise(kBase, kBlockBytes, Advice::kUnsetReadMostly, kCpu);
    EXPECT_EQ(machine.model.ResidentBytes(0, kBase, kBlockBytes), preferred == 0 ? kBlockBytes : 0);
    EXPECT_EQ(machine.model.ResidentBytes(kCpu, kBase, kBlockBytes), preferred == 0 ? 0 : kBlockBytes);
    EXPECT_EQ(machine.Shown(kBase), preferred == 0 ? CpuProtection::kNone : CpuProtection::kRead);
  }
}

TEST(ModelAdvice, PreferredOnTheGpuBringsAFreshBlockWhole) {
  Machine machine(4);
  machine.model.AddRange(kBase, kBlockBytes);
  machine.Advise(kBase, kBlockBytes, Advice::kSetPreferredLocation, 0);
  machine.Gpu(kBase, 1, Access::kWrite);
  EXPECT_EQ(machine.model.ResidentBytes(0, kBase, kBlockBytes), kBlockBytes);
}

TEST(ModelAdvice, PreferredOnTheCpuIsMappedRemotelyAfterOneFault) {
  Machine machine(4);
  machine.model.AddRange(kBase, kBlockBytes);
  machine.Advise(kBase, kBlockBytes, Advice::kSetPreferredLocation, kCpu);
  machine.Gpu(kBase, kPageBytes, Access::kWrite, kPageBytes);  // unpopulated: it is made on the CPU
  EXPECT_EQ(machine->gpu_batches, 1u);
  EXPECT_EQ(machine->remote_maps, kPageBytes);
  EXPECT_EQ(machine.model.ResidentBytes(kCpu, kBase, kPageBytes), kPageBytes);
  machine.Gpu(kBase, kPageBytes, Access::kWrite, kPageBytes);
  EXPECT_EQ(machine->gpu_batches, 1u);
  machine.Cpu(kBase, kPageBytes, Access::kWrite);
  EXPECT_EQ(machine->cpu_faults, 0u) << "it was mapped on the CPU when it was made there";
  EXPECT_TRUE(machine->migrations.empty());
}

TEST(ModelAdvice, AccessedByIsMappedAgainWhenMemoryComesBackToTheCpu) {
  Machine machine(1);
  machine.model.AddRange(kBase, 2 * kBlockBytes);
  machine.Advise(kBase, 2 * kBlockBytes, Advice::kSetAccessedBy, 0);
  machine.Gpu(kBase, kBlockBytes, Access::kWrite);
  machine.Gpu(kBase + kBlockBytes, kBlockBytes, Access::kWrite);  // evicts the first, which is mapped remotely
  EXPECT_EQ(machine->evicted, kBlockBytes);
  EXPECT_EQ(machine->remote_maps, kBlockBytes);
  const uint64_t batches = machine->gpu_batches;
  machine.Gpu(kBase, kBlockBytes, Access::kWrite);
  EXPECT_EQ(machine->gpu_batches, batches);
  EXPECT_EQ(machine->remote, kBlockBytes);
}

TEST(ModelAdvice, PartOfABlockGetsItsOwnPolicy) {
  Machine machine(4);
  machine.model.AddRange(kBase, 2 * kBlockBytes);
  machine.Cpu(kBase, 2 * kBlockBytes, Access::kWrite);
  machine.Gpu(kBase, 2 * kBlockBytes, Access::kWrite);
  const uint64_t begin = kBase + kBlockBytes / 2;
  machine.Advise(begin, kBlockBytes, Advice::kSetReadMostly, kCpu);
  EXPECT_FALSE(machine.model.PolicyAt(begin - 1).read_mostly);
  EXPECT_TRUE(machine.model.PolicyAt(begin).read_mostly);
  EXPECT_TRUE(machine.model.PolicyAt(begin + kBlockBytes - 1).read_mostly);
  EXPECT_FALSE(machine.model.PolicyAt(begin + kBlockBytes).read_mostly);
  // Nothing moved, nothing was lost.
  EXPECT_EQ(machine.model.ResidentBytes(0, kBase, 2 * kBlockBytes), 2 * kBlockBytes);
  EXPECT_EQ(machine.model.UsedBytes(0), 2 * kBlockBytes);
  machine.Reset();
  machine.Cpu(kBase, 2 * kBlockBytes, Access::kRead);
  EXPECT_EQ(machine->device_to_host, 2 * kBlockBytes);
  EXPECT_EQ(machine.model.ResidentBytes(0, kBase, 2 * kBlockBytes), kBlockBytes) << "the duplicated half of each stays";
  machine.model.RemoveRange(kBase, 2 * kBlockBytes);
  EXPECT_EQ(machine.model.UsedBytes(0), 0u);
}

TEST(ModelPrefetch, MovesWholeBlocksInOneCopyAndWithoutFaults) {
  Machine machine(2);
  machine.model.AddRange(kBase, 4 * kBlockBytes);
  machine.Cpu(kBase, 4 * kBlockBytes, Access::kWrite);
  machine.Reset();
  machine.Prefetch(kBase, 4 * kBlockBytes, 0);
  EXPECT_EQ(machine->gpu_batches, 0u);
  EXPECT_EQ(machine->host_to_device, 4 * kBlockBytes);
  EXPECT_EQ(machine->evicted, 2 * kBlockBytes);
  EXPECT_EQ(machine->migrations.size(), 6u);
  machine.Prefetch(kBase, 4 * kBlockBytes, kCpu);
  EXPECT_EQ(machine->device_to_host, 4 * kBlockBytes);
  machine.Cpu(kBase + 2 * kBlockBytes, 2 * kBlockBytes, Access::kWrite);
  EXPECT_EQ(machine->cpu_faults, 0u) << "prefetched memory is mapped";
}

TEST(ModelCpu, EvictedMemoryFaultsOnceMoreButMovesNothing) {
  Machine machine(1);
  machine.model.AddRange(kBase, 2 * kBlockBytes);
  machine.Gpu(kBase, 2 * kBlockBytes, Access::kWrite);
  machine.Reset();
  machine.Cpu(kBase, kBlockBytes, Access::kRead);
  EXPECT_EQ(machine->cpu_faults, 1u) << "the whole block is resident, so that the prefetcher maps all of it";
  EXPECT_TRUE(machine->migrations.empty());
}

TEST(ModelBatch, TakesAtMost256FaultsAndCountsEachPageOnce) {
  ModelOptions options;
  options.prefetch_enable = false;
  Machine machine(8, options);
  machine.model.AddRange(kBase, 4 * kBlockBytes);
  Outcome outcome;
  machine.model.GpuAccess(0, kBase, 4 * kBlockBytes, Access::kWrite, &outcome);
  ASSERT_EQ(outcome.batches.size(), 8u);
  for (const Batch& batch : outcome.batches) EXPECT_EQ(batch.faults, 256u);
  EXPECT_EQ(outcome.events.size(), 2048u);
}

// The published fit: a naive prefill of 80e9 bytes takes 16 to 18 s on an A100 (17 to 21 published).
TEST(ModelTime, PrefillOfAnA100IsInThePublishedRange) {
  Machine machine(64);
  machine.model.AddRange(kBase, 64 * kBlockBytes);
  machine.Cpu(kBase, 64 * kBlockBytes, Access::kWrite);
  machine.Reset();
  machine.Gpu(kBase, 64 * kBlockBytes, Access::kWrite, kPageBytes);
  const double seconds = machine->time.Total() / 64 * 38147 / 1e9;
  EXPECT_GT(seconds, 16.2);
  EXPECT_LT(seconds, 18.4);
  machine.Reset();
  machine.Prefetch(kBase, 64 * kBlockBytes, kCpu);
  EXPECT_EQ(machine->device_to_host, 64 * kBlockBytes);
}

// The one-block services of the trace that the constants were fitted to.
TEST(ModelTime, ServicesOfTheFittedTrace) {
  ModelOptions options;
  options.cost.host_to_device_bytes_per_ns = 12.1;
  Machine machine(4, options);
  machine.model.AddRange(kBase, kBlockBytes);
  machine.Cpu(kBase, kBlockBytes, Access::kWrite);
  machine.Gpu(kBase, 1, Access::kRead);
  machine.Reset();
  machine.Gpu(kBase + kBigPageBytes, 1, Access::kRead);
  EXPECT_NEAR(machine->time.Total() / 1000, 23.6, 0.1);
}

TEST(ModelProtection, ChangesAreToldOnceAndOnlyWhereSomethingChanged) {
  Machine machine(4);
  machine.model.AddRange(kBase, kBlockBytes);
  machine.Cpu(kBase, 1, Access::kWrite);
  ASSERT_EQ(machine->protections.size(), 1u);
  EXPECT_EQ(machine->protections[0].bytes, kBigPageBytes);
  machine.Gpu(kBase + kPageBytes, 1, Access::kRead);
  ASSERT_EQ(machine->protections.size(), 2u);
  EXPECT_EQ(machine->protections[1].bytes, kBigPageBytes);
  EXPECT_EQ(machine->protections[1].protection, CpuProtection::kNone);
  machine.Gpu(kBase + kPageBytes, 1, Access::kWrite);
  EXPECT_EQ(machine->protections.size(), 2u);
}

}  // namespace
}  // namespace uvmsim
