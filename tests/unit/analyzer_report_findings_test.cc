// Each rule of the findings: rows that trigger it, and rows that just do not.
#include "tests/unit/analyzer_report_rows.h"

namespace uvmtrace::testing {
namespace {

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Findings, FaultsThatAPrefetchWouldSaveNameLineKernelCallAndGain) {
  ReportRows rows;
  rows.Faulted(rows.Site("weights", "managed", 16 * kMiB, 8), 128 * kMiB, 74 * kMs, 29'461);
  rows.Migration("device_to_host", "user", 100 * kMiB, 2 * kMs);
  const FindingRow* found = rows.Finding("prefetch_before_launch");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_EQ(found->place(), "weights.cc:12 in Make_weights(), used by Step<float>()");
  EXPECT_EQ(found->subject(), "weights");
  EXPECT_TRUE(
      Has(found->change(), "cudaMemPrefetchAsync(ptr, 16.0 MiB, the GPU, stream) before the launch of Step<float>()"))
      << found->change();
  EXPECT_TRUE(Has(found->sentence(), "128 MiB came in because of faults (29,461 fault entries)")) << found->sentence();
  EXPECT_TRUE(Has(found->sentence(), "52.4 GB/s, by the prefetch calls of this run")) << found->sentence();
  // 128 MiB at that speed take 2.56 ms: the gain is of this run's figures.
  EXPECT_NEAR(static_cast<double>(found->gain_ns()), 74e6 - 2.56e6, 1e5);
  EXPECT_EQ(found->gain_base(), "gpu_time");
  EXPECT_EQ(found->severity(), "high");
}

TEST(Findings, WithoutASpeedOfThisRunNoGainIsComputed) {
  ReportRows rows;
  rows.Faulted(rows.Site("weights", "managed", 128 * kMiB), 128 * kMiB, 74 * kMs);
  const FindingRow* found = rows.Finding("prefetch_before_launch");
  ASSERT_NE(found, nullptr);
  EXPECT_FALSE(found->has_gain_ns());
  EXPECT_EQ(found->cost_ns(), 74 * kMs);
  EXPECT_TRUE(Has(rows.Text(), "part of 74.0 ms")) << rows.Text();
}

TEST(Findings, FaultsOfAHundredthOfAPercentAreNone) {
  ReportRows rows;
  rows.Faulted(rows.Site("flag", "managed", 4 * kKiB), 4 * kKiB, 10'000, 1);
  EXPECT_EQ(rows.Finding("prefetch_before_launch"), nullptr);
}

TEST(Findings, APrefetchOfTooFewBytesIsNamedByItsCall) {
  ReportRows rows;
  SiteRow* site = rows.Site("field", "managed", 256 * kMiB);
  rows.Faulted(site, 192 * kMiB, 50 * kMs);
  site->set_prefetched_bytes(64 * kMiB);
  rows.Call("warm", "prefetch", site, 1, 64 * kMiB, kMs)->set_location(0);
  rows.report.mutable_call_sites(0)->set_moved_bytes(64 * kMiB);
  const FindingRow* found = rows.Finding("prefetch_incomplete");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "warm.cc:34")) << found->place();
  EXPECT_TRUE(Has(found->sentence(), "64.0 MiB on average; memory of field.cc:12 is 256 MiB each"))
      << found->sentence();
  EXPECT_EQ(rows.Finding("prefetch_before_launch"), nullptr) << "it is prefetched already";
  EXPECT_EQ(rows.Finding("prefetch_late"), nullptr);
}

TEST(Findings, APrefetchThatFindsTheMemoryThereBecauseItFaultedInIsLate) {
  ReportRows rows;
  SiteRow* site = rows.Site("field", "managed", 256 * kMiB);
  rows.Faulted(site, 256 * kMiB, 50 * kMs);
  CallSiteRow* call = rows.Call("late", "prefetch", site, 1, 256 * kMiB, kMs);
  call->set_location(0);
  call->set_moved_bytes(0);
  call->set_without_effect(1);
  const FindingRow* found = rows.Finding("prefetch_late");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "asked for 256 MiB in one call, and 0 B moved")) << found->sentence();
  EXPECT_EQ(rows.Finding("prefetch_incomplete"), nullptr);
  EXPECT_EQ(rows.Finding("prefetch_redundant"), nullptr) << "one call is no habit";
}

