// The verdict: what a person should know who reads nothing else. The headline, what to change, then what moved, what
// fits, what the driver's thread did, and how much of the truth that is.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "analyzer/explain/bottom_half.h"
#include "analyzer/explain/capture_words.h"
#include "analyzer/explain/explain.h"
#include "analyzer/explain/finding_rules.h"
#include "analyzer/explain/headline.h"
#include "analyzer/explain/host_memory.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr int kFindingsInVerdict = 8;

std::string ReasonOf(const Report& report, const std::string& section) {
  for (const EmptySection& empty : report.empty_sections()) {
    if (empty.section() == section) return empty.reason();
  }
  return "";
}

bool AnyGpuFault(const Totals& totals) {
  return totals.gpu_fault_records() + totals.gpu_fault_entries() + totals.gpu_faults() > 0;
}

// Whether it is known that no memory of the program was managed. Pools, other libraries' allocators and system memory
// (HMM, ATS) may be, though no call says so: then something faults or moves.
bool NothingIsManaged(const Evidence& evidence) {
  const Totals& totals = evidence.report().totals();
  for (const char* kind : {"managed", "pool", "unknown", "imported"}) {
    if (evidence.Memory(kind) != nullptr) return false;
  }
  const bool known = totals.has_cpu_faults() && totals.has_host_to_device_bytes();
  return known && !AnyGpuFault(totals) && totals.cpu_faults() + totals.host_to_device_bytes() == 0 &&
         totals.device_to_host_bytes() == 0;
}

std::string MemorySentence(const Evidence& evidence) {
  std::vector<std::string> parts;
  for (const char* kind : {"managed", "device", "pool", "pinned", "registered", "physical", "unknown"}) {
    const MemoryRow* row = evidence.Memory(kind);
    if (row == nullptr || row->peak_bytes() == 0) continue;
    const std::string name = row->kind() == "physical"  ? "physical (cuMemCreate)"
                             : row->kind() == "unknown" ? "unknown-kind"
                                                        : row->kind();
    parts.push_back(fmt::format("{} of {} memory", FormatBytes(row->peak_bytes()), name));
  }
  if (parts.empty()) return "No CUDA allocation was recorded.";
  // Each kind has its peak at a time of its own: together they may never have been held.
  std::string sentence = parts.size() == 1 ? fmt::format("At its peak the program held {}", parts.front())
                                           : fmt::format("Peaks, each at its own time: {}", Join(parts));
  if (NothingIsManaged(evidence)) sentence += "; none of it is managed, so the driver migrates nothing by itself";
  return sentence + ".";
}

// Bytes that the driver counted while migrations were recorded in windows, none of which caught any to tell their
// cause.
uint64_t BytesOutsideOfWindows(const Report& report, const std::string& direction) {
  uint64_t bytes = 0;
  for (const MigrationRow& row : report.migrations()) {
    if (row.cause() == "unknown" && !row.has_count() && (direction.empty() || row.direction() == direction))
      bytes += row.bytes();
  }
  return report.totals().estimated_size() > 0 ? bytes : 0;
}

std::string WindowSentence(const Report& report) {
  const uint64_t bytes = BytesOutsideOfWindows(report, "");
  if (bytes == 0) return "";
  const Capture& capture = report.capture();
  const bool exact = capture.detail() == "exact";
  const std::string windows = capture.migration_windows() == 0
                                  ? "none fell into this run"
                                  : fmt::format("none of the {} in this run", FormatCount(capture.migration_windows()));
  return fmt::format(
      "Why {} moved is not known: at the detail \"{}\" migrations are recorded in windows of 10 ms, one in every {}, "
      "and {} of {}{}. Let the program run longer, or record it with UVMTRACE_DETAIL=full.",
      FormatBytes(bytes), exact ? "exact" : "sampled", exact ? "second" : "200 ms", windows,
      FormatDuration(capture.duration_ns()), capture.migration_windows() == 0 ? "" : " caught any");
}

