// The first lines of the report: what a person should know who reads nothing else. Made from the finished sections
// alone, so a sentence can never say what the tables do not.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "analyzer/findings/sections.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

uint64_t BytesOf(const Report& report, const std::string& direction, const std::string& cause) {
  uint64_t bytes = 0;
  for (const MigrationRow& row : report.migrations()) {
    if ((direction.empty() || row.direction() == direction) && (cause.empty() || row.cause() == cause))
      bytes += row.bytes();
  }
  return bytes;
}

const MemoryRow* RowOf(const Report& report, const std::string& kind) {
  for (const MemoryRow& row : report.memory()) {
    if (row.kind() == kind) return &row;
  }
  return nullptr;
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

std::string ReasonOf(const Report& report, const std::string& section) {
  for (const EmptySection& empty : report.empty_sections()) {
    if (empty.section() == section) return empty.reason();
  }
  return "";
}

std::string MemorySentence(const Report& report) {
  std::vector<std::string> parts;
  for (const char* kind : {"managed", "device", "pool", "pinned", "registered", "physical", "unknown"}) {
    const MemoryRow* row = RowOf(report, kind);
    if (row == nullptr || row->peak_bytes() == 0) continue;
    const std::string name = row->kind() == "physical"  ? "physical (cuMemCreate)"
                             : row->kind() == "unknown" ? "unknown-kind"
                                                        : row->kind();
    parts.push_back(fmt::format("{} of {} memory", FormatBytes(row->peak_bytes()), name));
  }
  if (parts.empty()) return "No CUDA allocation was recorded.";
  std::string sentence = fmt::format("At its peak the program held {}", Join(parts));
  if (RowOf(report, "managed") == nullptr)
    sentence += "; none of it is managed, so the driver migrates nothing by itself";
  return sentence + ".";
}

// "71 % because of page faults, 29 % by prefetch calls"
std::string Causes(const Report& report, const std::string& direction, uint64_t total) {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"coherence", direction == "device_to_host" ? "because the CPU touched them" : "because of page faults"},
      {"prefetch", "by the driver's prefetcher"},
      {"user", "by prefetch calls"},
      {"eviction", "as evictions"},
      {"access_counters", "by access counters"},
      {"unknown", "for no recorded cause"},
  };
  std::vector<std::string> parts;
  for (const auto& [cause, words] : names) {
    const uint64_t bytes = BytesOf(report, direction, cause);
    if (bytes == 0) continue;
    parts.push_back(
        bytes == total
            ? "all " + words
            : fmt::format("{} {}", FormatPercent(static_cast<double>(bytes) / static_cast<double>(total)), words));
  }
  return Join(parts);
}

std::string MigrationSentence(const Report& report) {
  const Totals& totals = report.totals();
  std::vector<std::string> parts;
  const auto part = [&](const std::string& direction, uint64_t bytes, const std::string& words) {
    if (bytes > 0)
      parts.push_back(fmt::format("{} {} ({})", FormatBytes(bytes), words, Causes(report, direction, bytes)));
  };
  part("host_to_device", totals.host_to_device_bytes(), "moved to the GPU");
  part("device_to_host", totals.device_to_host_bytes(), "moved back to the host");
  part("device_to_device", totals.device_to_device_bytes(), "moved between GPUs");
  if (parts.empty()) {
    if (totals.gpu_fault_records() > 0) {
      return fmt::format(
          "The GPU faulted on {} pages, but no byte moved: the memory was touched for the first time, or is "
          "mapped across the link.",
          FormatCount(totals.gpu_fault_records()));
    }
    if (RowOf(report, "managed") == nullptr) return "";
    return fmt::format("No migration of managed memory was recorded: {}.", ReasonOf(report, "migrations"));
  }
  return Join(parts) + ".";
}

// Whether it was mostly the program that sent memory to the host, not the CPU that touched it there.
bool MovedAwayByPrefetchCalls(const Report& report) {
  uint64_t by_calls = 0;
  uint64_t otherwise = 0;
  for (const MigrationRow& row : report.migrations()) {
    if (row.direction() != "device_to_host") continue;
    (row.cause() == "user" ? by_calls : otherwise) += row.bytes();
  }
  return by_calls > otherwise;
}

std::string FitSentence(const Report& report) {
  const Oversubscription& fit = report.oversubscription();
  if (fit.managed_live_peak_bytes() == 0) return "";
  std::string ratio;
  if (fit.has_peak_ratio()) {
    ratio = fmt::format("Managed memory peaked at {} of the GPU's {}", FormatPercent(fit.peak_ratio()),
                        FormatBytes(fit.device_capacity_bytes()));
  }
  if (fit.evicted_bytes() > 0 && fit.refaulted_bytes() > 0) {
    return fmt::format(
        "{}{} came back after leaving the GPU, and {} were evicted to make room: the working set does not fit.",
        ratio.empty() ? "" : ratio + "; ", FormatBytes(fit.refaulted_bytes()), FormatBytes(fit.evicted_bytes()));
  }
  if (fit.evicted_bytes() > 0) {
    return fmt::format(
        "{}{} were evicted to make room, and none came back: the memory is oversubscribed, the working set fits.",
        ratio.empty() ? "" : ratio + "; ", FormatBytes(fit.evicted_bytes()));
  }
  if (fit.refaulted_bytes() > 0) {
    return fmt::format("{}{} came back to the GPU after leaving it without any eviction: {}.",
                       ratio.empty() ? "" : ratio + "; ", FormatBytes(fit.refaulted_bytes()),
                       MovedAwayByPrefetchCalls(report)
                           ? "the program's own prefetch calls had moved it to the host"
                           : "the CPU and the GPU take turns on the same memory (ping-pong)");
  }
  if (ratio.empty()) return "";
  if (fit.peak_ratio() > 1) return ratio + ": oversubscribed, though no eviction was recorded.";
  return ratio + ": it is not oversubscribed.";
}