TEST(Findings, ThePrefetchesThatMovedNothingAreCounted) {
  ReportRows rows;
  SiteRow* site = rows.Site("array", "managed", 128 * kMiB);
  site->set_prefetched_bytes(128 * kMiB);
  CallSiteRow* call = rows.Call("before_launch", "prefetch", site, 400, 50 * kGiB, 40 * kMs);
  call->set_location(0);
  call->set_moved_bytes(128 * kMiB);
  call->set_without_effect(399);
  const FindingRow* found = rows.Finding("prefetch_redundant");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "399 of 400 calls")) << found->sentence();
  EXPECT_TRUE(Has(found->sentence(), "50.0 GiB were asked for, 128 MiB moved")) << found->sentence();
  EXPECT_EQ(found->gain_base(), "run");
  EXPECT_TRUE(Has(rows.Text(), "399")) << rows.Text();
}

TEST(Findings, PrefetchesThatMoveWhatTheyAskForAreNotRedundant) {
  ReportRows rows;
  SiteRow* site = rows.Site("array", "managed", 128 * kMiB);
  CallSiteRow* call = rows.Call("before_launch", "prefetch", site, 400, 50 * kGiB, 40 * kMs);
  call->set_location(0);
  call->set_moved_bytes(50 * kGiB);
  call->set_without_effect(9);
  EXPECT_EQ(rows.Finding("prefetch_redundant"), nullptr);
}

TEST(Findings, PingPongNamesTheStatementOfTheCpu) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("shared", "managed", 64 * kMiB), 192 * kMiB, 40 * kMs);
  site->set_refaulted_bytes(128 * kMiB);
  site->set_refaulted_after_cpu_bytes(128 * kMiB);
  site->set_device_to_host_bytes(192 * kMiB);
  site->set_cpu_faults(500);
  site->set_writes(10);
  CpuFaultTargetRow* touch = rows.report.add_cpu_fault_targets();
  touch->set_site("smooth_on_host (18_numpy_over_managed.py:23)");
  touch->set_target("shared");
  touch->set_faults(500);
  const FindingRow* found = rows.Finding("ping_pong");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "18_numpy_over_managed.py:23 in smooth_on_host")) << found->place();
  EXPECT_TRUE(Has(found->sentence(), "ping-pong")) << found->sentence();
  EXPECT_TRUE(Has(found->sentence(), "2 times its size")) << found->sentence();
  EXPECT_TRUE(Has(rows.Verdict(), "ping-pong"));
}

TEST(Findings, WhatBothSidesOnlyReadIsAdvisedReadMostly) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("table", "managed", 64 * kMiB), 192 * kMiB, 40 * kMs);
  site->set_refaulted_after_cpu_bytes(128 * kMiB);
  site->set_reads(1000);
  const FindingRow* found = rows.Finding("read_mostly_missing");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->change(), "cudaMemAdviseSetReadMostly")) << found->change();
  EXPECT_EQ(rows.Finding("ping_pong"), nullptr);
}

TEST(Findings, OnePageThatCameBackIsNoPingPong) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("shared", "managed", 64 * kMiB), 64 * kMiB, 40 * kMs);
  site->set_refaulted_after_cpu_bytes(4 * kKiB);
  EXPECT_EQ(rows.Finding("ping_pong"), nullptr);
  EXPECT_FALSE(Has(rows.Verdict(), "ping-pong")) << rows.Verdict();
}

TEST(Findings, WhatTheProgramSendsAwayAndNeedsAgainIsNamedByTheCallThatSendsIt) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("chunk", "managed", 16 * kMiB, 8), 256 * kMiB, 74 * kMs);
  site->set_refaulted_after_call_bytes(128 * kMiB);
  CallSiteRow* call = rows.Call("evict", "prefetch", site, 12, 192 * kMiB, 4 * kMs);
  call->set_location(-1);
  call->set_moved_bytes(192 * kMiB);
  rows.Migration("device_to_host", "user", 192 * kMiB, 4 * kMs);
  const FindingRow* found = rows.Finding("sent_back");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "evict.cc:34")) << found->place();
  EXPECT_TRUE(Has(found->sentence(), "128 MiB of the 256 MiB")) << found->sentence();
  EXPECT_LT(found->gain_ns(), 10 * kMs);
  EXPECT_NE(rows.Finding("prefetch_before_launch"), nullptr) << "a prefetch to the host is none to the GPU";
}

