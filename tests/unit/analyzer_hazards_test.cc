// Hazards of addresses: each with the mistake, and with programs that look like it and are right. Hazards of time are
// in analyzer_hazards_of_time_test.cc.
#include "tests/unit/analyzer_hazard_trace.h"

namespace uvmtrace::testing {
namespace {

TEST(DoubleFreeTest, AFreeThatFailedForWhatWasFreedBefore) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.FailingFree(kBase, 30, 1);
  trace.FailingFree(kBase, 40, 1);
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "double_free");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->count(), 2u);
  EXPECT_EQ(row->severity(), "error");
  EXPECT_EQ(row->first_ns(), 30'000'000u);
  EXPECT_EQ(row->kind(), "managed");
  EXPECT_EQ(row->memory_bytes(), 2 * kMiB);
  EXPECT_EQ(row->result(), 1);
  EXPECT_EQ(row->freed_by(), "free");
  EXPECT_EQ(row->what(),
            "cudaFree of 2.00 MiB of managed memory that had been freed failed with error 1 (invalid value)");
  EXPECT_NE(TextOf(report).find("! error: double free, 2 times, first 30.0 ms after the start"), std::string::npos)
      << TextOf(report);
  EXPECT_EQ(report.hazards().rows_size(), 1);
}

TEST(DoubleFreeTest, TheAddressWasGivenOutAgain) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 30);
  trace.FailingFree(kBase, 40, 1);  // for whatever reason: the memory lives
  trace.Free(kBase, 50);
  ExpectNone(trace.Finish());
}

TEST(DoubleFreeTest, ErrorsOfAnEarlierCallAndOfTheEndOfTheProcessAreNone) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 10);
  trace.Free(kBase, 20);
  trace.FailingFree(kBase, 30, 700);  // an illegal access of some kernel
  trace.FailingFree(kBase, 40, 4);    // the driver is being unloaded
  trace.FailingFree(kBase, 50, 719);
  ExpectNone(trace.Finish());
}

TEST(DoubleFreeTest, NullAndWhatNobodyAllocatedAreNone) {
  HazardTrace trace;
  trace.FailingFree(0, 10, 1);
  trace.FailingFree(0xdeadbeef, 20, 1);
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_EQ(CheckOf(report, "double_free").reason(), "none in 1 free");
}

TEST(DoubleFreeTest, TheFirstFreeIsReadLater) {
  // Another thread's free, which began first and stands in a later chunk.
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 10);
  trace.FailingFree(kBase, 30, 1);
  trace.EndChunk();
  trace.Free(kBase, 20);
  EXPECT_NE(RowOf(trace.Finish(), "double_free"), nullptr);
}

TEST(DoubleFreeTest, AfterAResetItSaysSo) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 10);
  trace.Call("cudaDeviceReset", OPERATION_RESET, 20, {});
  trace.FailingFree(kBase, 30, 1);
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "double_free");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->freed_by(), "reset");
  EXPECT_NE(row->what().find("that a reset of the device had freed"), std::string::npos) << row->what();
}

TEST(DoubleFreeTest, UnregisteredTwiceIsOneAndFreedByTheWrongFunctionIsNone) {
  HazardTrace trace;
  trace.Call("cudaHostRegister", OPERATION_REGISTER, 10, {.address = kBase, .bytes = kMiB});
  trace.Call("cudaHostUnregister", OPERATION_UNREGISTER, 20, {.address = kBase});
  trace.FailingFree(kBase, 25, 1);
  ExpectNone(trace.Finish());
  HazardTrace twice;
  twice.Call("cudaHostRegister", OPERATION_REGISTER, 10, {.address = kBase, .bytes = kMiB});
  twice.Call("cudaHostUnregister", OPERATION_UNREGISTER, 20, {.address = kBase});
  twice.Call("cudaHostUnregister", OPERATION_UNREGISTER, 30, {.address = kBase, .result = 713});
  EXPECT_NE(RowOf(twice.Finish(), "double_free"), nullptr);
}

TEST(InteriorFreeTest, APointerIntoLiveMemory) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.FailingFree(kBase + 4096, 20, 1);
  trace.Free(kBase, 30);
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "interior_free");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->what(),
            "cudaFree of an address 4.00 KiB into 2.00 MiB of managed memory failed with error 1 (invalid value)");
  EXPECT_EQ(report.hazards().rows_size(), 1);
}

TEST(InteriorFreeTest, TheMemoryBesideItIsNotMeant) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.FailingFree(kBase + 2 * kMiB, 20, 1);
  ExpectNone(trace.Finish());
}

TEST(UseAfterFreeTest, ACopyOfFreedDeviceMemoryEvenIfItWorked) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.Copy(0x1000, kBase + kMiB, 30);
  trace.Copy(kBase + kMiB, 0x1000, 40, {.result = 1});
  const Report report = trace.Finish();
  EXPECT_EQ(report.hazards().rows_size(), 2);
  const HazardRow* row = RowOf(report, "use_after_free");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->severity(), "error");
  EXPECT_EQ(CheckOf(report, "use_after_free").found(), 2u);
  EXPECT_EQ(CheckOf(report, "use_after_free").checked(), 2u);
  EXPECT_EQ(CheckOf(report, "use_after_free").reason(), "");
}