std::string BottomHalfSentence(const Report& report) {
  const Totals& totals = report.totals();
  uint64_t system_ns = 0;
  bool system_known = false;
  for (const ProcessRow& row : report.processes()) {
    system_known |= row.has_system_ns();
    system_ns += row.system_ns();
  }
  const BottomHalfRow* busiest = nullptr;
  bool hidden = false;
  for (const BottomHalfRow& row : report.bh_threads()) {
    hidden |= !row.visible();
    if (row.has_cpu_ns() && (busiest == nullptr || row.cpu_ns() > busiest->cpu_ns())) busiest = &row;
  }
  const uint64_t user_bytes = BytesOf(report, "", "user");
  const uint64_t fault_bytes =
      BytesOf(report, "host_to_device", "coherence") + BytesOf(report, "host_to_device", "prefetch");
  if (busiest == nullptr) {
    if (!hidden || totals.gpu_fault_records() == 0) return "";
    return fmt::format(
        "The driver serviced {} fault groups in {} batches over {}; its bottom-half thread is not visible here, "
        "so its CPU time is unknown.",
        FormatCount(totals.gpu_fault_groups()), FormatCount(totals.fault_batches()),
        FormatDuration(totals.fault_service_ns()));
  }
  std::string sentence =
      fmt::format("{} used {} of CPU ({} of a core over {})", busiest->name(), FormatDuration(busiest->cpu_ns()),
                  FormatPercent(busiest->utilization()), FormatDuration(busiest->span_ns()));
  if (totals.gpu_fault_records() > 0) {
    sentence += fmt::format(", explained by {} fault groups in {} batches, which took {}",
                            FormatCount(totals.gpu_fault_groups()), FormatCount(totals.fault_batches()),
                            FormatDuration(totals.fault_service_ns()));
    if (busiest->has_ns_per_mib()) {
      sentence += fmt::format(" ({} of CPU for each MiB serviced, waiting for copies included)",
                              FormatDuration(static_cast<uint64_t>(busiest->ns_per_mib())));
    }
  } else if (totals.has_gpu_fault_records()) {
    sentence += ", though this program had no GPU fault: the thread serves every process on that GPU";
  }
  sentence += ".";
  if (user_bytes > fault_bytes && system_known) {
    sentence += fmt::format(
        " Most bytes moved by prefetch calls, which are charged to the process ({} of system time), not to "
        "that thread.",
        FormatDuration(system_ns));
  }
  return sentence;
}

std::string ZeroCopySentence(const Report& report) {
  uint64_t bytes = 0;
  for (const char* kind : {"pinned", "registered"}) {
    if (const MemoryRow* row = RowOf(report, kind)) bytes += row->peak_bytes();
  }
  if (bytes == 0 || report.totals().gpu_fault_records() > 0 || BytesOf(report, "", "") > 0) return "";
  return fmt::format(
      "{} of host memory are pinned or registered: the GPU can read them in place, over the link. For such zero-copy "
      "access "
      "no fault, no migration and no copy record is expected.",
      FormatBytes(bytes));
}

std::string LossSentence(const Report& report) {
  const Capture& capture = report.capture();
  std::vector<std::string> parts;
  uint64_t lost = 0;
  const LostRow* worst = nullptr;
  for (const LostRow& row : capture.lost()) {
    if (IsMissingBytes(row)) continue;  // has a sentence of its own
    lost += row.count();
    if (worst == nullptr || row.count() > worst->count()) worst = &row;
  }
  if (lost > 0) {
    parts.push_back(fmt::format("{} events were lost while recording (most of {}: {}), so numbers are lower bounds",
                                FormatCount(lost), worst->source(), worst->reason()));
  }
  if (capture.bad_chunks() > 0) {
    parts.push_back(fmt::format("{} chunks of the trace are damaged or missing", FormatCount(capture.bad_chunks())));
  }
  if (!capture.clean_end()) {
    parts.push_back(
        "the trace does not end cleanly: the program was killed or still runs, at most the last 100 ms are missing");
  }
  if (parts.empty()) return "";
  std::string sentence;
  for (size_t i = 0; i < parts.size(); ++i) sentence += (i > 0 ? "; " : "") + parts[i];
  sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
  return sentence + ".";
}

}  // namespace

void AddVerdict(Report* report) {
  const auto add = [report](const std::string& sentence) {
    if (!sentence.empty()) report->add_verdict(sentence);
  };
  if (report->capture().simulated()) {
    add("SIMULATED: the CUDA libraries of this run are uvmtrace's simulator. Counts and bytes follow the driver's "
        "policy; "
        "times say nothing about any hardware.");
  }
  add(CompletenessSentence(*report));
  add(MemorySentence(*report));
  add(MigrationSentence(*report));
  add(FitSentence(*report));
  add(BottomHalfSentence(*report));
  add(ZeroCopySentence(*report));
  add(LossSentence(*report));
}

}  // namespace uvmtrace::analyzer
