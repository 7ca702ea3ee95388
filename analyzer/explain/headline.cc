#include "analyzer/explain/headline.h"

#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/bottom_half.h"
#include "analyzer/explain/capture_words.h"
#include "analyzer/explain/finding_rules.h"
#include "analyzer/explain/host_memory.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr double kWorthTheFirstSentence = 0.02;  // of the GPU's time, or of the run

constexpr uint64_t kWorthACopy = uint64_t{1} << 20;

// A cost that may be the largest of the run.
struct Cost {
  uint64_t time_ns = 0;
  double share = 0;
  std::string sentence;
};

// "one line of this program (a.cc:12)"
std::string WhoseFaults(const Evidence& evidence) {
  const SiteRow* most = nullptr;
  uint64_t most_ns = 0;
  uint64_t all_ns = 0;
  for (const SiteRow& site : evidence.report().sites()) {
    const uint64_t waited_ns = WaitedNs(evidence, site);
    all_ns += waited_ns;
    if (waited_ns > most_ns && site.key() != "unattributed" && site.key() != "others") {
      most = &site;
      most_ns = waited_ns;
    }
  }
  if (most == nullptr) return "";
  const double share = Share(most_ns, std::max(all_ns, evidence.report().totals().fault_service_ns()));
  const std::string kernel = evidence.KernelOn(*most);
  return fmt::format(", {} of that for the memory of {}{}", share > 0.995 ? "all" : FormatPercent(share),
                     PlaceOf(*most), kernel.empty() ? "" : ", which " + kernel + " uses");
}

Cost OfFaults(const Evidence& evidence) {
  Cost cost;
  cost.time_ns = evidence.report().totals().fault_service_ns();
  cost.share = Share(cost.time_ns, evidence.gpu_time_ns());
  const bool missing = !LostFaultsSentence(evidence.report()).empty();
  cost.sentence = fmt::format("The GPU waited {}{} ({} of its {}) for page faults{}.{}", missing ? "at least " : "",
                              FormatDuration(cost.time_ns), FormatPercent(std::min(cost.share, 1.0)),
                              evidence.gpu_time_words(), WhoseFaults(evidence),
                              missing ? " Most faults are missing in this trace: it may be many times that." : "");
  return cost;
}

Cost OfReadingInPlace(const Evidence& evidence) {
  const InPlace in_place = InPlaceOf(evidence);
  Cost cost;
  if (in_place.bytes == 0) return cost;
  cost.time_ns = in_place.busy_ns;
  cost.share = std::max(Share(cost.time_ns, evidence.gpu_time_ns()), FullShareOfLink(evidence));
  std::string text = fmt::format("{} were read in place from pinned host memory", FormatBytes(in_place.bytes));
  if (in_place.site != nullptr) text += " of " + PlaceOf(*in_place.site);
  if (in_place.busy_ns > 0) {
    text += " at " + FormatRate(static_cast<double>(in_place.bytes) * 1e9 / static_cast<double>(in_place.busy_ns));
  }
  const double full = FullShareOfLink(evidence);
  if (full > 0) text += fmt::format(": the link was full for {} of the run", FormatPercent(full));
  cost.sentence = text + "; no fault, no migration and no copy shows it.";
  return cost;
}

// The finding that has most at stake, and is not of faults or of reading in place: those have sentences of their own.
Cost OfOtherFindings(const Evidence& evidence) {
  Cost cost;
  for (const FindingRow& row : evidence.report().findings()) {
    if (row.gain_base() != "run" || row.cost_ns() <= cost.time_ns || row.severity() == "note") continue;
    cost.time_ns = row.cost_ns();
    cost.share = Share(row.cost_ns(), evidence.run_ns());
    cost.sentence =
        fmt::format("{} of the run's {} ({}) went into what {} does. {}", FormatDuration(row.cost_ns()),
                    FormatDuration(evidence.run_ns()), FormatPercent(cost.share), row.place(), row.sentence());
  }
  return cost;
}

// Nothing that costs much: what there was, in numbers.
std::string NothingMuch(const Evidence& evidence) {
  const Report& report = evidence.report();
  const Totals& totals = report.totals();
  std::vector<std::string> parts;
  if (totals.has_fault_service_ns()) {
    parts.push_back(fmt::format("the GPU waited {} for page faults", FormatDuration(totals.fault_service_ns())));
  } else if (totals.gpu_fault_entries() > 0) {
    parts.push_back(fmt::format("how long the GPU waited for {} fault entries is not known (their replays are missing)",
                                FormatCount(totals.gpu_fault_entries())));
  } else if (totals.has_host_to_device_bytes()) {
    parts.push_back(fmt::format("{} migrated to the GPU", FormatBytes(totals.host_to_device_bytes())));
  }
  uint64_t call_ns = 0;
  for (const MemoryRow& row : report.memory()) call_ns += row.call_ns();
  if (report.memory_size() > 0) {
    parts.push_back(fmt::format("calls that allocate and free took {}", FormatDuration(call_ns)));
  }
  uint64_t copied = 0;
  for (const char* way : {"copy", "pinned_copy", "pageable_copy"}) copied += evidence.TrafficBytes(way, "");
  if (copied >= kWorthACopy || (copied > 0 && parts.empty()))
    parts.push_back(fmt::format("{} were copied", FormatBytes(copied)));
  if (parts.empty())
    return "This trace holds no allocation, no copy and no fault: 0 calls of a kind that moves memory.";
  const std::string run = evidence.run_ns() > 0 ? fmt::format(" in {}", FormatDuration(evidence.run_ns())) : "";
  return fmt::format("Nothing that this trace can see cost much{}: {}.", run, Join(parts));
}

}  // namespace

std::string Headline(const Evidence& evidence) {
  const Report& report = evidence.report();
  if (report.findings_size() > 0 && report.findings(0).severity() == "error") {
    const FindingRow& error = report.findings(0);
    return error.id() == "fatal_fault" ? error.sentence() : fmt::format("{}: {}", error.place(), error.sentence());
  }
  Cost worst;
  for (const Cost& cost : {OfFaults(evidence), OfReadingInPlace(evidence), OfOtherFindings(evidence)}) {
    if (cost.sentence.empty() || cost.share < kWorthTheFirstSentence) continue;
    if (worst.sentence.empty() || cost.time_ns > worst.time_ns) worst = cost;
  }
  const Cost in_place = OfReadingInPlace(evidence);
  const bool about_link = !in_place.sentence.empty() && (worst.sentence == in_place.sentence || worst.sentence.empty());
  if (about_link) return in_place.sentence + " " + BottomHalfInShort(evidence);
  if (!worst.sentence.empty()) return worst.sentence;
  // What was measured cost little. What was not measured comes first then.
  for (const FindingRow& row : report.findings()) {
    if (row.id() == "zero_copy_not_measured") {
      return fmt::format("{} {}", row.sentence(), BottomHalfInShort(evidence));
    }
  }
  return NothingMuch(evidence);
}

void AddHeadline(Report* report) {
  std::string headline = Headline(Evidence(*report));
  while (!headline.empty() && headline.back() == ' ') headline.pop_back();
  report->set_headline(headline);
}

}  // namespace uvmtrace::analyzer
