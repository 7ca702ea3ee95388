// Sentences that ordinary programs made false. Each test is named after what would be false.
#include "tests/unit/analyzer_report_rows.h"

namespace uvmtrace::testing {
namespace {

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// "explained by this program's faults": of a thread whose time other programs took.
TEST(Truth, ABusyThreadIsNotExplainedByFaultsThatTookATenthOfItsTime) {
  ReportRows rows;
  rows.Faulted(rows.Site("field", "managed", 64 * kMiB), 64 * kMiB, 74 * kMs);
  rows.Thread(900 * kMs);
  EXPECT_FALSE(Has(rows.Verdict(), "Explained by")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "not explained by this program's faults, whose batches took 74.0 ms"))
      << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "other processes on its GPU, access counters")) << rows.Verdict();
}

TEST(Truth, AThreadWhoseFaultsTookMostOfItsTimeIsExplained) {
  ReportRows rows;
  rows.Faulted(rows.Site("field", "managed", 64 * kMiB), 64 * kMiB, 74 * kMs);
  rows.Thread(80 * kMs);
  EXPECT_TRUE(Has(rows.Verdict(), "Explained by 1,000 fault entries")) << rows.Verdict();
}

TEST(Truth, AThreadIsNotExplainedByTheFaultsOfAnotherGpu) {
  ReportRows rows;
  rows.Faulted(rows.Site("field", "managed", 64 * kMiB), 64 * kMiB, 74 * kMs);
  rows.Thread(80 * kMs)->set_device_uuid("GPU-1");
  rows.Thread(2 * kMs)->set_device_uuid("GPU-0");
  FaultCounts* counts = rows.report.mutable_fault_definitions()->add_devices();
  counts->set_device("GPU-0");
  counts->set_service_ns(74 * kMs);
  EXPECT_FALSE(Has(rows.Verdict(), "Explained by")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "none of it for this program")) << rows.Verdict();
}

// "46 % of a core over 175 ms"
TEST(Truth, AFullCoreWhilePagesFaultIsNotPrintedAsHalfACore) {
  ReportRows rows;
  rows.Faulted(rows.Site("field", "managed", 64 * kMiB), 64 * kMiB, 74 * kMs);
  rows.Thread(80 * kMs)->set_span_ns(175 * kMs);
  EXPECT_TRUE(Has(rows.Verdict(), "one core, fully, for the 74.0 ms")) << rows.Verdict();
  EXPECT_FALSE(Has(rows.Verdict(), "46 % of a core")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Text(), "one core, fully, for 74.0 ms while pages faulted")) << rows.Text();
}

TEST(Truth, TheCostOfRecordingIsNotTheThreadsOwn) {
  ReportRows rows;
  rows.Faulted(rows.Site("field", "managed", 64 * kMiB), 64 * kMiB, 74 * kMs);
  rows.Thread(80 * kMs);
  rows.report.mutable_capture()->mutable_tool_cost()->set_time_stamps_ns(30 * kMs);
  EXPECT_TRUE(Has(rows.Verdict(), "used 50.0 ms of CPU of its own, and some 30.0 ms more for recording"))
      << rows.Verdict();
}

TEST(Truth, AThreadThatCannotBeSeenHasAnEstimateAndNotNothing) {
  ReportRows rows;
  rows.Faulted(rows.Site("field", "managed", 64 * kMiB), 64 * kMiB, 100 * kMs);
  BottomHalfRow* thread = rows.report.add_bh_threads();
  thread->set_name("UVM GPU1 BH");
  thread->set_visible(false);
  EXPECT_TRUE(Has(rows.Verdict(), "Estimated: it used 105 ms to 110 ms of CPU")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "docker run --pid=host")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Text(), "not visible here; about 108 ms of CPU, estimated")) << rows.Text();
}