TEST(Findings, StreamingOverCapacitySaysByHowMuch) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("stream", "managed", 96 * kGiB), 300 * kGiB, 90 * kMs);
  site->set_refaulted_after_eviction_bytes(204 * kGiB);
  rows.report.mutable_totals()->set_evicted_bytes(220 * kGiB);
  CapacityRow* capacity = rows.report.add_capacity();
  capacity->set_device("GPU-0");
  capacity->set_total_bytes(80 * kGiB);
  capacity->set_plain_bytes(8 * kGiB);
  capacity->set_others_bytes(2 * kGiB);
  capacity->set_managed_peak_bytes(96 * kGiB);
  capacity->set_ratio(96.0 / 70);
  const FindingRow* found = rows.Finding("oversubscribed_streaming");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "which had room for 70.0 GiB: 26.0 GiB too many")) << found->sentence();
  EXPECT_TRUE(Has(rows.Text(), "oversubscribed 1.37 times")) << rows.Text();
}

TEST(Findings, OneEvictedPageIsNoStreaming) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("field", "managed", kGiB), kGiB, 40 * kMs);
  site->set_refaulted_after_eviction_bytes(4 * kKiB);
  rows.report.mutable_totals()->set_evicted_bytes(4 * kKiB);
  rows.report.mutable_oversubscription()->set_managed_live_peak_bytes(kGiB);
  rows.report.mutable_oversubscription()->set_evicted_bytes(4 * kKiB);
  rows.report.mutable_oversubscription()->set_refaulted_bytes(4 * kKiB);
  EXPECT_EQ(rows.Finding("oversubscribed_streaming"), nullptr);
  EXPECT_FALSE(Has(rows.Verdict(), "does not fit")) << rows.Verdict();
}

TEST(Findings, SparseAccessIsNotToldToPrefetchTheWhole) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("graph", "managed", kGiB), 200 * kMiB, 60 * kMs);
  site->set_pattern("sparse");
  EXPECT_NE(rows.Finding("sparse_access"), nullptr) << rows.Ids();
  EXPECT_EQ(rows.Finding("prefetch_before_launch"), nullptr);
}

TEST(Findings, ManagedMemoryThatOnlyTheGpuUsesCouldBePlain) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("scratch", "managed", kGiB), 0, 30 * kMs);
  const FindingRow* found = rows.Finding("managed_never_migrates");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->change(), "cudaMalloc(&ptr, 1.00 GiB)")) << found->change();
  ReportRows touched;
  site = touched.Faulted(touched.Site("scratch", "managed", kGiB), 0, 30 * kMs);
  site->set_cpu_faults(1);
  EXPECT_EQ(touched.Finding("managed_never_migrates"), nullptr);
}

TEST(Findings, ObjectsOnOnePageAreNamedTogether) {
  ReportRows rows;
  rows.Faulted(rows.Site("progress", "managed", 64), 300 * 4 * kKiB, 20 * kMs, 300);
  rows.Site("counter", "managed", 64);
  SharedPageRow* page = rows.report.add_shared_pages();
  page->set_address(0x7f0000000000);
  for (const char* key : {"progress", "counter"}) {
    page->add_keys(key);
    page->add_sites(std::string("Make_") + key + "(int) (src/" + key + ".cc:12)");
  }
  page->set_gpu_fault_entries(300);
  page->set_cpu_faults(300);
  page->set_bytes(600 * 4 * kKiB);
  const FindingRow* found = rows.Finding("shared_page");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "progress.cc:12") && Has(found->place(), "counter.cc:12")) << found->place();
  EXPECT_TRUE(Has(rows.Verdict(), "share a page")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Text(), "Make_progress() and counter.cc:12 in Make_counter()")) << rows.Text();
}