// "because of faults (50.8 MiB faulted, 205 MiB brought along by the driver's prefetcher)": the prefetcher moves
// nothing but what lies beside a fault.
std::string BecauseOfFaults(const Evidence& evidence, const std::string& direction) {
  const uint64_t faulted = evidence.MigratedBytes(direction, "coherence");
  const uint64_t along = evidence.MigratedBytes(direction, "prefetch");
  const std::string cause = direction == "device_to_host" ? "because the CPU touched it" : "because of faults";
  if (along == 0) return cause;
  return fmt::format("{} ({} faulted, {} brought along by the driver's prefetcher)", cause, FormatBytes(faulted),
                     FormatBytes(along));
}

// "71 % because of page faults, 29 % by prefetch calls"
std::string Causes(const Evidence& evidence, const std::string& direction, uint64_t total) {
  // Said once, with what to do, by WindowSentence.
  const bool outside = BytesOutsideOfWindows(evidence.report(), direction) > 0;
  if (outside && evidence.MigratedBytes(direction, "unknown") == total) return "";
  std::vector<std::pair<uint64_t, std::string>> causes;
  causes.emplace_back(evidence.MigratedBytes(direction, "coherence") + evidence.MigratedBytes(direction, "prefetch"),
                      BecauseOfFaults(evidence, direction));
  for (const auto& [cause, words] :
       {std::pair("user", "by prefetch calls"), std::pair("eviction", "as evictions"),
        std::pair("access_counters", "by access counters"),
        std::pair("unknown", outside ? "in no window" : "for a cause that is not known")}) {
    causes.emplace_back(evidence.MigratedBytes(direction, cause), words);
  }
  std::vector<std::string> parts;
  for (const auto& [bytes, words] : causes) {
    if (bytes == 0) continue;
    parts.push_back(bytes == total ? "all " + words : fmt::format("{} {}", FormatPercent(Share(bytes, total)), words));
  }
  return Join(parts);
}

// "58,600 fault entries (17,500 faults)" or "627 fault groups": what this trace counts by.
std::string Faults(const Totals& totals) {
  if (totals.has_gpu_fault_entries()) {
    std::string text = FormatCount(totals.gpu_fault_entries()) + " fault entries";
    if (totals.gpu_faults() > 0) text += fmt::format(" ({} faults)", FormatCount(totals.gpu_faults()));
    return text;
  }
  return FormatCount(totals.gpu_fault_groups()) + " fault groups";
}

std::string MigrationSentence(const Evidence& evidence) {
  const Report& report = evidence.report();
  const Totals& totals = report.totals();
  std::vector<std::string> parts;
  const auto part = [&](const std::string& direction, uint64_t bytes, const std::string& words) {
    if (bytes == 0) return;
    const std::string causes = Causes(evidence, direction, bytes);
    parts.push_back(fmt::format("{} {}{}", FormatBytes(bytes), words, causes.empty() ? "" : ", " + causes));
  };
  part("host_to_device", totals.host_to_device_bytes(), "moved to the GPU");
  part("device_to_host", totals.device_to_host_bytes(), "moved back to the host");
  part("device_to_device", totals.device_to_device_bytes(), "moved between GPUs");
  if (parts.empty()) {
    if (AnyGpuFault(totals) && totals.has_host_to_device_bytes()) {
      return fmt::format(
          "The GPU faulted ({}), but no byte moved: the memory was touched for the first time, or is mapped across the "
          "link.",
          totals.gpu_fault_records() > 0 ? FormatCount(totals.gpu_fault_records()) + " pages" : Faults(totals));
    }
    if (evidence.Memory("managed") == nullptr) return "";
    return fmt::format("No migration of managed memory was recorded: {}.", ReasonOf(report, "migrations"));
  }
  std::string sentence;
  for (const std::string& one : parts) sentence += (sentence.empty() ? "" : "; ") + one;
  return sentence + ".";
}

// What came back to a GPU, by why it had left.
struct CameBack {
  uint64_t bytes = 0;
  uint64_t after_eviction = 0;
  uint64_t after_call = 0;
  uint64_t after_cpu = 0;
};