// CUPTI gave 72 groups where the driver counted 26,104 faults, and nothing said so.
TEST(Truth, FaultsThatCuptiLostAreNotSilentlyMissing) {
  ReportRows rows;
  Totals* totals = rows.report.mutable_totals();
  totals->clear_gpu_fault_entries();
  totals->set_gpu_fault_groups(72);
  totals->set_gpu_fault_records(72);
  totals->set_gpu_faults(26'104);
  totals->set_fault_service_ns(5 * kMs);
  rows.Thread(68 * kMs);
  EXPECT_TRUE(Has(rows.Verdict(), "CUPTI told of 72 fault groups, and the driver counted 26,104 faults"))
      << rows.Verdict();
  EXPECT_TRUE(Has(rows.Text(), "most faults are missing")) << rows.Text();
  EXPECT_TRUE(Has(rows.Explained().headline(), "at least 5.00 ms")) << rows.Explained().headline();
  EXPECT_FALSE(Has(rows.Verdict(), "not explained by")) << rows.Verdict();
  EXPECT_FALSE(Has(rows.Text(), "everything recorded")) << rows.Text();
}

TEST(Truth, GroupsThatAreFewerThanFaultsBecauseCuptiMergesAreNoLoss) {
  ReportRows rows;
  Totals* totals = rows.report.mutable_totals();
  totals->clear_gpu_fault_entries();
  totals->set_gpu_fault_groups(627);
  totals->set_gpu_fault_records(627);
  totals->set_gpu_faults(29'461);
  EXPECT_FALSE(Has(rows.Verdict(), "Most GPU faults are missing")) << rows.Verdict();
}

// "1214 % of fault time": the thread's time over the little that was recorded of its faults.
TEST(Truth, AShareOfFaultTimeIsNotPrintedWhereMostFaultsAreNotInTheTrace) {
  ReportRows rows;
  BottomHalfRow* thread = rows.Thread(60 * kMs);
  thread->set_utilization_in_faults(12.14);
  rows.report.mutable_totals()->set_fault_service_ns(5 * kMs);
  EXPECT_FALSE(Has(rows.Text(), "1214 %")) << rows.Text();
  ReportRows all;
  thread = all.Thread(60 * kMs);
  thread->set_utilization_in_faults(1.08);
  all.report.mutable_totals()->set_fault_service_ns(55 * kMs);
  EXPECT_TRUE(Has(all.Text(), "108 %")) << all.Text();
}

// "At its peak the program held 256 MiB of managed, 256 MiB of device and 128 MiB of pinned memory"
TEST(Truth, PeaksOfDifferentTimesAreNotHeldTogether) {
  ReportRows rows;
  rows.Site("staged", "managed", 256 * kMiB);
  rows.Site("work", "device", 256 * kMiB);
  rows.Site("host", "pinned", 128 * kMiB);
  EXPECT_FALSE(Has(rows.Verdict(), "At its peak the program held")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "Peaks, each at its own time: 256 MiB of managed memory")) << rows.Verdict();
}

TEST(Truth, CapacityLeavesOutWhatOtherMemoryAndProcessesHold) {
  ReportRows rows;
  rows.Site("field", "managed", 30 * kGiB);
  rows.report.mutable_oversubscription()->set_managed_live_peak_bytes(30 * kGiB);
  rows.report.mutable_oversubscription()->set_device_capacity_bytes(80 * kGiB);
  rows.report.mutable_oversubscription()->set_peak_ratio(0.375);
  CapacityRow* capacity = rows.report.add_capacity();
  capacity->set_device("GPU-0");
  capacity->set_total_bytes(80 * kGiB);
  capacity->set_managed_peak_bytes(30 * kGiB);
  capacity->set_plain_bytes(50 * kGiB);
  capacity->set_others_bytes(10 * kGiB);
  capacity->set_ratio(1.5);
  EXPECT_FALSE(Has(rows.Verdict(), "not oversubscribed")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Text(), "30.0 GiB managed of 20.0 GiB free on GPU 0: oversubscribed 1.50 times")) << rows.Text();
}

TEST(Truth, OneEvictionOfAPageIsNotAWorkingSetThatDoesNotFit) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("field", "managed", kGiB), kGiB, 40 * kMs);
  site->set_refaulted_bytes(4 * kKiB);
  site->set_refaulted_after_eviction_bytes(4 * kKiB);
  auto* fit = rows.report.mutable_oversubscription();
  fit->set_managed_live_peak_bytes(kGiB);
  fit->set_evicted_bytes(4 * kKiB);
  fit->set_refaulted_bytes(4 * kKiB);
  EXPECT_FALSE(Has(rows.Verdict(), "does not fit")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "4.00 KiB were evicted")) << rows.Verdict();
}

