// Hazards that show in the times of kernels: unmapped beneath a kernel, freed with work in flight, prefetched for
// nothing; each beside programs that look like it and are right.
#include "analyzer/model/kernel_overlaps.h"
#include "tests/unit/analyzer_hazard_trace.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kMs = 1'000'000;

// Physical memory, mapped at kBase from 10 ms on, and GPU 0 has access.
HazardTrace Mapped() {
  HazardTrace trace;
  trace.Call("cuMemCreate", OPERATION_CREATE, 5, {.address = 7, .bytes = 2 * kMiB, .kind = MEMORY_KIND_PHYSICAL});
  trace.Call("cuMemMap", OPERATION_MAP, 8, {.address = kBase, .bytes = 2 * kMiB, .other_address = 7});
  trace.Call("cuMemSetAccess", OPERATION_SET_ACCESS, 10,
             {.address = kBase, .bytes = 2 * kMiB, .flags = 3, .location = 0});
  return trace;
}

void Unmap(HazardTrace* trace, uint64_t time_ms, uint64_t duration_ns = 10'000) {
  trace->Call("cuMemUnmap", OPERATION_UNMAP, time_ms,
              {.duration_ns = duration_ns, .address = kBase, .bytes = 2 * kMiB});
}

TEST(UnmapUnderKernelTest, TheKernelRanOn) {
  HazardTrace trace = Mapped();
  Unmap(&trace, 30);
  trace.EndChunk();
  trace.Kernel("reader(float*)", 20, 40);  // its record comes later
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "unmap_under_kernel");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->severity(), "warning");
  EXPECT_EQ(row->kernel(), "reader(float*)");
  EXPECT_EQ(row->ran_on_ns(), 10 * kMs - 10'000);
  EXPECT_NE(row->what().find("did not wait for a kernel"), std::string::npos) << row->what();
  EXPECT_EQ(report.hazards().rows_size(), 1);
}

TEST(UnmapUnderKernelTest, TheRecordOfTheKernelMayComeFirst) {
  HazardTrace trace = Mapped();
  trace.EndChunk();
  trace.Kernel("reader", 20, 40);
  trace.EndChunk();
  Unmap(&trace, 30);
  EXPECT_NE(RowOf(trace.Finish(), "unmap_under_kernel"), nullptr);
}

TEST(UnmapUnderKernelTest, KernelsThatCannotMeanThatMemory) {
  HazardTrace trace = Mapped();
  trace.Kernel("ended before", 20, 29);
  trace.Kernel("began after", 31, 40);
  trace.Kernel("began before the mapping", 7, 40);
  trace.Kernel("began before anybody had access", 9, 40);
  trace.Kernel("on a GPU without access", 20, 40, 1);
  Unmap(&trace, 30);
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_EQ(CheckOf(report, "unmap_under_kernel").reason(), "none in 1 unmap");
}

