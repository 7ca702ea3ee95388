// When a prefetch was done, where the trace has the driver's own calls: not when the program asked for it.
#include <gtest/gtest.h>

#include <vector>

#include "analyzer/reconstruct/reconstructor.h"

namespace uvmtrace::reconstruct {
namespace {

constexpr uint64_t kBlock = uvm_model::kBlockBytes;
constexpr uint64_t kPage = uvm_model::kPageBytes;
constexpr uint64_t kBase = uint64_t{0x7f} << 32;
constexpr uint64_t kMs = 1'000'000;

// Memory that the CPU has written, all of it, before the first millisecond.
class Replayed {
 public:
  explicit Replayed(uint64_t blocks) : bytes_(blocks * kBlock) {
    Call allocate;
    allocate.address = kBase;
    allocate.bytes = bytes_;
    reconstructor_.Add(allocate);
    for (uint64_t page = 0; page < bytes_ / kPage; ++page) CpuWrites(1 + page, page);
  }

  void CpuWrites(uint64_t time_ns, uint64_t page) {
    CpuFault fault;
    fault.time_ns = time_ns;
    fault.address = kBase + page * kPage;
    fault.write = true;
    reconstructor_.Add(fault);
  }

  void GpuWrites(uint64_t time_ns, uint64_t first_page, uint64_t pages) {
    GpuFault fault;
    fault.time_ns = time_ns;
    fault.batch = ++batch_;
    fault.write = true;
    for (uint64_t page = first_page; page < first_page + pages; ++page) {
      fault.address = kBase + page * kPage;
      reconstructor_.Add(fault);
    }
    Replay replay;
    replay.time_ns = time_ns + 100'000;
    replay.batch = batch_;
    reconstructor_.Add(replay);
  }

  void Add(CallKind kind, uint64_t time_ns, uint64_t duration_ns, int32_t destination) {
    Call call;
    call.kind = kind;
    call.time_ns = time_ns;
    call.duration_ns = duration_ns;
    call.address = kBase;
    call.bytes = bytes_;
    call.processor = destination;
    reconstructor_.Add(call);
  }

  struct Told {
    uint64_t bytes = 0;
    uint64_t first_ns = UINT64_MAX;
    uint64_t last_ns = 0;
  };
  Told Of(MigrationCause cause, int32_t destination) {
    if (!finished_) reconstructor_.Finish();
    finished_ = true;
    Told told;
    for (const Migration& row : rows_) {
      if (row.cause != cause || row.destination != destination) continue;
      told.bytes += row.bytes;
      told.first_ns = std::min(told.first_ns, row.time_ns);
      told.last_ns = std::max(told.last_ns, row.time_ns);
    }
    return told;
  }

 private:
  uint64_t bytes_;
  uint32_t batch_ = 0;
  bool finished_ = false;
  std::vector<Migration> rows_;
  Reconstructor reconstructor_{{}, [this](const Migration& row) { rows_.push_back(row); }};
};

// The call came before the kernel's faults, the work after them: the faults moved what they faulted on.
TEST(ReconstructMigrates, TakePlaceWhenTheDriverIsAsked) {
  Replayed replayed(4);
  replayed.Add(CallKind::kPrefetch, 2 * kMs, 3'000, 0);
  replayed.GpuWrites(10 * kMs, 0, uvm_model::kPagesPerBlock);
  replayed.Add(CallKind::kMigrate, 30 * kMs, kMs, 0);
  EXPECT_EQ(replayed.Of(MigrationCause::kCoherence, 0).bytes, kBlock);
  const Replayed::Told prefetched = replayed.Of(MigrationCause::kUser, 0);
  EXPECT_EQ(prefetched.bytes, 3 * kBlock);
  EXPECT_GE(prefetched.first_ns, 30 * kMs);
  EXPECT_LE(prefetched.last_ns, 31 * kMs);
}

// A call that fails, or never gets its turn, moves nothing.
TEST(ReconstructMigrates, TakePlaceOnlyIfTheDriverIsAsked) {
  Replayed replayed(2);
  replayed.Add(CallKind::kMigrate, 5 * kMs, kMs, 0);
  replayed.Add(CallKind::kPrefetch, 7 * kMs, 3'000, kCpu);
  EXPECT_EQ(replayed.Of(MigrationCause::kUser, 0).bytes, 2 * kBlock);
  EXPECT_EQ(replayed.Of(MigrationCause::kUser, kCpu).bytes, 0U);
}

// While a call runs, the GPU faults on a block that it has not reached, and the CPU on one that it has left behind.
TEST(ReconstructMigrates, AreHeldToTheFaultsThatComeMeanwhile) {
  Replayed replayed(8);
  replayed.Add(CallKind::kMigrate, 10 * kMs, 8 * kMs, 0);
  replayed.GpuWrites(11 * kMs, 7 * uvm_model::kPagesPerBlock, uvm_model::kPagesPerBlock);
  replayed.CpuWrites(15 * kMs, 0);
  EXPECT_EQ(replayed.Of(MigrationCause::kCoherence, 0).bytes, kBlock);
  EXPECT_EQ(replayed.Of(MigrationCause::kUser, 0).bytes, 7 * kBlock);
  EXPECT_GT(replayed.Of(MigrationCause::kCoherence, kCpu).bytes, 0U);
}

// The CPU faults on what it could reach, though the call's pace says that it has not come there: it had.
TEST(ReconstructMigrates, AreEarlierWhereAFaultShowsIt) {
  Replayed replayed(8);
  replayed.Add(CallKind::kMigrate, 10 * kMs, 8 * kMs, 0);
  replayed.CpuWrites(11 * kMs, 6 * uvm_model::kPagesPerBlock);
  EXPECT_EQ(replayed.Of(MigrationCause::kUser, 0).bytes, 8 * kBlock);
  EXPECT_GT(replayed.Of(MigrationCause::kCoherence, kCpu).bytes, 0U);
}

TEST(ReconstructMigrates, OfSeveralThreadsOverlap) {
  Replayed replayed(4);
  replayed.Add(CallKind::kMigrate, 10 * kMs, 20 * kMs, 0);
  replayed.Add(CallKind::kMigrate, 40 * kMs, kMs, kCpu);
  replayed.Add(CallKind::kMigrate, 12 * kMs, kMs, 0);
  EXPECT_EQ(replayed.Of(MigrationCause::kUser, 0).bytes, 4 * kBlock);
  EXPECT_LE(replayed.Of(MigrationCause::kUser, 0).last_ns, 13 * kMs);
  EXPECT_EQ(replayed.Of(MigrationCause::kUser, kCpu).bytes, 4 * kBlock);
}

}  // namespace
}  // namespace uvmtrace::reconstruct
