// What a source delivered beside what the driver counted: what is missing is said, in bytes, and blamed on whoever lost
// it.
#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {
namespace {

// 1 GiB went to the GPU and 100 MiB back, as the driver counted; CUPTI delivered `to_device` and `to_host` of it.
TraceBuilder CountedTrace(uint64_t to_device, uint64_t to_host, const TraceOptions& options = {}) {
  TraceBuilder trace(options);
  trace.CuptiActive();
  trace.Source("exact_counters", STATE_ACTIVE);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kGiB, kStart + 1000);
  trace.CounterSample(kStart + 1000, 0, 0, 0, 0);
  trace.Migrate(kStart + 10'000, kStart + 20'000, kBase, to_device, -1, 0);
  trace.Migrate(kStart + 30'000, kStart + 40'000, kBase, to_host, 0, -1);
  trace.CounterSample(kStart + 30'000, kGiB / 2, 0, 1, 9'000);
  trace.CounterSample(kStart + 50'000, kGiB, 100 * kMiB, 25, 17'500);
  return trace;
}

std::string NotSeen(const Report& report) {
  std::string text;
  for (const std::string& line : report.not_seen()) text += line + "\n";
  return text;
}

TEST(CompletenessTest, WhatCuptiDeliveredIsComparedWithTheDriversCounters) {
  TraceBuilder trace = CountedTrace(kGiB, 100 * kMiB);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  EXPECT_EQ(report.totals().gpu_faults(), 17'500u);
  EXPECT_EQ(report.capture().exact_host_to_device_bytes(), kGiB);
  EXPECT_EQ(report.capture().exact_device_to_host_bytes(), 100 * kMiB);
  EXPECT_EQ(report.capture().exact_cpu_faults(), 25u);
  EXPECT_DOUBLE_EQ(report.capture().delivered_share(), 1.0);
  EXPECT_EQ(report.capture().lost_size(), 0);
  EXPECT_EQ(Verdict(report).find("CUPTI delivered"), std::string::npos);
  EXPECT_EQ(NotSeen(report).find("could not be checked"), std::string::npos);
  const std::string text = analyzer::RenderText(report, {});
  EXPECT_NE(text.find("17,500  GPU faults, as the driver counts them"), std::string::npos) << text;
  EXPECT_NE(text.find("CUPTI delivered 100.00 % of 1.00 GiB to the GPU and 100.00 % of 100 MiB to the host"),
            std::string::npos)
      << text;
}

TEST(CompletenessTest, WhatCuptiDidNotDeliverIsALossInBytes) {
  TraceBuilder trace = CountedTrace(kGiB / 2, 100 * kMiB);
  trace.Source("cupti.flush", STATE_ACTIVE, "2 flushes were held up, the longest for 161 ms");
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  ASSERT_EQ(report.capture().lost_size(), 1);
  EXPECT_EQ(report.capture().lost(0).source(), "cupti");
  EXPECT_EQ(report.capture().lost(0).reason(), "bytes that moved and that CUPTI did not deliver");
  EXPECT_EQ(report.capture().lost(0).count(), kGiB / 2);
  EXPECT_DOUBLE_EQ(report.capture().delivered_share(), 612.0 / 1124.0);
  EXPECT_NE(
      Verdict(report).find(
          "CUPTI delivered only 54 % of the bytes that the driver moved: rows below miss 512 MiB. A blocking call, "
          "such as cudaMemcpy, held up CUPTI while pages faulted; UVMTRACE_KERNELS=0 avoids most of it.\n"),
      std::string::npos)
      << Verdict(report);
  EXPECT_EQ(Verdict(report).find("events were lost"), std::string::npos) << "bytes are no events";
  EXPECT_NE(NotSeen(report).find("161 ms"), std::string::npos);
}

TEST(CompletenessTest, ALossOfTheRecordersOwnIsNotBlamedOnCupti) {
  TraceBuilder trace = CountedTrace(kGiB / 2, 0);
  auto* loss = trace.chunk().add_loss();
  loss->set_source("migrations");
  loss->set_reason("ring full");
  loss->set_count(10);
  trace.Source("cupti.kernels", STATE_DISABLED, "UVMTRACE_KERNELS=0");
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.capture().lost_size(), 2);
  EXPECT_EQ(report.capture().lost(1).count(), kGiB / 2 + 100 * kMiB);  // both directions
  EXPECT_NE(
      Verdict(report).find("The trace holds only 46 % of the bytes that the driver moved: rows below miss 612 MiB.\n"),
      std::string::npos)
      << Verdict(report);
  EXPECT_NE(Verdict(report).find("10 events were lost"), std::string::npos) << Verdict(report);
}

