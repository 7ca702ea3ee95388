// The paging model against the closed forms that follow from the driver's policy: exact counts and exact bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "tests/unit/sim_machine.h"

namespace uvm_model {
namespace {

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
}  // namespace uvm_model