TEST(Truth, WhatCameBackAfterTheProgramsOwnPrefetchIsNotPingPong) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("chunk", "managed", 128 * kMiB), 256 * kMiB, 40 * kMs);
  site->set_refaulted_bytes(128 * kMiB);
  site->set_refaulted_after_call_bytes(128 * kMiB);
  auto* fit = rows.report.mutable_oversubscription();
  fit->set_managed_live_peak_bytes(128 * kMiB);
  fit->set_refaulted_bytes(128 * kMiB);
  fit->set_evicted_bytes(0);
  EXPECT_FALSE(Has(rows.Verdict(), "ping-pong")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "after the program's own prefetch calls had moved it to the host")) << rows.Verdict();
}

// "1.2 % because the CPU touched them and 99 % by the driver's prefetcher"
TEST(Truth, ThePrefetcherIsNotACauseOfItsOwn) {
  ReportRows rows;
  rows.Site("field", "managed", 256 * kMiB);
  rows.report.mutable_totals()->set_device_to_host_bytes(256 * kMiB);
  rows.Migration("device_to_host", "coherence", 3 * kMiB, kMs);
  rows.Migration("device_to_host", "prefetch", 253 * kMiB, kMs);
  EXPECT_TRUE(Has(rows.Verdict(),
                  "256 MiB moved back to the host, all because the CPU touched it (3.00 MiB faulted, 253 MiB "
                  "brought along by the driver's prefetcher)"))
      << rows.Verdict();
  EXPECT_FALSE(Has(rows.Verdict(), "% by the driver's prefetcher")) << rows.Verdict();
}

// "none of it is managed"
TEST(Truth, APoolThatMigratesIsNotCalledUnmanaged) {
  ReportRows rows;
  rows.Site("pool", "pool", kGiB);
  EXPECT_FALSE(Has(rows.Verdict(), "none of it is managed")) << rows.Verdict();
}

TEST(Truth, MemoryThatFaultsIsNotCalledUnmanaged) {
  for (const char* what : {"gpu", "cpu", "bytes"}) {
    ReportRows rows;
    rows.Site("buffer", "device", kGiB);
    Totals* totals = rows.report.mutable_totals();
    if (what[0] == 'g') totals->set_gpu_fault_entries(5);
    if (what[0] == 'c') totals->set_cpu_faults(5);
    if (what[0] == 'b') totals->set_host_to_device_bytes(5 * kMiB);
    EXPECT_FALSE(Has(rows.Verdict(), "none of it is managed")) << what << rows.Verdict();
  }
}

TEST(Truth, NothingIsCalledUnmanagedWhereFaultsWereNotRecorded) {
  ReportRows rows;
  rows.Site("buffer", "device", kGiB);
  rows.report.mutable_totals()->clear_cpu_faults();
  EXPECT_FALSE(Has(rows.Verdict(), "none of it is managed")) << rows.Verdict();
  ReportRows known;
  known.Site("buffer", "device", kGiB);
  EXPECT_TRUE(Has(known.Verdict(), "none of it is managed")) << known.Verdict();
}

// "no copy record is expected"
TEST(Truth, NoCopyIsExpectedIsNotSaidOfMemoryThatIsCopied) {
  ReportRows rows;
  rows.Call("load", "copy", rows.Site("staging", "pinned", kGiB), 4, kGiB, 20 * kMs);
  EXPECT_FALSE(Has(rows.Verdict(), "no copy used")) << rows.Verdict();
  EXPECT_FALSE(Has(rows.Verdict(), "no copy is in this trace")) << rows.Verdict();
}

TEST(Truth, OneManagedPageDoesNotHideWhatCanBeReadInPlace) {
  ReportRows rows;
  rows.Site("weights", "registered", 256 * kMiB);
  rows.Faulted(rows.Site("flag", "managed", 4), 4 * kKiB, 20'000, 1);
  EXPECT_TRUE(Has(rows.Verdict(), "in place")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "no copy used 256 MiB of it")) << rows.Verdict();
}