TEST(UnmapUnderKernelTest, WithinTheErrorOfTheClocksIsNone) {
  HazardTrace trace = Mapped();
  trace.builder().Kernel("just ending", HazardTrace::At(20), HazardTrace::At(30) + 40'000);
  trace.builder().Kernel("launched about now", HazardTrace::At(30) - 40'000, HazardTrace::At(40));
  Unmap(&trace, 30);
  ExpectNone(trace.Finish());
}

TEST(UnmapUnderKernelTest, AccessThatWasTakenAwayAndAnUnmapThatFailed) {
  HazardTrace trace = Mapped();
  trace.Call("cuMemSetAccess", OPERATION_SET_ACCESS, 15,
             {.address = kBase, .bytes = 2 * kMiB, .flags = 0, .location = 0});
  trace.Kernel("other", 20, 40);
  Unmap(&trace, 30);
  ExpectNone(trace.Finish());
  HazardTrace failed = Mapped();
  failed.Kernel("reader", 20, 40);
  failed.Call("cuMemUnmap", OPERATION_UNMAP, 30, {.address = kBase, .bytes = 2 * kMiB, .result = 1});
  ExpectNone(failed.Finish());
}

TEST(UnmapUnderKernelTest, OneThatWaitedSaysOnlyWhatItFound) {
  HazardTrace trace = Mapped();
  trace.Kernel("reader", 20, 40);
  Unmap(&trace, 30, 10 * kMs + 20'000);
  const Report report = trace.Finish();
  ASSERT_NE(RowOf(report, "unmap_under_kernel"), nullptr);
  EXPECT_FALSE(RowOf(report, "unmap_under_kernel")->has_ran_on_ns());
  EXPECT_NE(RowOf(report, "unmap_under_kernel")->what().find("which is not promised"), std::string::npos);
}

TEST(UnmapUnderKernelTest, WithoutKernelRecordsItCannotBeSeen) {
  HazardTrace trace(false);
  trace.builder().Source("cupti.kernels", STATE_DISABLED, "UVMTRACE_KERNELS=0");
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 10);
  trace.Free(kBase, 20);
  const Report report = trace.Finish();
  for (const char* hazard : {"unmap_under_kernel", "free_waited", "unused_prefetch"}) {
    EXPECT_EQ(CheckOf(report, hazard).reason(), "cannot be seen: kernels were not recorded: UVMTRACE_KERNELS=0");
    EXPECT_FALSE(CheckOf(report, hazard).has_checked());
  }
  EXPECT_EQ(CheckOf(report, "double_free").reason(), "none in 1 free");
}

void FreeFor(HazardTrace* trace, uint64_t time_ms, uint64_t duration_ns, const std::string& name = "cudaFree") {
  trace->Call(name, OPERATION_FREE, time_ms, {.duration_ns = duration_ns, .address = kBase});
}

TEST(FreeWaitedTest, ForTheKernelThatRanAndThoseBehindIt) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 5);
  trace.Kernel("first", 10, 25);
  trace.Kernel("second", 25, 40);
  FreeFor(&trace, 20, 25 * kMs);
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "free_waited");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->severity(), "cost");
  EXPECT_EQ(row->time_ns(), 20 * kMs);
  EXPECT_EQ(row->kernel(), "first");
  EXPECT_EQ(CheckOf(report, "free_waited").checked(), 1u);
}

TEST(FreeWaitedTest, ForAKernelThatWasLaunchedJustBefore) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 5);
  trace.builder().Kernel("launched", HazardTrace::At(20) + 8'000, HazardTrace::At(30));
  FreeFor(&trace, 20, 10 * kMs + 30'000);
  ASSERT_NE(RowOf(trace.Finish(), "free_waited"), nullptr);
}

TEST(FreeWaitedTest, KernelsThatItDidNotWaitFor) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 5);
  trace.Kernel("runs on after the call", 10, 60);
  trace.Kernel("ended before", 10, 19);
  trace.Kernel("launched by another thread meanwhile", 25, 30);
  FreeFor(&trace, 20, 25 * kMs);
  ExpectNone(trace.Finish());
}

TEST(FreeWaitedTest, AStreamOrderedFreeWaitsInItsStream) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_POOL, kBase, kMiB, 5);
  trace.Kernel("user", 10, 30);
  FreeFor(&trace, 20, 10 * kMs, "cudaFreeAsync");
  ExpectNone(trace.Finish());
}

TEST(FreeWaitedTest, OtherFreesMustShowThatTheyWaited) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_PINNED, kBase, kMiB, 5);
  trace.Kernel("short", 10, 21);
  FreeFor(&trace, 20, 50 * kMs, "cudaFreeHost");  // it took its time by itself
  ExpectNone(trace.Finish());
  HazardTrace waited;
  waited.Allocate(MEMORY_KIND_PINNED, kBase, kMiB, 5);
  waited.Kernel("long", 10, 60);
  FreeFor(&waited, 20, 40 * kMs + 100'000, "cudaFreeHost");
  EXPECT_NE(RowOf(waited.Finish(), "free_waited"), nullptr);
}

TEST(FreeWaitedTest, WithSeveralGpusACoincidenceIsNone) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 5);
  trace.Kernel("on the other GPU", 10, 21, 1);
  trace.Kernel("long ago", 1, 2, 0);
  FreeFor(&trace, 20, 50 * kMs);
  ExpectNone(trace.Finish());
}