TEST(UseAfterFreeTest, BeforeTheFreeDuringItAndAfterTheNextAllocation) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Copy(kBase, 0x1000, 15);
  trace.Call("cudaFree", OPERATION_FREE, 20, {.duration_ns = 5'000'000, .address = kBase});
  trace.Copy(kBase, 0x1000, 22);
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 30);
  trace.Copy(kBase, 0x1000, 40);
  ExpectNone(trace.Finish());
}

TEST(UseAfterFreeTest, TheNextAllocationIsReadLater) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.Copy(kBase, 0x1000, 40);
  trace.EndChunk();
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 30);  // of another thread
  ExpectNone(trace.Finish());
}

TEST(UseAfterFreeTest, AnAllocationAroundItIsFoundToo) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase + kMiB, kMiB, 10);
  trace.Free(kBase + kMiB, 20);
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 4 * kMiB, 30);
  trace.Copy(kBase + kMiB, 0x1000, 40);
  ExpectNone(trace.Finish());
}

TEST(UseAfterFreeTest, MemoryThatTheCLibraryMayOwnByNow) {
  HazardTrace trace;
  for (const MemoryKind kind :
       {MEMORY_KIND_PINNED, MEMORY_KIND_MANAGED, MEMORY_KIND_REGISTERED, MEMORY_KIND_IMPORTED}) {
    const uint64_t address = kBase + static_cast<uint64_t>(kind) * kGiB;
    trace.Allocate(kind, address, kMiB, 10);
    trace.Free(address, 20);
    trace.Copy(0x1000, address, 30);
  }
  ExpectNone(trace.Finish());
  // But where the call fails, it is not.
  HazardTrace failing;
  failing.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 10);
  failing.Free(kBase, 20);
  failing.Copy(0x1000, kBase, 30, {.result = 1});
  EXPECT_NE(RowOf(failing.Finish(), "use_after_free"), nullptr);
}

TEST(UseAfterFreeTest, StreamOrderedFreesAreOrderedByTheirStreamAlone) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_POOL, kBase, kMiB, 10);
  trace.Call("cudaFreeAsync", OPERATION_FREE, 20, {.address = kBase, .stream = 0x77});
  trace.Copy(kBase, 0x1000, 30, {.stream = 0x88});
  trace.Allocate(MEMORY_KIND_POOL, kBase + kGiB, kMiB, 10);
  trace.Call("cudaFreeAsync_ptsz", OPERATION_FREE, 20, {.address = kBase + kGiB, .stream = 0});
  trace.Copy(kBase + kGiB, 0x1000, 30, {.stream = 0, .tid = 2});
  ExpectNone(trace.Finish());
  HazardTrace same;
  same.Allocate(MEMORY_KIND_POOL, kBase, kMiB, 10);
  same.Call("cudaFreeAsync", OPERATION_FREE, 20, {.address = kBase, .stream = 0x77});
  same.Copy(kBase, 0x1000, 30, {.stream = 0x77});
  const Report report = same.Finish();
  ASSERT_NE(RowOf(report, "use_after_free"), nullptr);
  EXPECT_NE(RowOf(report, "use_after_free")->what().find("freed in the same stream"), std::string::npos);
}

TEST(UseAfterFreeTest, GraphsAllocateAgainAtEachLaunch) {
  HazardTrace trace;
  trace.Call("cudaStreamBeginCapture", OPERATION_OTHER, 5, {.stream = 0x77});
  trace.Allocate(MEMORY_KIND_POOL, kBase, kMiB, 10);
  trace.Call("cudaStreamEndCapture", OPERATION_OTHER, 15, {.stream = 0x77});
  trace.Call("cudaFree", OPERATION_FREE, 20, {.address = kBase});
  trace.Call("cudaGraphLaunch", OPERATION_OTHER, 25, {.stream = 0x77});
  trace.Copy(0x1000, kBase, 30);
  ExpectNone(trace.Finish());
}

TEST(UseAfterFreeTest, WhatIsCalledDuringACaptureDoesNotHappen) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 10);
  trace.Free(kBase, 20);
  trace.Call("cudaStreamBeginCapture", OPERATION_OTHER, 25, {.stream = 0x77});
  trace.Copy(0x1000, kBase, 30);
  trace.Call("cudaStreamEndCapture", OPERATION_OTHER, 35, {.stream = 0x77});
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_NE(CheckOf(report, "use_after_free").reason().find("1 call made while a stream was captured"),
            std::string::npos);
}

