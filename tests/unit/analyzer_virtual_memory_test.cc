// Ranges, not pointers: what lies at an address at the time of an event, while physical memory is mapped here and
// there, addresses and handles are used again, and calls are read in another order than they were made in.
#include <algorithm>
#include <random>
#include <vector>

#include "analyzer/model/memory_ledger.h"
#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {
namespace {

using analyzer::Allocation;
using analyzer::MemoryCall;
using analyzer::MemoryLedger;
using analyzer::Operation;
using Kind = analyzer::MemoryKind;

constexpr uint64_t kAt = 0x10000000;

MemoryCall CallOf(Operation operation, uint64_t address, uint64_t bytes, uint64_t time_ns, uint64_t handle = 0) {
  MemoryCall call;
  call.operation = operation;
  call.start_ns = time_ns;
  call.end_ns = time_ns + 10;
  call.address = address;
  call.bytes = bytes;
  call.handle = handle;
  return call;
}

class VirtualMemoryTest : public ::testing::Test {
 protected:
  void Do(Operation operation, uint64_t address, uint64_t bytes, uint64_t time_ns, uint64_t handle = 0,
          Kind kind = Kind::kUnknown) {
    MemoryCall call = CallOf(operation, address, bytes, time_ns, handle);
    call.kind = kind;
    ledger.Apply(call);
  }
  uint64_t IdAt(uint64_t address, uint64_t time_ns) {
    const Allocation* allocation = ledger.table().At(address, time_ns).live;
    return allocation == nullptr ? 0 : allocation->id;
  }
  uint64_t LiveBytes(Kind kind = Kind::kPhysical) const { return ledger.of(kind).live_bytes; }