TEST(Truth, WhatTheLinksCountersMeasuredIsSaidInBytesOnce) {
  ReportRows rows;
  rows.Site("weights", "registered", 256 * kMiB);
  TrafficRow* traffic = rows.report.add_traffic();
  traffic->set_way("in_place");
  traffic->set_direction("host_to_device");
  traffic->set_bytes(kGiB);
  traffic->set_busy_ns(20 * kMs);
  rows.Thread(kMs)->set_span_ns(1000 * kMs);
  EXPECT_TRUE(Has(rows.Explained().headline(), "1.00 GiB were read in place from pinned host memory of weights.cc:12"))
      << rows.Explained().headline();
  EXPECT_TRUE(Has(rows.Explained().headline(), "UVM GPU1 BH: 0.1 % of a core, none of it for this program."))
      << rows.Explained().headline();
  EXPECT_TRUE(Has(rows.Text(), "1.00 GiB were read in place: no fault, no migration and no copy shows it"))
      << rows.Text();
}

// A hazard that is an error stood in its section alone.
TEST(Truth, ADataRaceIsNotLeftToASectionBelow) {
  ReportRows rows;
  HazardRow* hazard = rows.report.mutable_hazards()->add_rows();
  hazard->set_hazard("touch_under_kernel");
  hazard->set_severity("error");
  hazard->set_count(9);
  hazard->set_site("main (pathfinder.cu:210)");
  hazard->set_what("the CPU touched 4.00 MiB of managed memory that a running kernel uses");
  hazard->set_advice("Call cudaDeviceSynchronize before it.");
  EXPECT_TRUE(Has(rows.Verdict(), "data race")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Explained().headline(), "pathfinder.cu:210")) << rows.Explained().headline();
}

// "(no kernel) 512 MiB", "0 B evicted"
TEST(Truth, BytesOfNoRecordedKernelAreNotSaidToBelongToNone) {
  ReportRows rows;
  KernelRow* kernel = rows.report.add_kernels();
  kernel->set_name("(no kernel)");
  kernel->set_host_to_device_bytes(512 * kMiB);
  EXPECT_FALSE(Has(rows.Text(), "(no kernel)")) << rows.Text();
  EXPECT_TRUE(Has(rows.Text(), "512 MiB (while no recorded kernel ran)")) << rows.Text();
}

TEST(Truth, AWindowThatCaughtNothingDoesNotSayThatNothingWasEvicted) {
  ReportRows rows;
  rows.Site("field", "managed", kGiB);
  auto* fit = rows.report.mutable_oversubscription();
  fit->set_managed_live_peak_bytes(kGiB);
  fit->set_evicted_bytes(0);
  fit->set_estimated(true);
  EXPECT_FALSE(Has(rows.Text(), "0 B evicted")) << rows.Text();
}

TEST(Truth, ACutCopyIsNotAKilledProgram) {
  ReportRows rows;
  rows.report.mutable_capture()->set_clean_end(false);
  EXPECT_TRUE(Has(rows.Verdict(), "or the file is a cut copy")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "of a cut copy everything behind the cut")) << rows.Verdict();
}

TEST(Truth, ALostTailIsNotAQueueThatRanOver) {
  ReportRows rows;
  Capture* capture = rows.report.mutable_capture();
  capture->set_clean_end(false);
  capture->set_exact_host_to_device_bytes(200 * kMiB);
  LostRow* lost = capture->add_lost();
  lost->set_source("driver_queue");
  lost->set_reason("bytes that moved and that no record in the trace tells");
  lost->set_count(100 * kMiB);
  EXPECT_FALSE(Has(rows.Verdict(), "ran over")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Verdict(), "its last part is missing")) << rows.Verdict();
  LostRow* dropped = capture->add_lost();
  dropped->set_source("driver_queue");
  dropped->set_reason("its ring was full");
  dropped->set_count(7);
  ReportRows full;
  full.report = rows.report;
  full.report.clear_verdict();
  full.report.clear_findings();
  EXPECT_TRUE(Has(full.Verdict(), "ran over")) << full.Verdict();
}