TEST(UseAfterFreeTest, AnUnmappedRange) {
  HazardTrace trace;
  trace.Call("cuMemCreate", OPERATION_CREATE, 5, {.address = 7, .bytes = 2 * kMiB, .kind = MEMORY_KIND_PHYSICAL});
  trace.Call("cuMemMap", OPERATION_MAP, 10, {.address = kBase, .bytes = 2 * kMiB, .other_address = 7});
  trace.Copy(kBase + kMiB, 0x1000, 15);
  trace.Call("cuMemUnmap", OPERATION_UNMAP, 20, {.address = kBase, .bytes = 2 * kMiB});
  trace.Copy(kBase + kMiB, 0x1000, 30, {.result = 1});
  trace.Call("cuMemMap", OPERATION_MAP, 40, {.address = kBase, .bytes = 2 * kMiB, .other_address = 7});
  trace.Copy(kBase + kMiB, 0x1000, 50);
  const Report report = trace.Finish();
  ASSERT_NE(RowOf(report, "use_after_free"), nullptr);
  EXPECT_EQ(RowOf(report, "use_after_free")->count(), 1u);
  EXPECT_EQ(RowOf(report, "use_after_free")->freed_by(), "unmap");
}

TEST(UseAfterFreeTest, AVariableOfAModuleThatWasLoadedThere) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.Call("cuModuleGetGlobal_v2", OPERATION_OTHER, 30, {.address = kBase + 4096, .bytes = 256});
  trace.Copy(kBase + 4096 + 16, 0x1000, 40);
  ExpectNone(trace.Finish());
}

TEST(UseAfterFreeTest, LostCallsMayHaveAllocatedItAgain) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.Copy(0x1000, kBase, 30);
  trace.builder().Lose("api_calls", "ring full", 3);
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_FALSE(CheckOf(report, "use_after_free").has_checked());
  EXPECT_NE(CheckOf(report, "use_after_free").reason().find("calls were lost"), std::string::npos);
}

TEST(DoubleFreeTest, LostCallsMayHaveAllocatedItAgain) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.EndChunk();
  trace.builder().SkipSequence();
  trace.FailingFree(kBase, 40, 1);
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_EQ(MemoryOf(report, "device")->failures(), 1u) << "whose free failed is still known";
}

TEST(RefusedHintTest, OfMemoryThatDoesNotMigrate) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 2 * kMiB, 10);
  trace.Prefetch(kBase, 2 * kMiB, 20, 0, {.result = 1});
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "refused_hint");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->severity(), "warning");
  EXPECT_EQ(row->what(),
            "cudaMemPrefetchAsync for GPU 0 failed with error 1 (invalid value): the address is in 2.00 MiB of device "
            "memory, which does "
            "not migrate");
}

TEST(RefusedHintTest, OfADeviceThatIsNoneAndOfNoKnownMemory) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.Prefetch(kBase, 2 * kMiB, 20, 9, {.result = 101});
  trace.Prefetch(0x5000, 4096, 30, -1, {.result = 1});
  const Report report = trace.Finish();
  ASSERT_EQ(report.hazards().rows_size(), 2);
  EXPECT_NE(report.hazards().rows(0).what().find("GPU 9"), std::string::npos) << report.hazards().rows(0).what();
  EXPECT_NE(TextOf(report).find("no allocation is known at that address"), std::string::npos);
}

TEST(RefusedHintTest, AcceptedOnesAndOtherErrorsAreNone) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.Prefetch(kBase, 2 * kMiB, 20, 0);
  trace.Prefetch(0x5000, 4096, 30, 0);  // memory of the C library, on a machine that migrates it
  trace.Prefetch(kBase, 2 * kMiB, 40, 0, {.result = 700});
  trace.Call("cudaMemAdvise", OPERATION_ADVISE, 50, {.address = kBase, .bytes = kMiB});
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_EQ(CheckOf(report, "refused_hint").reason(), "none in 4 calls that prefetch or advise");
}

TEST(RefusedHintTest, APrefetchOfFreedManagedMemoryIsAUseAfterFree) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, 10);
  trace.Free(kBase, 20);
  trace.Prefetch(kBase, 2 * kMiB, 30, 0, {.result = 1});
  const Report report = trace.Finish();
  ASSERT_EQ(report.hazards().rows_size(), 1);
  EXPECT_EQ(report.hazards().rows(0).hazard(), "use_after_free");
}

TEST(HazardTest, EachPlaceIsARowAndMoreThanTheTopAreCounted) {
  HazardTrace trace;
  for (uint64_t place = 0; place < 30; ++place) {
    const uint64_t address = kBase + place * kGiB;
    trace.Allocate(MEMORY_KIND_MANAGED, address, kMiB, 10);
    trace.Free(address, 20);
    trace.Call("cudaFree", OPERATION_FREE, 30,
               {.address = address, .stack = static_cast<uint32_t>(place) + 1, .result = 1});
  }
  const Report report = trace.Finish();
  EXPECT_EQ(report.hazards().rows_size(), 20);
  EXPECT_EQ(CheckOf(report, "double_free").found(), 30u);
  EXPECT_EQ(CheckOf(report, "double_free").reason(), "20 of 30 places are shown");
}

}  // namespace
}  // namespace uvmtrace::testing