TEST(Findings, APageThatOnlyOneSideTouchesIsNotShared) {
  ReportRows rows;
  SharedPageRow* page = rows.report.add_shared_pages();
  page->add_keys("a");
  page->add_keys("b");
  page->set_gpu_fault_entries(300);
  page->set_cpu_faults(1);
  EXPECT_EQ(rows.Finding("shared_page"), nullptr);
}

TEST(Findings, AdviceThatKeepsOnTheCpuWhatTheGpuFetches) {
  ReportRows rows;
  SiteRow* site = rows.Faulted(rows.Site("field", "managed", 256 * kMiB), 256 * kMiB, 50 * kMs);
  CallSiteRow* call = rows.Call("advice", "advise", site, 1, 256 * kMiB, kMs);
  call->set_advice("preferred_location");
  call->set_location(-1);
  const FindingRow* found = rows.Finding("advice_fights");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "advice.cc:34")) << found->place();
  EXPECT_TRUE(Has(found->sentence(), "the CPU is the preferred location of field.cc:12")) << found->sentence();
  ReportRows fits;
  site = fits.Faulted(fits.Site("field", "managed", 256 * kMiB), 256 * kMiB, 50 * kMs);
  call = fits.Call("advice", "advise", site, 1, 256 * kMiB, kMs);
  call->set_advice("preferred_location");
  call->set_location(0);
  EXPECT_EQ(fits.Finding("advice_fights"), nullptr);
}

TEST(Findings, ReadMostlyMemoryThatIsWrittenIsNamedByItsAdvice) {
  ReportRows rows;
  SiteRow* site = rows.Site("table", "managed", 64 * kMiB);
  rows.Call("advice", "advise", site, 1, 64 * kMiB, kMs)->set_advice("read_mostly");
  rows.report.mutable_totals()->set_read_duplicated_bytes(200 * kMiB);
  rows.report.mutable_totals()->set_read_duplicate_invalidated_bytes(150 * kMiB);
  const FindingRow* found = rows.Finding("read_mostly_written");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "advice.cc:34")) << found->place();
  ReportRows few;
  few.report.mutable_totals()->set_read_duplicated_bytes(200 * kMiB);
  few.report.mutable_totals()->set_read_duplicate_invalidated_bytes(4 * kKiB);
  EXPECT_EQ(few.Finding("read_mostly_written"), nullptr);
}

// Issue #17062's program: pinned memory, read in place, and no event of unified memory at all.
ReportRows ZeroCopy(uint64_t memory, uint64_t read, uint64_t busy_ns) {
  ReportRows rows;
  rows.Site("offload", "pinned", memory);
  TrafficRow* traffic = rows.report.add_traffic();
  traffic->set_way("in_place");
  traffic->set_direction("host_to_device");
  traffic->set_device("GPU-0");
  traffic->set_bytes(read);
  traffic->set_busy_ns(busy_ns);
  traffic->set_measured_by("link_counters");
  LinkRow* link = rows.report.add_links();
  link->set_device("GPU-0");
  link->set_capacity_bytes_per_second(63e9);
  link->set_received_bytes(read);
  link->set_full_share(0.94);
  rows.Thread(kMs);
  return rows;
}

TEST(Findings, MemoryThatIsReadInPlaceAgainAndAgainIsBetterCopied) {
  ReportRows rows = ZeroCopy(2 * kGiB, 8 * kGiB, 90 * kMs);
  const FindingRow* found = rows.Finding("zero_copy_reuse");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "offload.cc:12")) << found->place();
  EXPECT_TRUE(Has(found->sentence(), "8.00 GiB were read in place over the link in 90.0 ms")) << found->sentence();
  EXPECT_TRUE(Has(found->sentence(), "each byte crossed the link 4.0 times")) << found->sentence();
  // One copy of 2 GiB at 85 % of 63 GB/s takes 40 ms.
  EXPECT_NEAR(static_cast<double>(found->gain_ns()), 90e6 - 40.1e6, 1e6);
  EXPECT_EQ(rows.Finding("zero_copy_link_bound"), nullptr) << "one of the two";
}

