// The table of findings: for each rule rows that trigger it, and rows that just do not. A rule without a row fails.
#include <map>

#include "analyzer/explain/finding_rules.h"
#include "tests/unit/analyzer_report_rows.h"

namespace uvmtrace::testing {
namespace {

struct Case {
  void (*trigger)(ReportRows* rows);
  void (*near_miss)(ReportRows* rows);
};

SiteRow* Moved(ReportRows* rows, uint64_t bytes, uint64_t waited_ns = 50 * kMs) {
  return rows->Faulted(rows->Site("field", "managed", 256 * kMiB), bytes, waited_ns);
}
CallSiteRow* PrefetchToGpu(ReportRows* rows, const SiteRow* site, uint64_t count, uint64_t bytes, uint64_t moved) {
  CallSiteRow* call = rows->Call("warm", "prefetch", site, count, bytes, 20 * kMs);
  call->set_location(0);
  call->set_moved_bytes(moved);
  return call;
}
void Sparse(ReportRows* rows, const char* pattern) { Moved(rows, 32 * kMiB)->set_pattern(pattern); }
void SentBack(ReportRows* rows, uint64_t bytes) {
  SiteRow* site = Moved(rows, 256 * kMiB);
  site->set_refaulted_after_call_bytes(bytes);
  rows->Call("evict", "prefetch", site, 2, bytes, kMs)->set_location(-1);
  rows->report.mutable_call_sites(0)->set_moved_bytes(bytes);
}
void Evicted(ReportRows* rows, uint64_t came_back) {
  SiteRow* site = Moved(rows, 400 * kMiB);
  site->set_refaulted_after_eviction_bytes(came_back);
  rows->report.mutable_totals()->set_evicted_bytes(came_back);
}
void PingPong(ReportRows* rows, uint64_t bytes, bool writes) {
  SiteRow* site = Moved(rows, 256 * kMiB);
  site->set_refaulted_after_cpu_bytes(bytes);
  site->set_reads(1000);
  site->set_writes(writes ? 10 : 0);
}
void NeverMoves(ReportRows* rows, uint64_t cpu_faults) {
  SiteRow* site = Moved(rows, 0);
  site->set_cpu_faults(cpu_faults);
}
void Untouched(ReportRows* rows, uint64_t bytes) {
  SiteRow* site = rows->Site("scratch", "managed", bytes);
  site->set_host_to_device_bytes(0);
  site->set_cpu_faults(0);
}
void OnOnePage(ReportRows* rows, uint64_t cpu_faults) {
  rows->Site("a", "managed", 4 * kKiB);
  rows->Site("b", "managed", 4 * kKiB);
  SharedPageRow* page = rows->report.add_shared_pages();
  for (const char* key : {"a", "b"}) {
    page->add_keys(key);
    page->add_sites(key);
  }
  page->set_gpu_fault_entries(100);
  page->set_cpu_faults(cpu_faults);
}
void PreferredOnHost(ReportRows* rows, uint64_t faulted) {
  SiteRow* site = Moved(rows, faulted);
  CallSiteRow* call = rows->Call("advice", "advise", site, 1, 256 * kMiB, kMs);
  call->set_advice("preferred_location");
  call->set_location(-1);
}
void WrittenReadMostly(ReportRows* rows, uint64_t invalidated) {
  SiteRow* site = Moved(rows, 64 * kMiB);
  rows->Call("advice", "advise", site, 1, 64 * kMiB, kMs)->set_advice("read_mostly");
  rows->report.mutable_totals()->set_read_duplicated_bytes(64 * kMiB);
  rows->report.mutable_totals()->set_read_duplicate_invalidated_bytes(invalidated);
}
void AcrossGpus(ReportRows* rows, uint64_t bytes) { Moved(rows, 64 * kMiB)->set_device_to_device_bytes(bytes); }
void InPlace(ReportRows* rows, uint64_t memory, uint64_t read, uint64_t card = 80 * kGiB) {
  rows->report.mutable_devices(0)->set_total_memory_bytes(card);
  rows->Site("weights", "pinned", memory);
  TrafficRow* traffic = rows->report.add_traffic();
  traffic->set_way("in_place");
  traffic->set_direction("host_to_device");
  traffic->set_bytes(read);
  traffic->set_busy_ns(60 * kMs);
  traffic->set_measured_by("link_counters");
  LinkRow* link = rows->report.add_links();
  link->set_device("GPU-0");
  link->set_capacity_bytes_per_second(63e9);
  link->set_received_bytes(read);
  link->set_span_ns(1000 * kMs);
}
void PageableCopy(ReportRows* rows, uint64_t bytes) {
  rows->Call("load", "copy", nullptr, 1, bytes, 30 * kMs)->set_copy_kind("pageable_to_device");
}
void ManyCopies(ReportRows* rows, uint64_t count) {
  rows->Call("loop", "copy", nullptr, count, count * 4 * kKiB, 30 * kMs)->set_copy_kind("pinned_to_device");
}
void Leaked(ReportRows* rows, uint64_t alive) {
  SiteRow* site = rows->Site("request", "pinned", 2 * kMiB, 40);
  site->set_frees(40 - alive);
  site->set_live_allocations(alive);
  site->set_live_bytes(alive * 2 * kMiB);
}
void AllocatedAgain(ReportRows* rows, uint64_t times) {
  rows->Site("loop", "device", kMiB, times)->set_call_ns(40 * kMs);
}
void AdvisedAgain(ReportRows* rows, uint64_t times) {
  rows->Call("loop", "advise", Moved(rows, kMiB), times, times * kMiB, 40 * kMs)->set_advice("read_mostly");
}
void Starved(ReportRows* rows, uint64_t wait_ns) { rows->Thread(60 * kMs, wait_ns); }
void Lost(ReportRows* rows, uint64_t count, const char* reason) {
  LostRow* lost = rows->report.mutable_capture()->add_lost();
  lost->set_source("gpu_faults");
  lost->set_reason(reason);
  lost->set_count(count);
}
void Refused(ReportRows* rows, uint64_t count) { rows->report.mutable_totals()->set_fatal_faults(count); }
void Failed(ReportRows* rows) {
  OutOfMemoryRow* failed = rows->report.add_out_of_memory();
  failed->set_function("cudaMalloc");
  failed->set_asked_bytes(kGiB);
}
void Hazard(ReportRows* rows) {
  HazardRow* hazard = rows->report.mutable_hazards()->add_rows();
  hazard->set_hazard("double_free");
  hazard->set_severity("error");
  hazard->set_function("cudaFree");
  hazard->set_count(1);
}
void HazardChecked(ReportRows* rows) { rows->report.mutable_hazards()->add_checks()->set_hazard("double_free"); }

// By the id that a row of it has.
const std::map<std::string, Case>& Cases() {
  static const std::map<std::string, Case> kCases = {
      {"out_of_memory", {Failed, [](ReportRows* rows) { rows->Site("a", "device", kGiB); }}},
      {"fatal_fault", {[](ReportRows* rows) { Refused(rows, 1); }, [](ReportRows* rows) { Refused(rows, 0); }}},
      {"double_free", {Hazard, HazardChecked}},
      {"prefetch_before_launch",
       {[](ReportRows* rows) { Moved(rows, 128 * kMiB); }, [](ReportRows* rows) { Moved(rows, 64 * kKiB, 10'000); }}},
      {"prefetch_incomplete",
       {[](ReportRows* rows) {
          SiteRow* site = Moved(rows, 128 * kMiB);
          site->set_prefetched_bytes(128 * kMiB);
          PrefetchToGpu(rows, site, 1, 128 * kMiB, 128 * kMiB);
        },
        [](ReportRows* rows) {
          SiteRow* site = Moved(rows, 8 * kMiB);
          site->set_prefetched_bytes(248 * kMiB);
          PrefetchToGpu(rows, site, 1, 248 * kMiB, 248 * kMiB);
        }}},
      {"prefetch_late",
       {[](ReportRows* rows) { PrefetchToGpu(rows, Moved(rows, 256 * kMiB), 1, 256 * kMiB, 0)->set_without_effect(1); },
        [](ReportRows* rows) { PrefetchToGpu(rows, Moved(rows, 512 * kKiB, 10'000), 1, 256 * kMiB, 255 * kMiB); }}},
      {"prefetch_redundant",
       {[](ReportRows* rows) {
          PrefetchToGpu(rows, rows->Site("field", "managed", kMiB), 20, 20 * kMiB, kMiB)->set_without_effect(19);
        },
        [](ReportRows* rows) {
          PrefetchToGpu(rows, rows->Site("field", "managed", kMiB), 20, 20 * kMiB, 11 * kMiB)->set_without_effect(9);
        }}},
      {"ping_pong",
       {[](ReportRows* rows) { PingPong(rows, 200 * kMiB, true); },
        [](ReportRows* rows) {
          SiteRow* site = Moved(rows, 256 * kMiB, kMs / 2);
          site->set_refaulted_after_cpu_bytes(4 * kKiB);
        }}},
      {"read_mostly_missing",
       {[](ReportRows* rows) { PingPong(rows, 200 * kMiB, false); },
        [](ReportRows* rows) { PingPong(rows, 200 * kMiB, true); }}},
      {"sent_back",
       {[](ReportRows* rows) { SentBack(rows, 128 * kMiB); }, [](ReportRows* rows) { SentBack(rows, 20 * kMiB); }}},
      {"oversubscribed_streaming",
       {[](ReportRows* rows) { Evicted(rows, 200 * kMiB); }, [](ReportRows* rows) { Evicted(rows, 10 * kMiB); }}},
      {"sparse_access",
       {[](ReportRows* rows) { Sparse(rows, "sparse"); }, [](ReportRows* rows) { Sparse(rows, "whole"); }}},
      {"managed_never_migrates",
       {[](ReportRows* rows) { NeverMoves(rows, 0); }, [](ReportRows* rows) { NeverMoves(rows, 1); }}},
      {"managed_unused",
       {[](ReportRows* rows) { Untouched(rows, 64 * kMiB); }, [](ReportRows* rows) { Untouched(rows, 63 * kMiB); }}},
      {"shared_page", {[](ReportRows* rows) { OnOnePage(rows, 8); }, [](ReportRows* rows) { OnOnePage(rows, 7); }}},
      {"advice_fights",
       {[](ReportRows* rows) { PreferredOnHost(rows, 128 * kMiB); },
        [](ReportRows* rows) { PreferredOnHost(rows, 32 * kMiB); }}},
      {"read_mostly_written",
       {[](ReportRows* rows) { WrittenReadMostly(rows, 32 * kMiB); },
        [](ReportRows* rows) { WrittenReadMostly(rows, 8 * kMiB); }}},
      {"between_gpus",
       {[](ReportRows* rows) { AcrossGpus(rows, 600 * kMiB); },
        [](ReportRows* rows) { AcrossGpus(rows, 300 * kMiB); }}},
      {"zero_copy_reuse",
       {[](ReportRows* rows) { InPlace(rows, kGiB, 3 * kGiB); }, [](ReportRows* rows) { InPlace(rows, kGiB, kGiB); }}},
      {"zero_copy_link_bound",
       {[](ReportRows* rows) { InPlace(rows, kGiB, kGiB); }, [](ReportRows* rows) { InPlace(rows, kGiB, 3 * kGiB); }}},
      {"zero_copy_not_measured",
       {[](ReportRows* rows) { rows->Site("weights", "pinned", kGiB); },
        [](ReportRows* rows) { rows->Site("weights", "pinned", 32 * kMiB); }}},
      {"pageable_copy",
       {[](ReportRows* rows) { PageableCopy(rows, 64 * kMiB); },
        [](ReportRows* rows) { PageableCopy(rows, 15 * kMiB); }}},
      {"small_copies",
       {[](ReportRows* rows) { ManyCopies(rows, 500); }, [](ReportRows* rows) { ManyCopies(rows, 499); }}},
      {"pinned_oversized",
       {[](ReportRows* rows) {
          rows->Call("load", "copy", rows->Site("stage", "pinned", kGiB), 4, 16 * kMiB, kMs)
              ->set_copy_kind("pinned_to_device");
        },
        [](ReportRows* rows) {
          rows->Call("load", "copy", rows->Site("stage", "pinned", kGiB), 4, kGiB, kMs)
              ->set_copy_kind("pinned_to_device");
        }}},
      {"leaked_memory", {[](ReportRows* rows) { Leaked(rows, 30); }, [](ReportRows* rows) { Leaked(rows, 15); }}},
      {"allocate_in_loop",
       {[](ReportRows* rows) { AllocatedAgain(rows, 50); }, [](ReportRows* rows) { AllocatedAgain(rows, 49); }}},
      {"advise_in_loop",
       {[](ReportRows* rows) { AdvisedAgain(rows, 50); }, [](ReportRows* rows) { AdvisedAgain(rows, 49); }}},
      {"bh_starved",
       {[](ReportRows* rows) { Starved(rows, 20 * kMs); }, [](ReportRows* rows) { Starved(rows, 4 * kMs); }}},
      {"lost_events",
       {[](ReportRows* rows) { Lost(rows, 5, "the ring was full"); },
        [](ReportRows* rows) { Lost(rows, 5, "bytes that were not seen"); }}},
  };
  return kCases;
}

TEST(FindingsTable, EachIsTriggeredAndItsNearMissIsNot) {
  for (const auto& [id, one] : Cases()) {
    ReportRows triggered;
    one.trigger(&triggered);
    const FindingRow* found = triggered.Finding(id);
    ASSERT_NE(found, nullptr) << id << " is not triggered: " << triggered.Ids();
    EXPECT_FALSE(found->sentence().empty()) << id;
    EXPECT_FALSE(found->severity().empty()) << id;
    ReportRows missed;
    one.near_miss(&missed);
    EXPECT_EQ(missed.Finding(id), nullptr) << id << " is found in its near miss";
  }
}

TEST(FindingsTable, CallsThatUvmtraceMadeAreNoFindings) {
  for (const char* function : {"cudaMemPrefetchAsync", "uvmtrace: cuMemPrefetchAsync"}) {
    ReportRows rows;
    CallSiteRow* call = PrefetchToGpu(&rows, rows.Site("field", "managed", kMiB), 20, 20 * kMiB, kMiB);
    call->set_without_effect(19);
    call->set_function(function);
    EXPECT_EQ(rows.Finding("prefetch_redundant") == nullptr, std::string(function).find("uvmtrace") == 0) << function;
  }
}

TEST(FindingsTable, HasARowForEachRule) {
  for (const analyzer::FindingRule& rule : analyzer::FindingRules()) {
    const std::string id = rule.id;
    if (id == "hazard") continue;  // each row has the hazard's own name: double_free stands for them
    EXPECT_EQ(Cases().count(id), 1u) << id << " has no row in this table";
  }
}

}  // namespace
}  // namespace uvmtrace::testing