// Three definitions of a fault on one page.
TEST(Truth, APageDoesNotNeedThreeDefinitionsOfAFault) {
  ReportRows rows;
  Totals* totals = rows.report.mutable_totals();
  totals->set_gpu_fault_entries(45'605);
  totals->set_gpu_faults(29'461);
  totals->set_gpu_fault_groups(627);
  totals->set_gpu_fault_records(627);
  const std::string text = rows.Text();
  EXPECT_TRUE(Has(text, "45,605 entries of the GPU's fault buffer")) << text;
  EXPECT_TRUE(Has(text, "29,461 GPU faults, as the driver counts them")) << text;
  EXPECT_FALSE(Has(text, "627 GPU fault groups")) << text;
}

TEST(Truth, TheFirstScreenEndsWithinTwoDozenLinesAndProvenanceIsLast) {
  ReportRows rows;
  for (int i = 0; i < 12; ++i) {
    SiteRow* site = rows.Site("line" + std::to_string(i), "managed", 64 * kMiB, 2);
    rows.Faulted(site, 128 * kMiB, static_cast<uint64_t>(i + 1) * kMs);
  }
  rows.Migration("device_to_host", "user", 192 * kMiB, 4 * kMs);
  rows.Thread(80 * kMs);
  rows.Explained();
  analyzer::TextOptions options;
  options.sections = {"summary"};
  const std::string first = analyzer::RenderText(rows.report, options);
  EXPECT_LE(std::count(first.begin(), first.end(), '\n'), 24) << first;
  EXPECT_TRUE(Has(first, "WHAT TO CHANGE") && Has(first, "WHERE") && Has(first, "TRACING")) << first;
  const std::string text = analyzer::RenderText(rows.report, {});
  EXPECT_EQ(text.rfind(first, 0), 0u);
  EXPECT_GT(text.find("\nCAPTURE\n"), text.find("\nNOT SEEN\n")) << text;
  // However much there is to say.
  for (FindingRow& finding : *rows.report.mutable_findings()) {
    std::string sentence;
    for (int word = 0; word < 100; ++word) sentence += "One long sentence of many. ";
    finding.set_sentence(sentence);
  }
  const std::string wordy = analyzer::RenderText(rows.report, options);
  EXPECT_LE(std::count(wordy.begin(), wordy.end(), '\n'), 24) << wordy;
  EXPECT_TRUE(Has(wordy, "One long sentence of many.")) << wordy;
}

TEST(Truth, TheHeadlineIsACostWithASubject) {
  ReportRows rows;
  rows.Faulted(rows.Site("chunk", "managed", 128 * kMiB), 128 * kMiB, 74 * kMs);
  EXPECT_EQ(rows.Explained().headline(),
            "The GPU waited 74.0 ms (74 % of its 100 ms in kernels) for page faults, all of that for the memory of "
            "chunk.cc:12 in Make_chunk(), which Step<float>() uses.");
}

TEST(Truth, AProgramWithoutUnifiedMemoryHasAHeadlineWithANumber) {
  ReportRows rows;
  rows.Site("weights", "device", kGiB);
  EXPECT_TRUE(Has(rows.Explained().headline(), "the GPU waited 0 ns for page faults")) << rows.Explained().headline();
}

TEST(Truth, ASectionAskedForStandsAlone) {
  ReportRows rows;
  rows.Site("weights", "device", kGiB);
  analyzer::TextOptions options;
  options.sections = {"memory"};
  EXPECT_EQ(rows.Text(options).rfind("MEMORY BY KIND", 0), 0u) << rows.Text(options);
  EXPECT_FALSE(Has(rows.Text(options), "CAPTURE")) << rows.Text(options);
  PathRow* root = rows.report.add_paths();
  root->set_id(1);
  root->set_frame("main (a.cc:3)");
  root->set_bytes(kGiB);
  PathRow* child = rows.report.add_paths();
  child->set_id(2);
  child->set_parent(1);
  child->set_frame("Load(int) (a.cc:9)");
  child->set_bytes(kGiB);
  options.sections = {"tree"};
  EXPECT_TRUE(Has(rows.Text(options), "1.00 GiB main (a.cc:3) 1.00 GiB Load() (a.cc:9)")) << rows.Text(options);
}

}  // namespace
}  // namespace uvmtrace::testing