TEST(Findings, WhatDoesNotFitTheGpuIsNotToldToBeCopied) {
  ReportRows rows = ZeroCopy(100 * kGiB, 400 * kGiB, 900 * kMs);
  EXPECT_EQ(rows.Finding("zero_copy_reuse"), nullptr);
  const FindingRow* found = rows.Finding("zero_copy_link_bound");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "full for 94 % of the run")) << found->sentence();
}

TEST(Findings, PinnedMemoryThatNothingCopiesIsNotKnownWithoutTheLinksCounters) {
  ReportRows rows;
  rows.Site("offload", "pinned", 2 * kGiB);
  const FindingRow* found = rows.Finding("zero_copy_not_measured");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_EQ(found->severity(), "note");
  EXPECT_TRUE(Has(rows.Explained().headline(), "not known")) << rows.Explained().headline();
  ReportRows copied;
  copied.Call("load", "copy", copied.Site("offload", "pinned", 2 * kGiB), 1, 2 * kGiB, 40 * kMs);
  EXPECT_EQ(copied.Finding("zero_copy_not_measured"), nullptr);
}

TEST(Findings, CopiesOfPageableMemoryNameTheirLineAndSpeed) {
  ReportRows rows;
  rows.Call("load", "copy", rows.Site("weights", "device", kGiB), 10, kGiB, 200 * kMs)
      ->set_copy_kind("pageable_to_device");
  TrafficRow* pinned = rows.report.add_traffic();
  pinned->set_way("pinned_copy");
  pinned->set_bytes(kGiB);
  pinned->set_bytes_per_second(50e9);
  const FindingRow* found = rows.Finding("pageable_copy");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->place(), "load.cc:34")) << found->place();
  EXPECT_TRUE(Has(found->sentence(), "at 5.37 GB/s")) << found->sentence();
  EXPECT_NEAR(static_cast<double>(found->gain_ns()), 200e6 - 21.5e6, 1e6);
  EXPECT_TRUE(Has(rows.Explained().headline(), "load.cc:34")) << rows.Explained().headline();
  ReportRows other;
  other.Call("load", "copy", other.Site("weights", "device", kGiB), 10, kGiB, 200 * kMs)
      ->set_copy_kind("pinned_to_device");
  EXPECT_EQ(other.Finding("pageable_copy"), nullptr);
}

TEST(Findings, ThousandsOfSmallCopiesAreOneCopy) {
  ReportRows rows;
  rows.Call("loop", "copy", nullptr, 10'000, 10'000 * 4 * kKiB, 100 * kMs);
  EXPECT_NE(rows.Finding("small_copies"), nullptr) << rows.Ids();
  ReportRows large;
  large.Call("loop", "copy", nullptr, 10'000, 10'000 * kMiB, 100 * kMs);
  EXPECT_EQ(large.Finding("small_copies"), nullptr);
}

TEST(Findings, PinnedMemoryFarLargerThanItsCopies) {
  ReportRows rows;
  rows.Call("load", "copy", rows.Site("staging", "pinned", 8 * kGiB), 10, 64 * kMiB, 10 * kMs);
  const FindingRow* found = rows.Finding("pinned_oversized");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "copies used at most 64.0 MiB of it")) << found->sentence();
  ReportRows used;
  used.Call("load", "copy", used.Site("staging", "pinned", 8 * kGiB), 10, 8 * kGiB, 10 * kMs);
  EXPECT_EQ(used.Finding("pinned_oversized"), nullptr);
}

TEST(Findings, MemoryThatIsAllocatedAgainAndAgainAndNotFreed) {
  ReportRows rows;
  SiteRow* site = rows.Site("request", "pinned", kMiB, 500);
  site->set_frees(0);
  site->set_live_allocations(500);
  site->set_live_bytes(500 * kMiB);
  const FindingRow* found = rows.Finding("leaked_memory");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "500 of 500 allocations of this line were alive at the end: 500 MiB of pinned"))
      << found->sentence();
  ReportRows once;
  site = once.Site("weights", "device", kGiB);
  site->set_frees(0);
  site->set_live_allocations(1);
  site->set_live_bytes(kGiB);
  EXPECT_EQ(once.Finding("leaked_memory"), nullptr) << "memory that lives as long as the program is no leak";
}