  MemoryLedger ledger;
};

TEST_F(VirtualMemoryTest, OneHandleMappedTwiceIsTwoPlacesAndOnePieceOfMemory) {
  Do(Operation::kCreate, 7, 2 * kMiB, 10);
  Do(Operation::kMap, kAt, 2 * kMiB, 100, 7);
  Do(Operation::kMap, kAt + 4 * kMiB, 2 * kMiB, 200, 7);
  EXPECT_NE(IdAt(kAt + kMiB, 300), 0u);
  EXPECT_NE(IdAt(kAt + kMiB, 300), IdAt(kAt + 5 * kMiB, 300));
  EXPECT_EQ(IdAt(kAt + 3 * kMiB, 300), 0u);
  EXPECT_EQ(LiveBytes(), 2 * kMiB);
  Do(Operation::kRelease, 7, 0, 400);
  Do(Operation::kUnmap, kAt, 2 * kMiB, 500);
  EXPECT_EQ(LiveBytes(), 2 * kMiB);
  EXPECT_EQ(IdAt(kAt + kMiB, 600), 0u);
  EXPECT_NE(IdAt(kAt + kMiB, 300), 0u) << "an event of before the unmap is read now";
  EXPECT_NE(IdAt(kAt + 5 * kMiB, 600), 0u);
  Do(Operation::kUnmap, kAt + 4 * kMiB, 2 * kMiB, 700);
  EXPECT_EQ(LiveBytes(), 0u);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
}

TEST_F(VirtualMemoryTest, APieceInTheMiddleIsReplaced) {
  Do(Operation::kReserve, kAt, 6 * kMiB, 5);
  for (uint64_t piece = 0; piece < 3; ++piece) {
    Do(Operation::kCreate, 70 + piece, 2 * kMiB, 10 + piece);
    Do(Operation::kMap, kAt + piece * 2 * kMiB, 2 * kMiB, 100 + piece * 100, 70 + piece);
  }
  const uint64_t before = IdAt(kAt + 3 * kMiB, 450);
  Do(Operation::kUnmap, kAt + 2 * kMiB, 2 * kMiB, 500);
  EXPECT_EQ(IdAt(kAt + 3 * kMiB, 600), 0u);
  Do(Operation::kCreate, 80, 2 * kMiB, 600);
  Do(Operation::kMap, kAt + 2 * kMiB, 2 * kMiB, 700, 80);
  EXPECT_NE(IdAt(kAt + 3 * kMiB, 800), before);
  EXPECT_EQ(IdAt(kAt + 3 * kMiB, 450), before);
  EXPECT_EQ(IdAt(kAt + kMiB, 450), IdAt(kAt + kMiB, 800));
  // All three with one call.
  Do(Operation::kUnmap, kAt, 6 * kMiB, 900);
  EXPECT_EQ(IdAt(kAt + 5 * kMiB, 1000), 0u);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
}

TEST_F(VirtualMemoryTest, RemappedAtOtherBordersIsFoundByItsNewOwner) {
  Do(Operation::kCreate, 7, 4 * kMiB, 10);
  Do(Operation::kMap, kAt, 4 * kMiB, 100, 7);
  Do(Operation::kUnmap, kAt, 4 * kMiB, 200);
  Do(Operation::kMap, kAt + kMiB, 2 * kMiB, 300, 7);
  EXPECT_EQ(IdAt(kAt + kMiB / 2, 400), 0u);
  EXPECT_NE(IdAt(kAt + 2 * kMiB, 400), IdAt(kAt + 2 * kMiB, 150));
  EXPECT_EQ(ledger.table().At(kAt + 2 * kMiB, 150).live->base, kAt);
  EXPECT_EQ(ledger.table().At(kAt + 2 * kMiB, 400).live->base, kAt + kMiB);
}

TEST_F(VirtualMemoryTest, AnUnmapThatIsReadAfterTheNextMapEndsTheOldMapping) {
  Do(Operation::kCreate, 7, 2 * kMiB, 10);
  Do(Operation::kCreate, 8, 2 * kMiB, 20);
  Do(Operation::kMap, kAt, 2 * kMiB, 100, 7);
  Do(Operation::kRelease, 7, 0, 150);
  Do(Operation::kMap, kAt, 2 * kMiB, 300, 8);
  Do(Operation::kUnmap, kAt, 2 * kMiB, 200);  // of another thread, a chunk later
  EXPECT_NE(IdAt(kAt, 400), 0u);
  EXPECT_EQ(LiveBytes(), 2 * kMiB);
  Do(Operation::kUnmap, kAt, 2 * kMiB, 500);
  Do(Operation::kRelease, 8, 0, 600);
  EXPECT_EQ(IdAt(kAt, 600), 0u);
  EXPECT_EQ(LiveBytes(), 0u);
}

TEST_F(VirtualMemoryTest, AReleaseThatIsReadAfterTheNextCreateReleasesTheOldMemory) {
  Do(Operation::kCreate, 7, 2 * kMiB, 10);
  Do(Operation::kCreate, 7, 4 * kMiB, 300);
  Do(Operation::kRelease, 7, 0, 200);
  EXPECT_EQ(LiveBytes(), 4 * kMiB);
  Do(Operation::kRelease, 7, 0, 400);
  EXPECT_EQ(LiveBytes(), 0u);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
}

TEST_F(VirtualMemoryTest, ReservedAgainBeforeTheFreeIsRead) {
  Do(Operation::kReserve, kAt, 2 * kMiB, 10);
  Do(Operation::kReserve, kAt, 8 * kMiB, 300);
  Do(Operation::kUnreserve, kAt, 2 * kMiB, 200);
  EXPECT_EQ(LiveBytes(Kind::kReserved), 8 * kMiB);
  EXPECT_EQ(ledger.missed_frees(), 0u);
  Do(Operation::kUnreserve, kAt, 8 * kMiB, 400);
  EXPECT_EQ(LiveBytes(Kind::kReserved), 0u);
  EXPECT_EQ(ledger.of(Kind::kReserved).frees, 2u);
}

TEST_F(VirtualMemoryTest, ARetainedHandleIsReleasedTwice) {
  Do(Operation::kCreate, 7, 2 * kMiB, 10);
  Do(Operation::kMap, kAt, 2 * kMiB, 100, 7);
  ledger.Retain(CallOf(Operation::kOther, kAt + kMiB, 0, 150, 7));
  Do(Operation::kRelease, 7, 0, 200);
  Do(Operation::kRelease, 7, 0, 210);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
  EXPECT_EQ(ledger.of(Kind::kPhysical).frees, 1u);
  // Of memory that only its mapping holds.
  ledger.Retain(CallOf(Operation::kOther, kAt, 0, 300, 9));
  Do(Operation::kUnmap, kAt, 2 * kMiB, 400);
  EXPECT_EQ(LiveBytes(), 2 * kMiB);
  Do(Operation::kRelease, 9, 0, 500);
  EXPECT_EQ(LiveBytes(), 0u);
  EXPECT_EQ(ledger.unknown_frees(), 0u);
}

TEST_F(VirtualMemoryTest, ImportedMemoryHasTheSizeOfItsMappings) {
  Do(Operation::kCreate, 7, 0, 10, 0, Kind::kImported);
  EXPECT_EQ(LiveBytes(Kind::kImported), 0u);
  Do(Operation::kMap, kAt, 2 * kMiB, 100, 7);
  EXPECT_EQ(LiveBytes(Kind::kImported), 2 * kMiB);
  EXPECT_EQ(LiveBytes(), 0u);
  EXPECT_EQ(ledger.table().At(kAt, 200).live->kind, Kind::kImported);
  Do(Operation::kUnmap, kAt, 2 * kMiB, 300);
  Do(Operation::kRelease, 7, 0, 400);
  EXPECT_EQ(LiveBytes(Kind::kImported), 0u);
}

TEST_F(VirtualMemoryTest, AResetEndsWhatItsDeviceHasAndNoMapping) {
  Do(Operation::kAllocate, 0x50000000, kMiB, 10, 0, Kind::kManaged);
  Do(Operation::kAllocate, 0x60000000, kMiB, 20, 0, Kind::kPinned);
  Do(Operation::kCreate, 7, 2 * kMiB, 30);
  Do(Operation::kMap, kAt, 2 * kMiB, 40, 7);
  Do(Operation::kReset, 0, 0, 100);
  EXPECT_EQ(LiveBytes(Kind::kManaged), 0u);
  EXPECT_EQ(LiveBytes(Kind::kPinned), 0u);
  EXPECT_EQ(LiveBytes(), 2 * kMiB);
  EXPECT_EQ(IdAt(0x50000000, 200), 0u);
  EXPECT_NE(IdAt(0x50000000, 50), 0u);
  EXPECT_NE(IdAt(kAt, 200), 0u);
  // The address may come again.
  Do(Operation::kAllocate, 0x50000000, kMiB, 300, 0, Kind::kManaged);
  EXPECT_EQ(ledger.missed_frees(), 0u);
}

TEST_F(VirtualMemoryTest, AFailedResetAndOneOfTwoDevicesEndNothing) {
  Do(Operation::kAllocate, 0x50000000, kMiB, 10, 0, Kind::kDevice);
  MemoryCall failed = CallOf(Operation::kReset, 0, 0, 100);
  failed.failed = true;
  ledger.Apply(failed);
  EXPECT_EQ(LiveBytes(Kind::kDevice), kMiB);
  ledger.SetDevices(2);
  Do(Operation::kReset, 0, 0, 200);
  EXPECT_EQ(LiveBytes(Kind::kDevice), kMiB);
  EXPECT_EQ(ledger.unclear_resets(), 1u);
}

TEST_F(VirtualMemoryTest, WhoLivedThereIsToldToTheNanosecond) {
  Do(Operation::kAllocate, kAt, 100, 10, 0, Kind::kDevice);  // from 20 on
  EXPECT_EQ(ledger.table().At(kAt, 19).live, nullptr);
  EXPECT_NE(ledger.table().At(kAt + 99, 20).live, nullptr);
  EXPECT_EQ(ledger.table().At(kAt + 100, 20).live, nullptr);
  Do(Operation::kFree, kAt, 0, 90);  // until 100
  EXPECT_NE(ledger.table().At(kAt, 99).live, nullptr);
  EXPECT_EQ(ledger.table().At(kAt, 100).live, nullptr);
  ASSERT_NE(ledger.table().At(kAt, 100).freed, nullptr);
  EXPECT_EQ(ledger.table().At(kAt, 100).freed->ended_by, analyzer::EndedBy::kFree);
}

TEST_F(VirtualMemoryTest, WhoLivedThereAgreesWithALinearSearch) {
  struct Lived {
    uint64_t base, end, allocated_ns, freed_ns;
    bool live() const { return freed_ns == Allocation::kNever; }
  };
  std::mt19937_64 random(7);
  std::vector<Lived> all;
  for (uint64_t i = 0; i < 600; ++i) {
    const uint64_t now = 1000 + i * 100;
    if (random() % 3 != 0 || all.empty()) {
      // Never over a living one: the driver would not either.
      Lived made{kAt + random() % 64 * 0x10000, 0, now + 10, Allocation::kNever};
      made.end = made.base + (1 + random() % 4) * 0x8000;
      const bool taken = std::any_of(all.begin(), all.end(), [&made](const Lived& other) {
        return other.live() && made.base < other.end && other.base < made.end;
      });
      if (taken) continue;
      all.push_back(made);
      Do(Operation::kAllocate, made.base, made.end - made.base, now, 0, Kind::kDevice);
    } else {
      Lived& victim = all[random() % all.size()];
      if (!victim.live()) continue;
      victim.freed_ns = now + 10;
      Do(Operation::kFree, victim.base, 0, now);
    }
    for (int question = 0; question < 20; ++question) {
      const uint64_t address = kAt + random() % (68 * 0x10000);
      const uint64_t time_ns = random() % (now + 50);
      const Lived* live = nullptr;
      for (const Lived& one : all) {
        const bool there = address >= one.base && address < one.end;
        if (there && time_ns >= one.allocated_ns && time_ns < one.freed_ns) live = &one;
      }
      const Allocation* found = ledger.table().At(address, time_ns).live;
      ASSERT_EQ(found != nullptr, live != nullptr) << i;
      if (live != nullptr) {
        ASSERT_EQ(found->base, live->base);
        ASSERT_EQ(found->allocated_ns, live->allocated_ns);
      }
    }
  }
}

TEST_F(VirtualMemoryTest, ALargeAllocationOverManyDeadOnesIsFound) {
  for (uint64_t i = 0; i < 900; ++i) {
    Do(Operation::kAllocate, kAt + kMiB + i * 4096, 4096, 10, 0, Kind::kDevice);
    Do(Operation::kFree, kAt + kMiB + i * 4096, 0, 50);
  }
  Do(Operation::kAllocate, kAt, 64 * kMiB, 100, 0, Kind::kDevice);
  const uint64_t inside = kAt + kMiB + 900 * 4096 - 1;
  ASSERT_NE(ledger.table().Find(inside, 5'000'000), nullptr);
  EXPECT_EQ(ledger.table().Find(inside, 5'000'000)->base, kAt);
  ASSERT_NE(ledger.table().At(inside, 5'000'000).live, nullptr);
  // Of so many that nobody looks through them all, nothing is claimed.
  for (uint64_t i = 0; i < 9000; ++i) Do(Operation::kAllocate, kAt + 8 * kMiB + i * 64, 64, 200, 0, Kind::kDevice);
  for (uint64_t i = 0; i < 9000; ++i) Do(Operation::kFree, kAt + 8 * kMiB + i * 64, 0, 300);
  EXPECT_EQ(ledger.table().At(kAt + 8 * kMiB + 9000 * 64 - 1, 5'000'000).freed, nullptr);
}

// Through a whole trace: faults that arrive when the address has had two further owners.
TEST(VirtualMemoryReportTest, LateFaultsGoToWhoeverWasMappedThen) {
  TraceBuilder trace;
  trace.CuptiActive();
  const uint32_t create = trace.Function("cuMemCreate", OPERATION_CREATE);
  const uint32_t map = trace.Function("cuMemMap", OPERATION_MAP);
  const uint32_t unmap = trace.Function("cuMemUnmap", OPERATION_UNMAP);
  const auto add = [&trace](uint32_t function, uint64_t time_ms, uint64_t address, uint64_t handle, MemoryKind kind) {
    TraceBuilder::Call call;
    call.function = function;
    call.start_ns = kStart + time_ms * 1'000'000;
    call.address = address;
    call.bytes = 2 * kMiB;
    call.other_address = handle;
    call.kind = kind;
    trace.Add(call);
  };
  for (uint64_t owner = 0; owner < 3; ++owner) {
    add(create, 1 + owner * 100, 70 + owner, 0, MEMORY_KIND_PHYSICAL);
    add(map, 2 + owner * 100, kBase, 70 + owner, MEMORY_KIND_UNKNOWN);
    add(unmap, 90 + owner * 100, kBase, 0, MEMORY_KIND_UNKNOWN);
  }
  trace.EndChunk();
  for (uint64_t owner = 0; owner < 3; ++owner) {
    const uint64_t now = kStart + (50 + owner * 100) * 1'000'000;
    trace.GpuFault(now, now + 1000, kBase + kMiB + owner, owner + 1);
  }
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.allocations_size(), 3);
  for (const AllocationRow& row : report.allocations()) EXPECT_EQ(row.gpu_fault_groups(), row.id());
}

}  // namespace
}  // namespace uvmtrace::testing