TEST(CompletenessTest, ADifferenceOfTimingIsNoLoss) {
  for (const uint64_t missing : {5 * kMiB, kMiB / 2}) {
    TraceBuilder trace = CountedTrace(kGiB - missing, 100 * kMiB + kMiB);
    const Report report = ReportOf(trace);
    EXPECT_EQ(report.capture().lost_size(), 0) << missing;
  }
  TraceBuilder trace = CountedTrace(kGiB - 6 * kMiB, 100 * kMiB);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.capture().lost_size(), 1);  // 99.41 % of that direction
  EXPECT_NE(Verdict(report).find("only 99.47 %"), std::string::npos) << Verdict(report);
}

TEST(CompletenessTest, WithoutCountersTheReportSaysThatNothingWasChecked) {
  for (const State state : {STATE_UNAVAILABLE, STATE_STOPPED, STATE_UNKNOWN}) {
    TraceBuilder trace;
    trace.CuptiActive();
    if (state != STATE_UNKNOWN) trace.Source("exact_counters", state, "because of a test");
    if (state == STATE_STOPPED) trace.CounterSample(kStart + 1000, kMiB, 0, 0, 7);  // not of the whole run
    trace.Allocate(MEMORY_KIND_MANAGED, kBase, kGiB, kStart + 1000);
    trace.Migrate(kStart + 10'000, kStart + 20'000, kBase, kMiB, -1, 0);
    const Report report = ReportOf(trace);
    EXPECT_FALSE(report.totals().has_gpu_faults());
    EXPECT_FALSE(report.capture().has_exact_host_to_device_bytes());
    EXPECT_FALSE(report.capture().has_delivered_share());
    EXPECT_EQ(report.capture().lost_size(), 0);
    const std::string text = NotSeen(report);
    EXPECT_NE(text.find("could not be checked against the driver's own counters"), std::string::npos) << state << text;
    if (state != STATE_UNKNOWN) {
      EXPECT_NE(text.find("because of a test"), std::string::npos) << text;
    }
    EXPECT_EQ(analyzer::RenderText(report, {}).find("completeness"), std::string::npos);
  }
}

TEST(CompletenessTest, CountersWithoutCuptiAreShownAndNotCompared) {
  TraceBuilder trace;
  trace.Source("cupti", STATE_UNAVAILABLE, "no libcupti");
  trace.Source("exact_counters", STATE_ACTIVE);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kGiB, kStart + 1000);
  trace.CounterSample(kStart + 2000, kGiB, 0, 3, 4);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.totals().gpu_faults(), 4u);
  // The counters are exact: the total is theirs. Which memory it was, nobody knows.
  EXPECT_EQ(report.totals().host_to_device_bytes(), kGiB);
  EXPECT_FALSE(report.totals().has_evicted_bytes());
  EXPECT_EQ(report.migrations_size(), 0);
  EXPECT_FALSE(report.allocations(0).has_host_to_device_bytes());
  EXPECT_EQ(report.capture().exact_host_to_device_bytes(), kGiB);
  EXPECT_FALSE(report.capture().has_delivered_share());
  EXPECT_EQ(report.capture().lost_size(), 0);
  EXPECT_NE(analyzer::RenderText(report, {}).find("1.00 GiB to the GPU moved, as the driver counted it; CUPTI was off"),
            std::string::npos);
}

TEST(CompletenessTest, CountersOfSeveralProcessesAreAddedAndAProcessWithoutThemIsNotZero) {
  TraceOptions second;
  second.pid = 200;
  second.parent_pid = 100;
  std::vector<std::string> traces = {CountedTrace(kGiB, 100 * kMiB).Finish(kStart + 1'000'000),
                                     CountedTrace(kGiB, 100 * kMiB, second).Finish(kStart + 1'000'000)};
  Report report = ReportOf(traces);
  EXPECT_EQ(report.totals().gpu_faults(), 35'000u);
  EXPECT_EQ(report.capture().exact_host_to_device_bytes(), 2 * kGiB);
  EXPECT_DOUBLE_EQ(report.capture().delivered_share(), 1.0);

  TraceBuilder without(second);
  without.CuptiActive();
  without.Allocate(MEMORY_KIND_MANAGED, kBase, kGiB, kStart + 1000);
  without.Migrate(kStart + 10'000, kStart + 20'000, kBase, kGiB, -1, 0);
  traces[1] = without.Finish(kStart + 1'000'000);
  report = ReportOf(traces);
  EXPECT_FALSE(report.totals().has_gpu_faults());  // of one process only: not of the run
  EXPECT_EQ(report.totals().host_to_device_bytes(), 2 * kGiB);
  EXPECT_DOUBLE_EQ(report.capture().delivered_share(), 1.0);  // of the process that can be compared
  EXPECT_NE(NotSeen(report).find("could not be checked"), std::string::npos);
}

}  // namespace
}  // namespace uvmtrace::testing