TEST(FreeWaitedTest, AFreeInManyKernelsIsStillFound) {
  // More kernels than are kept, in no order, with the one that matters among the first.
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, 1);
  trace.Kernel("awaited", 10, 30);
  FreeFor(&trace, 20, 10 * kMs + 10'000);
  trace.EndChunk();
  for (uint64_t i = 0; i < 9 * analyzer::KernelOverlaps::kWindowKernels; ++i) {
    const uint64_t start_ns = HazardTrace::At(40) + (i ^ 1) * 100'000;
    trace.builder().Kernel("small", start_ns, start_ns + 90'000);
    if (i % 4096 == 0) trace.EndChunk();
  }
  const Report report = trace.Finish();
  ASSERT_NE(RowOf(report, "free_waited"), nullptr);
  EXPECT_EQ(RowOf(report, "free_waited")->time_ns(), 10 * kMs);
}

TEST(UnusedPrefetchTest, FreedBeforeAnythingUsedIt) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
  trace.Kernel("before", 6, 9);
  trace.Prefetch(kBase, 4 * kMiB, 10, 0, {.duration_ns = 300'000});
  trace.Prefetch(kBase + 4 * kMiB, 16 * kMiB, 11, 0);  // beyond its end
  trace.builder().Migrate(HazardTrace::At(12), HazardTrace::At(14), kBase, 2 * kMiB, -1, 0, MIGRATION_CAUSE_USER);
  trace.Free(kBase, 20);
  trace.Kernel("after", 21, 29);
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "unused_prefetch");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->count(), 2u);
  EXPECT_EQ(row->bytes(), 8 * kMiB);
  EXPECT_EQ(row->moved_bytes(), 2 * kMiB);
  EXPECT_EQ(row->time_ns(), 10'000u + 2 * kMs);  // a call's time, or its migrations' where that is longer
  EXPECT_EQ(row->severity(), "cost");
  EXPECT_EQ(CheckOf(report, "unused_prefetch").checked(), 1u);
}

// Whatever happens between the prefetch (at 10 ms) and the free (at 20 ms) may be the use.
template <typename Between>
void ExpectUsed(Between between) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
  trace.Prefetch(kBase, 8 * kMiB, 10, 0);
  between(&trace);
  trace.Free(kBase, 20);
  ExpectNone(trace.Finish());
}

TEST(UnusedPrefetchTest, EverythingThatMayHaveUsedIt) {
  ExpectUsed([](HazardTrace* trace) { trace->Kernel("user", 12, 14); });
  ExpectUsed([](HazardTrace* trace) { trace->Kernel("on another GPU", 12, 14, 1); });
  ExpectUsed([](HazardTrace* trace) { trace->Kernel("running since before", 1, 11); });
  ExpectUsed([](HazardTrace* trace) { trace->Kernel("running until after", 19, 50); });
  ExpectUsed([](HazardTrace* trace) { trace->Copy(0x1000, kBase + kMiB, 12); });
  ExpectUsed([](HazardTrace* trace) { trace->Copy(kBase + kMiB, 0x1000, 12); });
  ExpectUsed(
      [](HazardTrace* trace) { trace->Call("cudaMemset", OPERATION_SET, 12, {.address = kBase, .bytes = kMiB}); });
  ExpectUsed([](HazardTrace* trace) { trace->builder().CpuFault(HazardTrace::At(12), kBase + kMiB); });
  ExpectUsed(
      [](HazardTrace* trace) { trace->builder().GpuFault(HazardTrace::At(12), HazardTrace::At(13), kBase + kMiB); });
  ExpectUsed([](HazardTrace* trace) { trace->Call("cudaGraphLaunch", OPERATION_OTHER, 12, {.stream = 0x77}); });
  ExpectUsed([](HazardTrace* trace) {
    trace->Call("cudaMemcpyBatchAsync", OPERATION_COPY, 12,
                {.address = 0x1000, .bytes = kMiB, .other_address = 0x2000, .flags = uint64_t{3} << 32});
  });
}

TEST(UnusedPrefetchTest, ToTheHostOrWithoutItsFreeOrWithAnotherOfTheSameAddress) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
  trace.Prefetch(kBase, 8 * kMiB, 10, -1);
  trace.Free(kBase, 20);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 25);
  trace.Free(kBase, 30);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 35);
  trace.Prefetch(kBase, 8 * kMiB, 40, 0);
  ExpectNone(trace.Finish());
}