CameBack CameBackOf(const Evidence& evidence) {
  CameBack back;
  back.bytes = evidence.report().oversubscription().refaulted_bytes();
  uint64_t by_site = 0;
  for (const SiteRow& site : evidence.report().sites()) {
    by_site += site.refaulted_bytes();
    back.after_eviction += site.refaulted_after_eviction_bytes();
    back.after_call += site.refaulted_after_call_bytes();
    back.after_cpu += site.refaulted_after_cpu_bytes();
  }
  back.bytes = std::max(back.bytes, by_site);
  if (back.after_eviction + back.after_call + back.after_cpu > 0 || back.bytes == 0) return back;
  // The reason of each page is not in the rows: no more can have come back after an eviction than was evicted.
  back.after_eviction = std::min(back.bytes, evidence.report().oversubscription().evicted_bytes());
  if (back.after_eviction == back.bytes) return back;
  uint64_t by_calls = 0;
  uint64_t otherwise = 0;
  for (const MigrationRow& row : evidence.report().migrations()) {
    if (row.direction() != "device_to_host" || row.cause() == "eviction") continue;
    (row.cause() == "user" ? by_calls : otherwise) += row.bytes();
  }
  (by_calls > otherwise ? back.after_call : back.after_cpu) = back.bytes - back.after_eviction;
  return back;
}

// "Managed memory peaked at 0.1 % of the GPU's 140 GiB"
std::string Ratio(const Evidence& evidence) {
  const Report& report = evidence.report();
  const CapacityRow* closest = nullptr;
  for (const CapacityRow& row : report.capacity()) {
    if (row.has_ratio() && (closest == nullptr || row.ratio() > closest->ratio())) closest = &row;
  }
  if (closest != nullptr) {
    const uint64_t taken = closest->plain_bytes() + closest->others_bytes();
    return fmt::format("{} of managed memory were used on {}, {} of the {} that other memory left of its {}",
                       FormatBytes(closest->managed_peak_bytes()), evidence.DeviceName(closest->device()),
                       FormatPercent(closest->ratio()),
                       FormatBytes(closest->total_bytes() - std::min(taken, closest->total_bytes())),
                       FormatBytes(closest->total_bytes()));
  }
  const Oversubscription& fit = report.oversubscription();
  if (!fit.has_peak_ratio()) return "";
  return fmt::format("Managed memory peaked at {} of the GPU's {}", FormatPercent(fit.peak_ratio()),
                     FormatBytes(fit.device_capacity_bytes()));
}

double RatioValue(const Report& report) {
  double ratio = report.oversubscription().peak_ratio();
  if (report.capacity_size() == 0) return ratio;
  ratio = 0;
  for (const CapacityRow& row : report.capacity()) ratio = std::max(ratio, row.ratio());
  return ratio;
}

