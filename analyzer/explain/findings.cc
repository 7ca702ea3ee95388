// The table of rules, what they share, and the order of what they found.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/finding_rules.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

uint64_t AtStake(const FindingRow& row) { return row.has_gain_ns() ? row.gain_ns() : row.cost_ns(); }

double ShareAtStake(const Evidence& evidence, const FindingRow& row) {
  const bool run = row.gain_base() == "run";
  return Share(AtStake(row), run ? evidence.run_ns() : evidence.gpu_time_ns());
}

std::string SeverityOf(const Evidence& evidence, const FindingRow& row) {
  const double share = ShareAtStake(evidence, row);
  if (share >= 0.2) return "high";
  if (share >= 0.05) return "medium";
  return share >= 0.005 ? "low" : "note";
}

int Rank(const std::string& severity) {
  static const std::vector<std::string> kOrder = {"error", "high", "medium", "low", "note"};
  return static_cast<int>(std::find(kOrder.begin(), kOrder.end(), severity) - kOrder.begin());
}

}  // namespace

const std::vector<FindingRule>& FindingRules() {
  static const std::vector<FindingRule> kRules = {
      {"out_of_memory", OutOfMemory},
      {"fatal_fault", FatalFaults},
      {"hazard", HazardFindings},  // each row has the hazard's own name
      {"prefetch_before_launch", PrefetchBeforeLaunch},
      {"prefetch_incomplete", PrefetchAllOfIt},
      {"prefetch_late", PrefetchEarlier},
      {"prefetch_redundant", PrefetchRedundant},
      {"ping_pong", PingPong},
      {"sent_back", DoNotSendBack},
      {"oversubscribed_streaming", OversubscribedStreaming},
      {"sparse_access", SparseAccess},
      {"managed_never_migrates", ManagedNeverMigrates},
      {"managed_unused", ManagedUnused},
      {"shared_page", SharedPage},
      {"advice_fights", AdviceFights},
      {"read_mostly_written", ReadMostlyWritten},
      {"between_gpus", BetweenGpus},
      {"zero_copy_reuse", ZeroCopyReuse},
      {"zero_copy_link_bound", ZeroCopyLinkBound},
      {"zero_copy_not_measured", ZeroCopyNotMeasured},
      {"pageable_copy", PageableCopy},
      {"small_copies", SmallCopies},
      {"pinned_oversized", PinnedOversized},
      {"leaked_memory", LeakedMemory},
      {"allocate_in_loop", AllocateInLoop},
      {"advise_in_loop", AdviseInLoop},
      {"bh_starved", BottomHalfStarved},
      {"lost_events", LostEvents},
  };
  return kRules;
}

FindingRow MakeFinding(const std::string& title, const std::string& subject, const std::string& place) {
  FindingRow row;
  row.set_title(title);
  row.set_subject(subject);
  row.set_place(place);
  if (!subject.empty()) row.add_evidence(subject);
  return row;
}

void SetCost(const Evidence& evidence, CostBase base, uint64_t cost_ns, FindingRow* row) {
  // What takes longer than all that is known of the GPU's time is no share of it.
  const bool run = base == CostBase::kRun || !evidence.kernels_known() || cost_ns > evidence.gpu_time_ns();
  row->set_gain_base(run ? "run" : "gpu_time");
  row->set_cost_ns(cost_ns);
}

void SetGain(const Evidence& evidence, uint64_t gain_ns, const std::string& assumption, FindingRow* row) {
  row->set_gain_ns(std::min<uint64_t>(gain_ns, row->cost_ns()));
  row->set_gain_share(ShareAtStake(evidence, *row));
  row->set_assumption(assumption);
}

uint64_t WaitedNs(const Evidence& evidence, const SiteRow& site) {
  if (site.has_gpu_waited_ns()) return site.gpu_waited_ns();
  const Totals& totals = evidence.report().totals();
  const uint64_t all = site.gpu_fault_entries() > 0 ? totals.gpu_fault_entries() : totals.gpu_fault_groups();
  return static_cast<uint64_t>(Share(FaultCount(site), all) * static_cast<double>(totals.fault_service_ns()));
}

uint64_t BulkCopyNs(const Evidence& evidence, uint64_t bytes, bool* known) {
  const auto rate = evidence.BulkRate();
  *known = rate.has_value();
  if (!rate) return 0;
  return static_cast<uint64_t>(static_cast<double>(bytes) * 1e9 / rate->bytes_per_second);
}

bool IsSparse(const SiteRow& site) {
  return site.pattern().find("sparse") != std::string::npos || site.pattern().find("random") != std::string::npos;
}

std::string BytesOfOne(const SiteRow& site) {
  const uint64_t count = std::max<uint64_t>(site.allocations(), 1);
  return site.total_bytes() == 0
             ? "bytes"
             : (count > 1 && site.total_bytes() % count != 0 ? "about " : "") + FormatBytes(site.total_bytes() / count);
}

void AddFindings(Report* report) {
  const Evidence evidence(*report);
  Findings all;
  for (const FindingRule& rule : FindingRules()) {
    Findings found;
    rule.find(evidence, &found);
    for (FindingRow& row : found) {
      if (row.id().empty()) row.set_id(rule.id);
      if (row.severity().empty()) row.set_severity(SeverityOf(evidence, row));
      all.push_back(std::move(row));
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const FindingRow& a, const FindingRow& b) {
    const auto group = [](const FindingRow& row) {
      return row.severity() == "error" ? 0 : row.severity() == "note" ? 2 : 1;
    };
    if (group(a) != group(b)) return group(a) < group(b);
    if (group(a) == 0) return false;
    if (AtStake(a) != AtStake(b)) return AtStake(a) > AtStake(b);
    if (Rank(a.severity()) != Rank(b.severity())) return Rank(a.severity()) < Rank(b.severity());
    return a.bytes() > b.bytes();
  });
  for (FindingRow& row : all) *report->add_findings() = std::move(row);
}

}  // namespace uvmtrace::analyzer