TEST(UnusedPrefetchTest, OnlyTheLastOfSeveralRounds) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
  trace.Prefetch(kBase, 8 * kMiB, 10, 0);
  trace.Kernel("user", 12, 14);
  trace.Prefetch(kBase, kMiB, 16, 0);
  trace.Free(kBase, 20);
  const Report report = trace.Finish();
  ASSERT_NE(RowOf(report, "unused_prefetch"), nullptr);
  EXPECT_EQ(RowOf(report, "unused_prefetch")->bytes(), kMiB);
}

TEST(UnusedPrefetchTest, WhereAUseMayBeMissingNothingIsSaid) {
  const auto prefetched_and_freed = [](HazardTrace* trace) {
    trace->Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
    trace->Prefetch(kBase, 8 * kMiB, 10, 0);
    trace->Free(kBase, 20);
  };
  HazardTrace lost;
  prefetched_and_freed(&lost);
  lost.builder().Lose("kernels", "ring full", 1);
  EXPECT_NE(CheckOf(lost.Finish(), "unused_prefetch").reason().find("events were lost"), std::string::npos);
  HazardTrace counted;
  prefetched_and_freed(&counted);
  counted.builder().Source("exact_counters", STATE_ACTIVE);
  counted.builder().CounterSample(HazardTrace::At(30), 0, 0, 5, 0);
  EXPECT_NE(CheckOf(counted.Finish(), "unused_prefetch").reason().find("not every fault of the CPU"),
            std::string::npos);
  HazardTrace cut_off;
  prefetched_and_freed(&cut_off);
  cut_off.EndChunk();
  const Report report = ReportOf(std::vector<std::string>{cut_off.builder().bytes()});
  EXPECT_NE(CheckOf(report, "unused_prefetch").reason().find("cut off"), std::string::npos);
  EXPECT_EQ(report.hazards().rows_size(), 0);
}

TEST(HazardsOfTimeTest, ClocksThatCannotBeComparedTellNothing) {
  HazardTrace trace = Mapped();
  Unmap(&trace, 30);
  trace.EndChunk();
  trace.builder().SetClock(TIME_BASE_MONOTONIC_RAW);  // never sampled
  trace.Kernel("reader", 20, 40);
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_NE(CheckOf(report, "unmap_under_kernel").reason().find("the clock of the kernels"), std::string::npos);
}

TEST(UnusedPrefetchTest, KernelsThatWereForgottenMayHaveBeenTheUse) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
  trace.Prefetch(kBase, 8 * kMiB, 10, 0);
  for (uint64_t i = 0; i < 3 * analyzer::KernelOverlaps::kWindowKernels; ++i) {
    const uint64_t start_ns = HazardTrace::At(20) + i * 10'000;
    trace.builder().Kernel("user", start_ns, start_ns + 9'000);
    if (i % 4096 == 0) trace.EndChunk();
  }
  trace.EndChunk();
  trace.Free(kBase, 20'000);
  ExpectNone(trace.Finish());
}

// The kernel "writer" runs from 10 to 60 ms and writes at 12 ms into the second MiB of 8 MiB of managed memory.
HazardTrace Written(Access access = ACCESS_WRITE) {
  HazardTrace trace;
  trace.builder().Source("driver_queue", STATE_ACTIVE);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, 5);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase + 64 * kMiB, 8 * kMiB, 5);
  trace.Kernel("writer", 10, 60);
  trace.builder().QueueFault(HazardTrace::At(12), kBase + kMiB, 1, 0, access);
  trace.builder().Replay(HazardTrace::At(13), 1);
  return trace;
}

void Touch(HazardTrace* trace, uint64_t time_ms, uint64_t address, Access access = ACCESS_READ) {
  trace->builder().QueueCpuFault(HazardTrace::At(time_ms), address, 0x401234, 7);
  auto* faults = trace->builder().chunk().mutable_cpu_faults(trace->builder().chunk().cpu_faults_size() - 1);
  faults->add_access(access);
}