TEST(Findings, AllocationsInALoopByKind) {
  for (const auto& [kind, title] : {std::pair("device", "Allocate once"), std::pair("pinned", "Pin once"),
                                    std::pair("physical", "Map once"), std::pair("registered", "Register once")}) {
    ReportRows rows;
    rows.Site("loop", kind, 4 * kMiB, 1000)->set_call_ns(300 * kMs);
    const FindingRow* found = rows.Finding("allocate_in_loop");
    ASSERT_NE(found, nullptr) << kind;
    EXPECT_EQ(found->title().rfind(title, 0), 0u) << found->title();
    EXPECT_TRUE(Has(rows.Explained().headline(), "loop.cc:12")) << rows.Explained().headline();
  }
  ReportRows few;
  few.Site("start", "device", 4 * kMiB, 8)->set_call_ns(300 * kMs);
  EXPECT_EQ(few.Finding("allocate_in_loop"), nullptr);
}

TEST(Findings, HazardErrorsComeFirst) {
  ReportRows rows;
  rows.Faulted(rows.Site("weights", "managed", 128 * kMiB), 128 * kMiB, 74 * kMs);
  HazardRow* hazard = rows.report.mutable_hazards()->add_rows();
  hazard->set_hazard("double_free");
  hazard->set_severity("error");
  hazard->set_count(3);
  hazard->set_site("Clear() (src/pool.cc:9)");
  hazard->set_what("cudaFree of 2.00 MiB of device memory that had been freed failed with error 1");
  hazard->set_advice("Free it once.");
  EXPECT_EQ(rows.Explained().findings(0).id(), "double_free") << rows.Ids();
  EXPECT_TRUE(Has(rows.Verdict(), "cudaFree of 2.00 MiB of device memory that had been freed")) << rows.Verdict();
  EXPECT_TRUE(Has(rows.Explained().headline(), "pool.cc:9")) << rows.Explained().headline();
}

TEST(Findings, AStarvedThreadIsToldApartFromABusyOne) {
  ReportRows rows;
  rows.Thread(100 * kMs, 60 * kMs);
  const FindingRow* found = rows.Finding("bh_starved");
  ASSERT_NE(found, nullptr) << rows.Ids();
  EXPECT_TRUE(Has(found->sentence(), "waited 60.0 ms for a core")) << found->sentence();
  ReportRows busy;
  busy.Thread(100 * kMs, 3 * kMs);
  EXPECT_EQ(busy.Finding("bh_starved"), nullptr);
}

TEST(Findings, AFailedAllocationOpensTheReport) {
  ReportRows rows;
  OutOfMemoryRow* failed = rows.report.add_out_of_memory();
  failed->set_function("cudaMalloc");
  failed->set_site("grow (model.py:88)");
  failed->set_asked_bytes(4 * kGiB);
  failed->set_free_bytes(kGiB);
  failed->set_total_bytes(80 * kGiB);
  HolderRow* holder = failed->add_holders();
  holder->set_kind("device");
  holder->set_site("make_cache (cache.py:7)");
  holder->set_bytes(60 * kGiB);
  holder->set_allocations(12);
  const std::string text = rows.Text();
  EXPECT_EQ(text.rfind("WHY IT DID NOT FIT ! cudaMalloc at model.py:88 in grow failed: it asked for 4.00 GiB", 0), 0u)
      << text;
  EXPECT_TRUE(Has(text, "60.0 GiB 12 device cache.py:7 in make_cache")) << text;
  EXPECT_TRUE(Has(rows.Explained().headline(), "cache.py:7")) << rows.Explained().headline();
}

TEST(Findings, LostEventsAreANote) {
  ReportRows rows;
  LostRow* lost = rows.report.mutable_capture()->add_lost();
  lost->set_source("driver_queue");
  lost->set_reason("its ring was full");
  lost->set_count(12);
  const FindingRow* found = rows.Finding("lost_events");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->severity(), "note");
}

TEST(Findings, AProgramWithoutAnyMistakeHasNone) {
  ReportRows rows;
  rows.Site("weights", "device", kGiB);
  EXPECT_EQ(rows.Ids(), "");
  EXPECT_TRUE(Has(rows.Text(), "nothing that this trace shows")) << rows.Text();
}

}  // namespace
}  // namespace uvmtrace::testing
