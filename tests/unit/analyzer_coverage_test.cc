// Which doors saw the calls, what CUPTI says happened besides, and that every kind of the schema is one of the
// analyzer's.
#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {
namespace {

const Coverage& CoverageOf(const Report& report) { return report.capture().coverage(); }

TEST(CoverageTest, CallsAreCountedByDoor) {
  TraceBuilder trace;
  const uint32_t copy = trace.Function("cudaMemcpy", OPERATION_COPY);
  for (const Door door : {DOOR_RUNTIME_SYMBOL, DOOR_RUNTIME_SYMBOL, DOOR_GET_PROC_ADDRESS, static_cast<Door>(99)}) {
    TraceBuilder::Call call;
    call.function = copy;
    call.start_ns = kStart + 1000;
    call.door = door;
    trace.Add(call);
  }
  const Report report = ReportOf(trace);
  ASSERT_EQ(CoverageOf(report).doors_size(), 3);
  EXPECT_EQ(CoverageOf(report).doors(0).door(), "unknown");
  EXPECT_EQ(CoverageOf(report).doors(1).door(), "runtime_symbol");
  EXPECT_EQ(CoverageOf(report).doors(1).calls(), 2u);
  EXPECT_NE(TextOf(report).find("2 through cuda* symbols, 1 through pointers from cuGetProcAddress"),
            std::string::npos);
  EXPECT_NE(TextOf(report).find("UVMTRACE_AUDIT=1"), std::string::npos) << "nobody is told how to check";
}

// As CUPTI 13 counts on an H200: a driver call beneath a runtime call passes the hooks and does not happen.
TEST(CoverageTest, DriverCallsBeneathSeenRuntimeCallsAreNoSurplusForOthers) {
  TraceBuilder trace;
  trace.Audit("cudaMallocManaged", 8, 8);
  trace.Audit("cudaMalloc", 3, 1);  // two came by no door
  trace.Audit("cuMemAllocManaged", 0, 8);
  trace.Audit("cuMemAlloc_v2", 0, 1);
  const Report report = ReportOf(trace);
  ASSERT_EQ(CoverageOf(report).apis_size(), 2);
  EXPECT_EQ(CoverageOf(report).apis(0).happened(), 11u);
  EXPECT_EQ(CoverageOf(report).apis(0).seen(), 9u);
  EXPECT_EQ(CoverageOf(report).apis(0).seen_beneath(), 0u);
  EXPECT_DOUBLE_EQ(CoverageOf(report).apis(0).share(), 9.0 / 11);
  EXPECT_FALSE(CoverageOf(report).apis(1).has_share());
  ASSERT_EQ(CoverageOf(report).gaps_size(), 1);
  EXPECT_EQ(CoverageOf(report).gaps(0).function(), "cudaMalloc");
  EXPECT_NE(TextOf(report).find("2 of 3 calls of cudaMalloc"), std::string::npos);
}

TEST(CoverageTest, AStaticRuntimeIsCoveredByItsDriverCalls) {
  TraceBuilder trace;
  trace.Audit("cudaMalloc", 1, 0);
  trace.Audit("cudaMallocManaged", 8, 0);
  trace.Audit("cudaFree", 11, 0);
  trace.Audit("cudaMemcpy", 2, 0);
  trace.Audit("cuMemAlloc_v2", 0, 1);
  trace.Audit("cuMemAllocManaged", 0, 8);
  trace.Audit("cuMemFree_v2", 0, 9);
  trace.Audit("cuMemcpyDtoH_v2_ptds", 0, 2);
  const Report report = ReportOf(trace);
  EXPECT_EQ(CoverageOf(report).apis(0).seen(), 0u);
  EXPECT_EQ(CoverageOf(report).apis(0).seen_beneath(), 20u);
  ASSERT_EQ(CoverageOf(report).gaps_size(), 1);
  EXPECT_EQ(CoverageOf(report).gaps(0).function(), "cudaFree");
  EXPECT_NE(CoverageOf(report).gaps(0).explanation().find("about null"), std::string::npos);
  EXPECT_NE(TextOf(report).find("as those of a statically linked runtime are (90.91 %)"), std::string::npos)
      << TextOf(report);
}

TEST(CoverageTest, ACuptiThatCountsNestedCallsCoversAStaticRuntimeToo) {
  TraceBuilder trace;
  trace.Audit("cudaFree", 4, 0);
  trace.Audit("cuMemFree_v2", 4, 4);
  const Report report = ReportOf(trace);
  EXPECT_EQ(CoverageOf(report).gaps_size(), 0);
  EXPECT_DOUBLE_EQ(CoverageOf(report).apis(0).share(), 1);
}

TEST(CoverageTest, WhatWasSeenWithoutHavingHappenedFillsNoGap) {
  TraceBuilder trace;
  trace.Audit("cudaMemset", 5, 9);
  trace.Audit("cudaMemcpy", 5, 1);
  const Report report = ReportOf(trace);
  EXPECT_EQ(CoverageOf(report).apis(0).seen(), 6u);
  EXPECT_EQ(CoverageOf(report).gaps(0).function(), "cudaMemcpy");
}

TEST(CoverageTest, ARestartRepeatsCountsAndAnotherProcessAddsThem) {
  TraceBuilder first;
  first.Audit("cudaMalloc", 2, 2);
  first.EndChunk();
  first.Audit("cudaMalloc", 4, 4);
  TraceOptions options;
  options.pid = 101;
  TraceBuilder second(options);
  second.Audit("cudaMalloc", 6, 6);
  TraceOptions without;
  without.pid = 102;
  TraceBuilder third(without);
  const Report report = ReportOf({first.Finish(), second.Finish(), third.Finish()});
  EXPECT_EQ(CoverageOf(report).apis(0).happened(), 10u);
  EXPECT_EQ(CoverageOf(report).note(), "2 of 3 processes left CUPTI's counts");
}

TEST(CoverageTest, ABlindDoorExplainsAGapAndAnAuditThatDidNotRunSaysWhy) {
  TraceBuilder trace;
  trace.Source("doors.deepbind", STATE_UNAVAILABLE, "libfoo.so was opened with RTLD_DEEPBIND");
  trace.Audit("cudaMalloc", 2, 1);
  EXPECT_NE(CoverageOf(ReportOf(trace)).gaps(0).explanation().find("libfoo.so"), std::string::npos);
  TraceBuilder disabled;
  disabled.Source("audit", STATE_DISABLED, "UVMTRACE_DETAIL=calls: CUPTI is not used");
  EXPECT_NE(CoverageOf(ReportOf(disabled)).note().find("CUPTI is not used"), std::string::npos);
  TraceBuilder killed;
  killed.Source("audit", STATE_ACTIVE, "CUPTI counts");
  EXPECT_NE(CoverageOf(ReportOf(killed)).note().find("cut off"), std::string::npos);
}

// A value that the recorder writes and the analyzer does not know would be counted as unknown without a word.
TEST(KindsTest, EveryKindOfTheSchemaIsKnown) {
  EXPECT_EQ(static_cast<int>(analyzer::kMemoryKindCount), MemoryKind_descriptor()->value_count());
  EXPECT_EQ(static_cast<int>(analyzer::kDoorCount), Door_descriptor()->value_count());
  EXPECT_EQ(static_cast<int>(analyzer::Operation::kReset), static_cast<int>(OPERATION_RESET));
  EXPECT_EQ(Operation_descriptor()->value_count(), static_cast<int>(OPERATION_RESET) + 1);
  EXPECT_EQ(static_cast<int>(analyzer::MemoryKind::kImported), static_cast<int>(MEMORY_KIND_IMPORTED));
  TraceBuilder trace;
  for (int kind = 1; kind < static_cast<int>(analyzer::kMemoryKindCount); ++kind) {
    trace.Allocate(static_cast<MemoryKind>(kind), kBase + static_cast<uint64_t>(kind) * kGiB, kMiB, kStart + 5000);
  }
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.memory_size(), 8);
  for (const MemoryRow& row : report.memory()) EXPECT_NE(row.kind(), "unknown");
}

TEST(KindsTest, ImportedMemoryIsNotCountedAsTheProgramsOwn) {
  TraceBuilder trace;
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, kMiB, kStart + 5000);
  trace.Allocate(MEMORY_KIND_IMPORTED, kBase + kGiB, 64 * kMiB, kStart + 6000);
  const Report report = ReportOf(trace);
  EXPECT_NE(Verdict(report).find("held 1.00 MiB of device memory."), std::string::npos) << Verdict(report);
  EXPECT_NE(TextOf(report).find(" imported 1 0 64.0 MiB"), std::string::npos) << TextOf(report);
}

}  // namespace
}  // namespace uvmtrace::testing
