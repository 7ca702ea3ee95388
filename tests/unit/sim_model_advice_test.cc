// The paging model under cudaMemAdvise: copies, preferred locations and remote maps, and what each of them spares.
#include <gtest/gtest.h>

#include <cstdint>

#include "tests/unit/sim_machine.h"

namespace uvm_model {
namespace {

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

}  // namespace
}  // namespace uvm_model