std::string FitSentence(const Evidence& evidence) {
  const Report& report = evidence.report();
  const Oversubscription& fit = report.oversubscription();
  if (fit.managed_live_peak_bytes() == 0) return "";
  const std::string ratio = Ratio(evidence);
  const std::string before = ratio.empty() ? "" : ratio + "; ";
  const CameBack back = CameBackOf(evidence);
  // A page or two that the driver evicted, or that came back, are no pattern.
  const uint64_t to_device = std::max<uint64_t>(report.totals().host_to_device_bytes(), 1);
  const auto counts = [to_device](uint64_t bytes) { return bytes >= (uint64_t{1} << 20) || bytes * 10 >= to_device; };
  if (fit.evicted_bytes() > 0 && !fit.has_refaulted_bytes() && report.sites_size() == 0) {
    return fmt::format("{}about {} were evicted to make room: the memory is oversubscribed.", before,
                       FormatBytes(fit.evicted_bytes()));
  }
  std::vector<std::string> parts;
  if (fit.evicted_bytes() > 0) parts.push_back((fit.estimated() ? "about " : "") + FormatBytes(fit.evicted_bytes()) + " were evicted to make room");
  if (back.after_eviction > 0) {
    parts.push_back(fmt::format("{} of that came back{}", FormatBytes(back.after_eviction),
                                counts(back.after_eviction) ? ": what is in use does not fit" : ""));
  } else if (fit.evicted_bytes() > 0 && fit.has_refaulted_bytes()) {
    parts.push_back("none of that came back: the memory is oversubscribed, what is in use fits");
  }
  if (counts(back.after_cpu)) {
    parts.push_back(
        fmt::format("{} came back to the GPU after the CPU had touched it (ping-pong)", FormatBytes(back.after_cpu)));
  }
  if (counts(back.after_call)) {
    parts.push_back(fmt::format("{} came back after the program's own prefetch calls had moved it to the host",
                                FormatBytes(back.after_call)));
  }
  if (!parts.empty()) {
    std::string sentence = before;
    for (size_t i = 0; i < parts.size(); ++i) sentence += (i > 0 ? "; " : "") + parts[i];
    return Capitalized(sentence) + ".";
  }
  if (ratio.empty()) return "";
  if (RatioValue(report) > 1 && !fit.has_evicted_bytes())
    return ratio + ": oversubscribed. Evictions were not recorded.";
  if (RatioValue(report) > 1) return ratio + ": oversubscribed, though no eviction was recorded.";
  return ratio + ": it is not oversubscribed.";
}

// What can be read in place, and how much was.
std::string ZeroCopySentence(const Evidence& evidence) {
  const InPlace in_place = InPlaceOf(evidence);
  if (in_place.bytes > 0) return "";  // the finding says it in bytes
  uint64_t bytes = 0;
  for (const char* kind : {"pinned", "registered"}) {
    if (const MemoryRow* row = evidence.Memory(kind)) bytes += row->peak_bytes();
  }
  if (bytes == 0) return "";
  if (LinkWasMeasured(evidence)) {
    return fmt::format(
        "{} of host memory are pinned or registered; next to nothing of it was read in place: copies and migrations "
        "explain "
        "what crossed the link.",
        FormatBytes(bytes));
  }
  uint64_t not_copied = 0;
  for (const SiteRow* site : NotCopied(evidence)) not_copied += site->peak_bytes();
  std::string sentence = fmt::format(
      "{} of host memory are pinned or registered: the GPU can read them in place, over the link (zero-copy), and no "
      "fault "
      "and no migration shows that",
      FormatBytes(bytes));
  if (CopiesAreKnown(evidence) && (not_copied > 0 || evidence.report().sites_size() == 0)) {
    sentence += not_copied > 0 && evidence.report().sites_size() > 0
                    ? fmt::format("; no copy used {} of it", FormatBytes(not_copied))
                    : "; no copy is in this trace";
  }
  return sentence + ". How much was read so is not known: the link's counters are not in this trace.";
}

}  // namespace

void Explain(Report* report) {
  AddFindings(report);
  AddHeadline(report);
  const Evidence evidence(*report);
  const auto add = [report](const std::string& sentence) {
    if (!sentence.empty()) report->add_verdict(sentence);
  };
  if (report->capture().simulated()) {
    add("SIMULATED: the CUDA libraries of this run are uvmtrace's simulator. Counts and bytes follow the driver's "
        "policy; times say nothing about any hardware.");
  }
  add(report->headline());
  int told = 0;
  for (const FindingRow& row : report->findings()) {
    if (row.severity() == "note" || told++ == kFindingsInVerdict) continue;
    add(fmt::format("{} ({}): {}", row.title(), row.place(), row.sentence()));
  }
  add(CompletenessSentence(*report));
  add(LostFaultsSentence(*report));
  add(MemorySentence(evidence));
  add(MigrationSentence(evidence));
  add(WindowSentence(*report));
  add(FitSentence(evidence));
  add(BottomHalfSentence(evidence));
  add(ZeroCopySentence(evidence));
  add(SourceSentence(*report));
  add(LossSentence(*report));
}

}  // namespace uvmtrace::analyzer
