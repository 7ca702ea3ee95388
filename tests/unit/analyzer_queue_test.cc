// The report of what the driver's event queue, its counters and samples of its threads tell.
#include <gtest/gtest.h>

#include <memory>

#include "analyzer/findings/bottom_half_time.h"
#include "analyzer/findings/report_builder.h"
#include "analyzer/present/text.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kBase = 0x7f0000000000;
constexpr uint64_t kStart = 1'000'000'000;
constexpr uint64_t kEnd = kStart + 6'000'000'000;

analyzer::Run RunOf(const std::vector<std::string>& traces) {
  analyzer::Run run;
  for (const std::string& bytes : traces) {
    const TemporaryFile file(bytes);
    run.push_back(std::make_unique<analyzer::ProcessModel>());
    const auto status = run.back()->ReadTrace(file.path());
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return run;
}

Report ReportOf(const std::vector<std::string>& traces, size_t top = 20) {
  analyzer::ReportOptions options;
  options.top = top;
  options.symbols.sysroot = "/nonexistent";
  return analyzer::BuildReport(RunOf(traces), options);
}

Report ReportOf(TraceBuilder& trace) { return ReportOf({trace.Finish(kEnd)}); }

std::string Verdict(const Report& report) {
  std::string text;
  for (const auto& sentence : report.verdict()) text += sentence + "\n";
  return text;
}

std::string ReasonOf(const Report& report, const std::string& section) {
  for (const auto& empty : report.empty_sections()) {
    if (empty.section() == section) return empty.reason();
  }
  return "";
}

const AccountRow* Account(const Report& report, const std::string& quantity) {
  for (const auto& row : report.capture().accounts()) {
    if (row.quantity() == quantity) return &row;
  }
  return nullptr;
}

void ExpectBalanced(const Report& report) {
  uint64_t entries = 0, cpu_faults = 0, to_device = 0, to_host = 0, evicted = 0;
  for (const auto& row : report.allocations()) {
    entries += row.gpu_fault_entries();
    cpu_faults += row.cpu_faults();
    to_device += row.host_to_device_bytes();
    to_host += row.device_to_host_bytes();
    evicted += row.evicted_bytes();
  }
  const Totals& totals = report.totals();
  EXPECT_EQ(entries, totals.gpu_fault_entries());
  EXPECT_EQ(cpu_faults, totals.cpu_faults());
  EXPECT_EQ(to_device, totals.host_to_device_bytes());
  EXPECT_EQ(to_host, totals.device_to_host_bytes());
  EXPECT_EQ(evicted, totals.evicted_bytes());
  uint64_t rows_to_device = 0, rows_to_host = 0;
  for (const auto& row : report.migrations()) {
    if (row.direction() == "host_to_device") rows_to_device += row.bytes();
    if (row.direction() == "device_to_host") rows_to_host += row.bytes();
  }
  EXPECT_EQ(rows_to_device, totals.host_to_device_bytes());
  EXPECT_EQ(rows_to_host, totals.device_to_host_bytes());
  uint64_t kernel_entries = 0, kernel_bytes = 0;
  for (const auto& row : report.kernels()) {
    kernel_entries += row.gpu_fault_entries();
    kernel_bytes += row.host_to_device_bytes();
  }
  if (report.kernels_size() > 0) {
    EXPECT_EQ(kernel_entries, totals.gpu_fault_entries());
    EXPECT_EQ(kernel_bytes, totals.host_to_device_bytes());
  }
  uint64_t over_time = 0;
  for (const auto& row : report.bandwidth()) over_time += row.host_to_device_bytes();
  EXPECT_EQ(over_time, report.capture().exact_host_to_device_bytes());
  uint64_t cpu_sites = 0;
  for (const auto& row : report.cpu_fault_sites()) cpu_sites += row.faults();
  EXPECT_EQ(cpu_sites, totals.cpu_faults());
}

TEST(QueueReportTest, SampleTraceInNumbers) {
  TraceBuilder trace = QueueSampleTrace();
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  const Totals& totals = report.totals();
  EXPECT_EQ(totals.gpu_fault_entries(), 48u);
  EXPECT_EQ(totals.gpu_faults(), 30u);
  EXPECT_FALSE(totals.has_gpu_fault_groups());  // CUPTI did not feed
  EXPECT_FALSE(totals.has_gpu_fault_records());
  EXPECT_EQ(totals.fault_batches(), 6u);
  EXPECT_EQ(totals.fault_service_ns(), 6u * 100'000 + 2 * (10'000 + 20'000));
  EXPECT_EQ(totals.cpu_faults(), 4u);
  EXPECT_EQ(totals.host_to_device_bytes(), 12 * kMiB);
  EXPECT_EQ(totals.device_to_host_bytes(), 8 * kMiB);
  EXPECT_EQ(totals.evicted_bytes(), 8 * kMiB);
  EXPECT_EQ(totals.fatal_faults(), 1u);
  EXPECT_EQ(totals.read_duplicated_bytes(), 65536u);
  EXPECT_EQ(totals.read_duplicate_invalidated_bytes(), 4096u);
  EXPECT_EQ(totals.estimated_size(), 0);
  EXPECT_EQ(report.oversubscription().refaulted_bytes(), 6 * kMiB);
  const FaultCounts& all = report.fault_definitions().all();
  EXPECT_DOUBLE_EQ(all.duplicates_ratio(), 1 - 30.0 / 48);
  EXPECT_EQ(all.batch_entries_p50(), 8u);
  EXPECT_EQ(all.batch_entries_max(), 8u);
  EXPECT_DOUBLE_EQ(all.entries_per_batch(), 8);
  EXPECT_EQ(all.reads(), 42u);
  EXPECT_EQ(all.writes(), 6u);
  EXPECT_EQ(all.service_max_ns(), 120'000u);
  EXPECT_EQ(all.replays(), 6u);
  EXPECT_EQ(all.batches_without_replay(), 0u);
  ASSERT_EQ(all.batch_entries_size(), 4);
  EXPECT_EQ(all.batch_entries(3).up_to(), 8u);
  EXPECT_EQ(all.batch_entries(3).count(), 6u);
  ASSERT_EQ(report.fault_definitions().devices_size(), 1);
  EXPECT_EQ(report.fault_definitions().devices(0).coalesced_faults(), 30u);
  ASSERT_EQ(report.devices_size(), 1);
  EXPECT_EQ(report.devices(0).exact_host_to_device_bytes(), 12 * kMiB);
  EXPECT_EQ(report.devices(0).exact_gpu_faults(), 30u);
}

// Traces of PyTorch had none: its first address space knew no GPU, and replays were asked for there.
TEST(QueueReportTest, WithoutReplaysTheWaitIsUnknownAndNotZero) {
  TraceBuilder trace = QueueSampleTrace(false);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.totals().gpu_fault_entries(), 48u);
  EXPECT_FALSE(report.totals().has_fault_service_ns());
  EXPECT_FALSE(report.fault_definitions().all().has_service_ns());
  for (const auto& row : report.sites()) EXPECT_FALSE(row.has_gpu_waited_ns());
  for (const auto& row : report.kernels()) EXPECT_FALSE(row.has_gpu_waited_ns());
  EXPECT_EQ(report.DebugString().find("none of it for this program"), std::string::npos);
}

TEST(QueueReportTest, AccountsSayWhatWasCapturedAndWhereTotalsComeFrom) {
  TraceBuilder trace = QueueSampleTrace();
  const Report report = ReportOf(trace);
  const AccountRow* bytes = Account(report, "host_to_device_bytes");
  ASSERT_NE(bytes, nullptr);
  EXPECT_EQ(bytes->source(), "driver_queue");
  EXPECT_EQ(bytes->captured(), 12 * kMiB);
  EXPECT_EQ(bytes->exact(), 12 * kMiB);
  EXPECT_DOUBLE_EQ(bytes->share(), 1);
  EXPECT_EQ(bytes->total_from(), "driver_queue");
  const AccountRow* entries = Account(report, "gpu_fault_entries");
  ASSERT_NE(entries, nullptr);
  EXPECT_EQ(entries->captured(), 48u);
  EXPECT_EQ(entries->exact(), 50u);  // two were counted as lost
  const AccountRow* faults = Account(report, "gpu_faults");
  ASSERT_NE(faults, nullptr);
  EXPECT_FALSE(faults->has_captured());
  EXPECT_EQ(faults->total_from(), "exact_counters");
  EXPECT_EQ(Account(report, "gpu_fault_groups"), nullptr);
  EXPECT_EQ(Account(report, "cpu_faults")->exact(), 4u);
  EXPECT_DOUBLE_EQ(report.capture().delivered_share(), 1);
  const std::string text = analyzer::RenderText(report, {});
  EXPECT_NE(text.find("the driver's event queue delivered 100.00 % of 12.0 MiB to the GPU"), std::string::npos) << text;
  EXPECT_NE(text.find("96.00 % of 50 fault-buffer entries"), std::string::npos) << text;
}

TEST(QueueReportTest, EveryMissingByteOfTheQueueIsALoss) {
  TraceBuilder trace = QueueSampleTrace();
  trace.CounterSample(kEnd - 1, 12 * kMiB + 4096, 8 * kMiB, 4, 30);
  const Report report = ReportOf(trace);
  const auto& lost = report.capture().lost();
  ASSERT_EQ(lost.size(), 2);
  EXPECT_EQ(lost[1].source(), "driver_queue");
  EXPECT_EQ(lost[1].reason().rfind("bytes that moved", 0), 0u);
  EXPECT_EQ(lost[1].count(), 4096u);
}

TEST(QueueReportTest, PartsOfTheBottomHalfAddUpToOne) {
  TraceBuilder trace = QueueSampleTrace();
  const std::string bytes = trace.Finish(kEnd);
  const Report report = ReportOf({bytes});
  double share = 0;
  uint64_t cpu_ns = 0;
  std::map<std::string, uint64_t> samples;
  for (const auto& row : report.bh_time()) {
    share += row.share();
    cpu_ns += row.cpu_ns();
    samples[row.part()] = row.samples();
  }
  EXPECT_DOUBLE_EQ(share, 1);
  EXPECT_EQ(cpu_ns, 900'000u);
  EXPECT_EQ(samples, (std::map<std::string, uint64_t>{{"copy", 5}, {"cpu_unmap", 3}, {"gpu_wait", 1}, {"unknown", 1}}));
  EXPECT_EQ(report.bh_time(report.bh_time_size() - 1).part(), "unknown");
  const std::string folded = analyzer::FoldedStacks(RunOf({bytes}));
  EXPECT_NE(folded.find("UVM GPU1 BH;kthread;a_function_of_tomorrow 1\n"), std::string::npos) << folded;
  EXPECT_NE(folded.find("block_copy_resident_pages.isra.0;uvm_tracker_wait;uvm_spin_loop 5\n"), std::string::npos);
}

TEST(QueueReportTest, TwoProcessesThatSampledOneThreadCountItOnce) {
  TraceOptions child;
  child.pid = 200;
  child.parent_pid = 100;
  TraceBuilder second(child);
  second.Source("bh_samples", STATE_ACTIVE);
  second.KernelThread(7, 55, 1234, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
  second.KernelStack(1, {"block_copy_resident_pages"});
  second.BottomHalfSample(kStart + 5000, 7, 1, 1'000'000);
  TraceBuilder first = QueueSampleTrace();
  const Report report = ReportOf({first.Finish(kEnd), second.Finish(kEnd)});
  uint64_t samples = 0;
  for (const auto& row : report.bh_time()) samples += row.samples();
  EXPECT_EQ(samples, 10u);
}

TEST(QueueReportTest, WithoutSamplesTheReasonIsSaid) {
  TraceBuilder trace = WindowSampleTrace();
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.bh_time_size(), 0);
  EXPECT_NE(ReasonOf(report, "bh_time").find("set it to 1 or run as root"), std::string::npos);
}

TEST(QueueReportTest, ToolCostAddsUp) {
  TraceBuilder trace = QueueSampleTrace();
  const Report report = ReportOf(trace);
  const ToolCost& cost = report.capture().tool_cost();
  EXPECT_EQ(cost.total_ns(), 39'000u);
  EXPECT_EQ(cost.queue_ns(), 12'000u);
  // 1 call, 48 faults, 4 CPU faults, 16 migrations, 3 region events, 2 kernels, 6 replays.
  EXPECT_EQ(cost.events(), 80u);
  EXPECT_DOUBLE_EQ(cost.ns_per_event(), 39'000.0 / 80);
  EXPECT_DOUBLE_EQ(cost.share_of_process_cpu(), 39'000.0 / 2'400'000);
}

// 1,000 copies that a bottom half waited for, and 500 that it did not: a prefetch call's, and the CPU's own.
TEST(QueueReportTest, TheTimeStampsOfRecordedMigrationsAreOurCost) {
  const auto cost_of = [](uint64_t waited_ns, bool simulated) {
    TraceOptions options;
    options.simulated = simulated;
    TraceBuilder trace(options);
    trace.Source("driver_queue", STATE_ACTIVE);
    trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, kStart);
    const auto migrate = [&trace](int count, int32_t source, int32_t destination, MigrationCause cause) {
      for (int i = 0; i < count; ++i) {
        trace.Migrate(kStart + 1000, kStart + 1005, kBase, 4096, source, destination, cause);
      }
    };
    migrate(500, -1, 0, MIGRATION_CAUSE_COHERENCE);
    migrate(400, -1, 0, MIGRATION_CAUSE_PREFETCH);
    migrate(100, 0, -1, MIGRATION_CAUSE_EVICTION);
    migrate(250, -1, 0, MIGRATION_CAUSE_USER);
    migrate(250, 0, -1, MIGRATION_CAUSE_COHERENCE);
    trace.KernelStack(1, {"uvm_spin_loop", "uvm_tracker_wait", "uvm_parent_gpu_service_replayable_faults"});
    trace.BottomHalfSample(kStart + 5000, 7, 1, waited_ns);
    trace.ToolSample(kStart + 6000, {1, 1, 1, 1, 1, 1, 1}, 100);
    return ReportOf(trace).capture().tool_cost();
  };
  EXPECT_EQ(cost_of(9'000'000, false).time_stamps(), 1000u);
  EXPECT_EQ(cost_of(9'000'000, false).time_stamps_ns(), 1'900'000u);
  EXPECT_EQ(cost_of(1'000'000, false).time_stamps_ns(), 1'000'000u) << "more than the thread was seen to wait";
  EXPECT_FALSE(cost_of(9'000'000, true).has_time_stamps_ns()) << "the simulator's copies have none";
}

TEST(QueueReportTest, CpuFaultsKnowThreadAndCode) {
  TraceBuilder trace = QueueSampleTrace();
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.cpu_fault_sites_size(), 2);
  EXPECT_EQ(report.cpu_fault_sites(0).faults(), 3u);
  EXPECT_EQ(report.cpu_fault_sites(0).site(), "program+0x2000");
  EXPECT_EQ(report.cpu_fault_sites(0).tid(), 101u);
  EXPECT_EQ(report.cpu_fault_sites(0).thread(), "worker");
}

TEST(QueueReportTest, CpuFaultSitesBeyondTheTopAreSummedUp) {
  TraceBuilder trace;
  trace.Source("driver_queue", STATE_ACTIVE);
  for (uint64_t i = 0; i < 50; ++i) trace.QueueCpuFault(kStart + i, kBase, 0x400000 + i * 16, 1);
  const Report report = ReportOf({trace.Finish(kEnd)}, 5);
  ASSERT_EQ(report.cpu_fault_sites_size(), 6);
  EXPECT_EQ(report.cpu_fault_sites(5).site(), "(other sites)");
  EXPECT_EQ(report.cpu_fault_sites(5).faults(), 45u);
}

TEST(QueueReportTest, AFatalFaultIsTheFirstThingSaid) {
  TraceBuilder trace;
  trace.Source("driver_queue", STATE_ACTIVE);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  for (uint64_t i = 0; i < 40; ++i) trace.FatalFault(kStart + 10'000 + i, kBase + 4096, 2);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.totals().fatal_faults(), 40u);
  EXPECT_EQ(report.fatal_faults_size(), 16);
  EXPECT_EQ(report.fatal_faults(0).kind(), "managed");
  EXPECT_NE(report.verdict(0).find("could not serve 40 accesses"), std::string::npos);
  EXPECT_NE(report.verdict(0).find("invalid permissions"), std::string::npos);
}

TEST(QueueReportTest, NothingHappenedIsZeroWithTheQueue) {
  TraceBuilder trace;
  trace.Source("driver_queue", STATE_ACTIVE);
  trace.Source("cupti", STATE_UNAVAILABLE, "no libcupti");
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  const Report report = ReportOf(trace);
  ASSERT_TRUE(report.totals().has_gpu_fault_entries());
  EXPECT_EQ(report.totals().gpu_fault_entries(), 0u);
  EXPECT_TRUE(report.totals().has_host_to_device_bytes());
  EXPECT_FALSE(report.totals().has_gpu_fault_groups());
  EXPECT_EQ(ReasonOf(report, "migrations"), "none happened");
}

TEST(QueueReportTest, UnavailableQueueLeavesEntriesAbsent) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Source("driver_queue", STATE_UNAVAILABLE, "/dev/nvidia-uvm-tools: permission denied");
  trace.GpuFault(kStart + 5000, kStart + 9000, kBase, 3);
  const Report report = ReportOf(trace);
  EXPECT_FALSE(report.totals().has_gpu_fault_entries());
  EXPECT_FALSE(report.totals().has_fatal_faults());
  EXPECT_EQ(report.totals().gpu_fault_groups(), 3u);
  EXPECT_NE(report.not_seen(0).find("permission denied"), std::string::npos);
}

TEST(QueueReportTest, LightHasExactTotalsAndNoCauses) {
  TraceOptions options;
  options.detail = "light";
  TraceBuilder trace(options);
  trace.Source("driver_queue", STATE_ACTIVE);
  trace.Source("exact_counters", STATE_ACTIVE);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 64 * kMiB, kStart + 5000);
  trace.QueueFault(kStart + 10'000, kBase, 1);
  trace.Replay(kStart + 20'000, 1);
  trace.CounterSample(kStart + 30'000, 64 * kMiB, 32 * kMiB, 7, 1);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.totals().host_to_device_bytes(), 64 * kMiB);
  EXPECT_EQ(report.totals().device_to_host_bytes(), 32 * kMiB);
  EXPECT_FALSE(report.totals().has_evicted_bytes());
  EXPECT_FALSE(report.totals().has_device_to_device_bytes());
  EXPECT_EQ(report.migrations_size(), 0);
  EXPECT_NE(ReasonOf(report, "migrations").find("the detail is \"light\""), std::string::npos);
  EXPECT_FALSE(report.allocations(0).has_host_to_device_bytes());
  EXPECT_FALSE(report.oversubscription().has_refaulted_bytes());
  EXPECT_EQ(report.totals().gpu_fault_entries(), 1u);
  EXPECT_EQ(report.totals().fault_service_ns(), 10'000u);
  EXPECT_EQ(Account(report, "host_to_device_bytes")->total_from(), "exact_counters");
  EXPECT_FALSE(Account(report, "host_to_device_bytes")->has_captured());
  EXPECT_FALSE(report.capture().has_delivered_share());
  EXPECT_EQ(report.capture().lost_size(), 0);
  EXPECT_NE(Verdict(report).find("64.0 MiB moved to the GPU; 32.0 MiB moved back to the host."), std::string::npos)
      << Verdict(report);
  EXPECT_NE(Verdict(report).find("which memory moved, and why, was not recorded"), std::string::npos);
  // One fault entry moves no 96 MiB.
  EXPECT_NE(report.not_seen(0).find("explain only 0.0"), std::string::npos) << report.not_seen(0);
  EXPECT_NE(report.not_seen(1).find("Migrations were not recorded"), std::string::npos);
}

// The host writes 64 KiB, and the GPU touches one page of them: the driver brings all.
TraceBuilder ExactTrace(uint64_t counted_bytes) {
  TraceOptions options;
  options.detail = "exact";
  TraceBuilder trace(options);
  trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
  trace.Source("driver_queue", STATE_ACTIVE);
  trace.Source("exact_counters", STATE_ACTIVE);
  trace.DetailChange(kStart + 1000, "exact", "");
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 4 * kMiB, kStart + 5000);
  for (uint64_t page = 0; page < 16; ++page)
    trace.QueueCpuFault(kStart + 6000 + page * 10, kBase + page * 4096, 0x400000, 1);
  trace.QueueFault(kStart + 100'000, kBase, 1);
  trace.Replay(kStart + 200'000, 1);
  // What is recorded in a window must not be added to what the faults tell.
  trace.Migrate(kStart + 120'000, kStart + 130'000, kBase, 64 * 1024, -1, 0);
  trace.Window(kStart + 90'000, kStart + 300'000);
  trace.CounterSample(kStart + 400'000, counted_bytes, 0, 16, 1);
  return trace;
}

TEST(ExactReportTest, MigrationsAreReconstructedAndThoseOfTheWindowsAreACheck) {
  TraceBuilder trace = ExactTrace(64 * 1024);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  EXPECT_EQ(report.totals().host_to_device_bytes(), 64u * 1024);
  EXPECT_EQ(report.totals().estimated_size(), 0);
  const Reconstruction& told = report.capture().reconstruction();
  EXPECT_EQ(told.explained_share(), 1);
  EXPECT_EQ(told.window_bytes(), 64u * 1024);
  EXPECT_EQ(told.window_agreed_bytes(), 64u * 1024);
  EXPECT_FALSE(told.has_window_since_ns());
  ASSERT_EQ(told.window_copies_size(), 1);
  EXPECT_EQ(told.window_copies(0).duration_ns(), 10'000u);
  EXPECT_EQ(told.window_copies(0).estimated_duration_ns(), 10'000u);
  EXPECT_EQ(Account(report, "host_to_device_bytes")->source(), "reconstructed");
  EXPECT_FALSE(report.capture().has_delivered_share());
  EXPECT_FALSE(report.migrations(0).has_busy_ns()) << "how long a copy took is not known";
}

TEST(ExactReportTest, WhatAWindowHasOtherwiseIsSaidWithItsTime) {
  TraceBuilder trace = ExactTrace(64 * 1024);
  trace.Migrate(kStart + 150'000, kStart + 152'000, kBase + kMiB, 4096, -1, 0);
  const Report report = ReportOf(trace);
  const Reconstruction& told = report.capture().reconstruction();
  EXPECT_EQ(told.explained_share(), 1) << "the amounts agree";
  EXPECT_EQ(told.window_bytes(), 68u * 1024);
  EXPECT_EQ(told.window_agreed_bytes(), 64u * 1024);
  EXPECT_EQ(told.window_since_ns(), 150'000u);
}

TEST(ExactReportTest, TotalsAreTheDriversAlsoWhereTheFaultsExplainAlmostAll) {
  TraceBuilder trace = ExactTrace(68 * 1024);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  EXPECT_NEAR(report.capture().reconstruction().explained_share(), 64.0 / 68, 1e-9);
  EXPECT_EQ(report.totals().host_to_device_bytes(), 68u * 1024);
  EXPECT_EQ(Account(report, "host_to_device_bytes")->total_from(), "exact_counters");
  ASSERT_EQ(report.allocations_size(), 2);
  EXPECT_EQ(report.allocations(0).host_to_device_bytes(), 64u * 1024);
  EXPECT_EQ(report.allocations(1).host_to_device_bytes(), 4096u) << "not known whose";
}

TEST(ExactReportTest, WhatTheFaultsDoNotExplainIsEstimatedFromTheWindowsAndSaid) {
  TraceBuilder trace = ExactTrace(64 * kMiB);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  EXPECT_FALSE(report.capture().has_reconstruction());
  EXPECT_EQ(report.totals().host_to_device_bytes(), 64 * kMiB);
  EXPECT_TRUE(report.migrations(0).estimated());
  bool said = false;
  for (const std::string& line : report.not_seen()) said |= line.find("explain only 0.10 % of 64.0 MiB") != line.npos;
  EXPECT_TRUE(said);
}

TEST(SampledReportTest, TotalsAreExactAndCausesAreEstimatedWithAnInterval) {
  TraceBuilder trace = WindowSampleTrace(20);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  EXPECT_EQ(report.totals().host_to_device_bytes(), 1088 * kMiB);
  ASSERT_EQ(report.migrations_size(), 2);
  const MigrationRow& faulted = report.migrations(0);
  EXPECT_EQ(faulted.cause(), "coherence");
  EXPECT_TRUE(faulted.estimated());
  // 64 MiB before sampling began, and a quarter of 1 GiB.
  EXPECT_EQ(faulted.bytes(), (64 + 256) * kMiB);
  EXPECT_LT(faulted.low_bytes(), faulted.bytes());
  EXPECT_GT(faulted.high_bytes(), faulted.bytes());
  EXPECT_GT(faulted.low_bytes(), (64 + 200) * kMiB);
  EXPECT_LT(faulted.high_bytes(), (64 + 312) * kMiB);
  EXPECT_EQ(faulted.count(), 32u + 20 * 1024 / 20);
  EXPECT_EQ(report.totals().prefetched_ahead_bytes(), 768 * kMiB);
  EXPECT_FALSE(report.oversubscription().has_refaulted_bytes());
  EXPECT_FALSE(report.capture().has_delivered_share());
  EXPECT_EQ(report.capture().lost_size(), 0);
  EXPECT_EQ(report.capture().migration_windows(), 20u);
  ASSERT_EQ(report.capture().detail_changes_size(), 1);
  EXPECT_EQ(report.capture().detail_changes(0).time_ns(), 2'000'000u);
  EXPECT_TRUE(report.allocations(0).estimated());
  EXPECT_FALSE(report.allocations(1).estimated());
  EXPECT_EQ(report.allocations(0).host_to_device_bytes(), 1024 * kMiB);
  EXPECT_EQ(report.allocations(1).host_to_device_bytes(), 64 * kMiB);  // all of it was recorded
  EXPECT_NE(Verdict(report).find("are estimated from the 7.7 % of them that were recorded"), std::string::npos)
      << Verdict(report);
}

TEST(SampledReportTest, OneWindowGivesNoIntervalButBounds) {
  TraceBuilder trace = WindowSampleTrace(1);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  // What was seen, and all that was not seen to be something else.
  EXPECT_EQ(report.migrations(0).low_bytes(), 64 * kMiB + 200 * 1024);
  EXPECT_EQ(report.migrations(0).high_bytes(), (64 + 1024) * kMiB - 824 * 1024);
}

TEST(SampledReportTest, WindowsThatCaughtNothingLeaveTheCauseUnknown) {
  TraceBuilder trace = WindowSampleTrace(0);
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  EXPECT_EQ(report.totals().host_to_device_bytes(), 1088 * kMiB);
  ASSERT_EQ(report.migrations_size(), 2);
  EXPECT_EQ(report.migrations(0).cause(), "unknown");
  EXPECT_EQ(report.migrations(0).bytes(), 1024 * kMiB);
  EXPECT_FALSE(report.migrations(0).has_count());
  EXPECT_NE(Verdict(report).find("94 % in no window"), std::string::npos) << Verdict(report);
  EXPECT_NE(Verdict(report).find("Why 1.00 GiB moved is not known"), std::string::npos) << Verdict(report);
  EXPECT_NE(Verdict(report).find("none fell into this run of 6.00 s"), std::string::npos) << Verdict(report);
  EXPECT_NE(Verdict(report).find("UVMTRACE_DETAIL=full"), std::string::npos);
  EXPECT_EQ(Verdict(report).find("no recorded cause"), std::string::npos) << Verdict(report);
}

TEST(SampledReportTest, ASampleDoesNotTellThatNothingCameBack) {
  TraceOptions options;
  options.detail = "sampled";
  TraceBuilder trace(options);
  trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
  trace.Source("driver_queue", STATE_ACTIVE);
  trace.Source("exact_counters", STATE_ACTIVE);
  trace.Device(0, 4 * kMiB);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 6 * kMiB, kStart + 5000);
  trace.Migrate(kStart + 10'000, kStart + 20'000, kBase, kMiB, 0, -1, MIGRATION_CAUSE_EVICTION);
  trace.Window(kStart + 9000, kStart + 30'000);
  trace.CounterSample(kStart + 40'000, 0, 10 * kMiB, 0, 0);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.totals().evicted_bytes(), 10 * kMiB);
  EXPECT_NE(Verdict(report).find("about 10.0 MiB were evicted to make room"), std::string::npos) << Verdict(report);
  EXPECT_EQ(Verdict(report).find("came back"), std::string::npos);
}

TEST(SampledReportTest, AskedForButNotGivenIsNotEstimated) {
  TraceOptions options;
  options.detail = "sampled";
  TraceBuilder trace(options);
  trace.CuptiActive();
  trace.Source("driver_queue", STATE_UNAVAILABLE, "no device");
  trace.DetailChange(kStart + 1000, "full", "sampled needs the driver's queue");
  trace.Migrate(kStart + 10'000, kStart + 20'000, kBase, kMiB, -1, 0);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.totals().estimated_size(), 0);
  EXPECT_FALSE(report.migrations(0).has_estimated());
  ASSERT_EQ(report.capture().detail_changes_size(), 1);
}

TEST(SampledReportTest, WhatItStartsWithIsNoChange) {
  TraceOptions options;
  options.detail = "auto";
  TraceBuilder trace(options);
  trace.Source("driver_queue", STATE_ACTIVE);
  trace.DetailChange(kStart + 1000, "full", "");
  trace.DetailChange(kStart + 9000, "sampled", "too many events");
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.capture().detail_changes_size(), 1);
  EXPECT_EQ(report.capture().detail_changes(0).detail(), "sampled");
}

TEST(SampledReportTest, LightThatBecameCallsSaysWhy) {
  TraceOptions options;
  options.detail = "light";
  TraceBuilder trace(options);
  trace.DetailChange(kStart + 1000, "calls", "light needs the driver's queue");
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  const Report report = ReportOf(trace);
  EXPECT_NE(ReasonOf(report, "migrations").find("light needs the driver's queue"), std::string::npos);
  EXPECT_FALSE(report.totals().has_gpu_fault_entries());
}

}  // namespace
}  // namespace uvmtrace::testing