TEST(TouchUnderKernelTest, TheCpuReadsWhatARunningKernelWrites) {
  HazardTrace trace = Written();
  Touch(&trace, 30, kBase + kMiB + 4096);
  Touch(&trace, 31, kBase + kMiB + 8192);
  const Report report = trace.Finish();
  const HazardRow* row = RowOf(report, "touch_under_kernel");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->count(), 2u);
  EXPECT_EQ(row->kernel(), "writer");
  EXPECT_EQ(row->severity(), "warning");
  EXPECT_EQ(row->first_ns(), 30 * kMs);
  EXPECT_EQ(row->address(), kBase + kMiB + 4096);
  EXPECT_EQ(row->memory_address(), kBase);
  EXPECT_EQ(row->kind(), "managed");
  EXPECT_EQ(row->function(), "");
  EXPECT_NE(row->site(), "");
  EXPECT_EQ(CheckOf(report, "touch_under_kernel").checked(), 2u);
  EXPECT_EQ(report.hazards().rows_size(), 1);
}

TEST(TouchUnderKernelTest, TheKernelMayUseItAfterTheTouch) {
  HazardTrace trace = Written();
  Touch(&trace, 11, kBase + kMiB);
  EXPECT_NE(RowOf(trace.Finish(), "touch_under_kernel"), nullptr);
}

TEST(TouchUnderKernelTest, TheCpuWritesWhatARunningKernelReads) {
  HazardTrace trace = Written(ACCESS_READ);
  Touch(&trace, 30, kBase + kMiB, ACCESS_WRITE);
  EXPECT_NE(RowOf(trace.Finish(), "touch_under_kernel"), nullptr);
}

// A program that waits touches when no kernel runs any more.
TEST(TouchUnderKernelTest, AfterASynchronization) {
  HazardTrace trace = Written();
  trace.Call("cudaDeviceSynchronize", OPERATION_OTHER, 20, {.duration_ns = 40 * kMs + 5'000});
  trace.builder().QueueCpuFault(HazardTrace::At(60) + 6'000, kBase + kMiB, 0x401234, 7);
  Touch(&trace, 5, kBase + kMiB);  // before the launch
  const Report report = trace.Finish();
  ExpectNone(report);
  EXPECT_EQ(CheckOf(report, "touch_under_kernel").reason(), "none in 2 touches of managed memory by the CPU");
}

TEST(TouchUnderKernelTest, OtherMemoryAndOtherPartsOfIt) {
  HazardTrace trace = Written();
  Touch(&trace, 30, kBase + 64 * kMiB);
  Touch(&trace, 31, kBase + 2 * kMiB);
  ExpectNone(trace.Finish());
}

// Two buffers and two streams: the run that used this one is over, and another run of the same kernel goes on.
TEST(TouchUnderKernelTest, AnotherRunOfTheKernel) {
  HazardTrace trace = Written();
  trace.Kernel("writer", 50, 120);
  trace.builder().QueueFault(HazardTrace::At(70), kBase + 64 * kMiB, 2, 0, ACCESS_WRITE);
  trace.builder().Replay(HazardTrace::At(71), 2);
  Touch(&trace, 80, kBase + kMiB);
  ExpectNone(trace.Finish());
}

// Both may read at once; and programs talk to a running kernel by atomics.
TEST(TouchUnderKernelTest, ReadersAndAtomics) {
  HazardTrace readers = Written(ACCESS_READ);
  Touch(&readers, 30, kBase + kMiB);
  ExpectNone(readers.Finish());
  HazardTrace atomics = Written(ACCESS_ATOMIC);
  Touch(&atomics, 30, kBase + kMiB, ACCESS_WRITE);
  ExpectNone(atomics.Finish());
}

TEST(HazardVerdictTest, WhatCostsMuchOfTheRunIsSaidAtTheTop) {
  HazardTrace trace;
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 5);
  trace.Kernel("long", 10, 2'000);
  FreeFor(&trace, 20, 1'980 * kMs);
  EXPECT_NE(Verdict(trace.Finish()).find("waited 1.98 s"), std::string::npos);
  HazardTrace brief;
  brief.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, 5);
  brief.Kernel("short", 10, 25);
  FreeFor(&brief, 20, 5 * kMs);
  const Report report = brief.Finish();
  EXPECT_NE(RowOf(report, "free_waited"), nullptr);
  EXPECT_EQ(Verdict(report).find("found a kernel running"), std::string::npos) << Verdict(report);
}

}  // namespace
}  // namespace uvmtrace::testing
