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
  const std::string windows = capture.migration_windows() == 0
                                  ? "none fell into this run"
                                  : fmt::format("none of the {} in this run", FormatCount(capture.migration_windows()));
  return fmt::format(
      "Why {} moved is not known: at the detail \"sampled\" migrations are recorded in windows of 10 ms, one in every "
      "200 ms, and {} of {}{}. Let the program run longer, or record it with UVMTRACE_DETAIL=full.",
      FormatBytes(bytes), windows, FormatDuration(capture.duration_ns()),
      capture.migration_windows() == 0 ? "" : " caught any");
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
  // Said once, with what to do, by WindowSentence.
  const bool outside = BytesOutsideOfWindows(report, direction) > 0;
  if (outside && BytesOf(report, direction, "unknown") == total) return "";
  std::vector<std::string> parts;
  for (const auto& [cause, words] : names) {
    const uint64_t bytes = BytesOf(report, direction, cause);
    if (bytes == 0) continue;
    parts.push_back(bytes == total
                        ? "all " + words
                        : fmt::format("{} {}", FormatPercent(static_cast<double>(bytes) / static_cast<double>(total)),
                                      outside && cause == "unknown" ? "in no window" : words));
  }
  return Join(parts);
}

bool AnyGpuFault(const Totals& totals) {
  return totals.gpu_fault_records() + totals.gpu_fault_entries() + totals.gpu_faults() > 0;
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

std::string MigrationSentence(const Report& report) {
  const Totals& totals = report.totals();
  std::vector<std::string> parts;
  const auto part = [&](const std::string& direction, uint64_t bytes, const std::string& words) {
    if (bytes == 0) return;
    const std::string causes = Causes(report, direction, bytes);
    parts.push_back(fmt::format("{} {}{}", FormatBytes(bytes), words, causes.empty() ? "" : " (" + causes + ")"));
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
  if (fit.evicted_bytes() > 0 && !fit.has_refaulted_bytes()) {
    return fmt::format("{}about {} were evicted to make room: the memory is oversubscribed.",
                       ratio.empty() ? "" : ratio + "; ", FormatBytes(fit.evicted_bytes()));
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
  if (fit.peak_ratio() > 1 && !fit.has_evicted_bytes()) {
    return ratio + ": oversubscribed. Evictions were not recorded.";
  }
  if (fit.peak_ratio() > 1) return ratio + ": oversubscribed, though no eviction was recorded.";
  return ratio + ": it is not oversubscribed.";
}

// " Of its time, 47 % went into copying pages and 33 % into unmapping them from the CPU."
std::string InsideSentence(const Report& report, const std::string& thread) {
  const std::vector<std::pair<std::string, std::string>> words = {
      {"copy", "copying pages"},
      {"cpu_unmap", "unmapping pages from the CPU"},
      {"population", "allocating pages and mapping them for DMA"},
      {"gpu_mapping", "writing the GPU's page tables"},
      {"replay", "replays"},
      {"gpu_wait", "waiting for the GPU's copies and replays"},
      {"eviction", "evictions"},
      {"system_memory", "migrating memory that CUDA did not allocate"},
      {"access_counters", "access counters"},
      {"tools", "recording events for a profiler"},
  };
  std::vector<std::string> parts;
  for (const BottomHalfTimeRow& row : report.bh_time()) {
    if (row.thread() != thread || row.share() < 0.1 || parts.size() == 3) continue;
    for (const auto& [part, what] : words) {
      if (part == row.part())
        parts.push_back(
            fmt::format("{}{} {}", FormatPercent(row.share()), parts.empty() ? " went into" : " into", what));
    }
  }
  return parts.empty() ? "" : " Of its time, " + Join(parts) + ".";
}

// What the thread would not have cost without us.
std::string TimeStampSentence(const Report& report, uint64_t cpu_ns) {
  const uint64_t stamps_ns = report.capture().tool_cost().time_stamps_ns();
  if (cpu_ns == 0 || static_cast<double>(stamps_ns) < 0.1 * static_cast<double>(cpu_ns)) return "";
  return fmt::format(" Some {} of it are the price of recording each migration; UVMTRACE_DETAIL=light does not pay it.",
                     FormatDuration(stamps_ns));
}

std::string FatalSentence(const Report& report) {
  const uint64_t count = report.totals().fatal_faults();
  if (count == 0) return "";
  std::string sentence = count == 1 ? "The driver could not serve an access"
                                    : fmt::format("The driver could not serve {} accesses", FormatCount(count));
  if (report.fatal_faults_size() > 0) {
    const FatalFaultRow& first = report.fatal_faults(0);
    sentence += fmt::format("{}{} to {:#x}{}: {}", count > 1 ? "; the first is one" : "",
                            first.processor().empty() ? "" : " of " + first.processor(), first.address(),
                            first.kind().empty()   ? " (no known allocation)"
                            : first.site().empty() ? fmt::format(", in {} memory", first.kind())
                                                   : fmt::format(", in {} memory of {}", first.kind(), first.site()),
                            first.reason());
  }
  return sentence + ". CUDA calls fail from then on.";
}

// Read-mostly pages that are written: each write takes the other copies away, which the next read makes again.
std::string ReadDuplicationSentence(const Report& report) {
  constexpr uint64_t kWorthTelling = uint64_t{1} << 20;
  const Totals& totals = report.totals();
  const uint64_t invalidated = totals.read_duplicate_invalidated_bytes();
  if (invalidated < kWorthTelling || invalidated * 4 < totals.read_duplicated_bytes()) return "";
  return fmt::format(
      "{} of read-mostly pages were copied, and writes took {} of such copies away again: memory that is advised as "
      "read-mostly is being written.",
      FormatBytes(totals.read_duplicated_bytes()), FormatBytes(invalidated));
}

const AccountRow* AccountOf(const Report& report, const std::string& quantity) {
  for (const AccountRow& row : report.capture().accounts()) {
    if (row.quantity() == quantity && row.has_captured()) return &row;
  }
  return nullptr;
}

// Whose word the numbers are, and how much of the truth that is.
std::string SourceSentence(const Report& report) {
  const Capture& capture = report.capture();
  if (!capture.has_exact_host_to_device_bytes()) return "";
  const Totals& totals = report.totals();
  if (totals.host_to_device_bytes() + totals.device_to_host_bytes() == 0) return "";
  std::string change;
  if (capture.detail_changes_size() > 0) {
    const DetailChangeRow& row = capture.detail_changes(capture.detail_changes_size() - 1);
    change = fmt::format(" From {} on the detail was {}{}.", FormatDuration(row.time_ns()), row.detail(),
                         row.reason().empty() ? "" : ": " + row.reason());
  }
  if (totals.estimated_size() > 0) {
    uint64_t captured = 0;
    for (const char* quantity : {"host_to_device_bytes", "device_to_host_bytes"}) {
      if (const AccountRow* row = AccountOf(report, quantity)) captured += row->captured();
    }
    const uint64_t exact = capture.exact_host_to_device_bytes() + capture.exact_device_to_host_bytes();
    return fmt::format(
               "Bytes in all are the driver's own exact count; causes and allocations are estimated from the {} of "
               "them "
               "that were recorded.",
               FormatPercent(exact > 0 ? static_cast<double>(captured) / static_cast<double>(exact) : 0)) +
           change;
  }
  if (capture.has_reconstruction() && CompletenessSentence(report).empty()) {
    return fmt::format(
               "What moved is reconstructed from the recorded faults; that explains {:.2f} % of the bytes that "
               "the driver itself counted.",
               100 * capture.reconstruction().explained_share()) +
           change;
  }
  const AccountRow* bytes = AccountOf(report, "host_to_device_bytes");
  if (bytes == nullptr) {
    return "Bytes are the driver's own exact count; which memory moved, and why, was not recorded." + change;
  }
  if (!capture.has_delivered_share() || !CompletenessSentence(report).empty()) return "";
  std::string sentence = fmt::format("The trace holds {:.2f} % of the bytes that the driver itself counted",
                                     100 * capture.delivered_share());
  const AccountRow* entries = AccountOf(report, "gpu_fault_entries");
  const bool every_entry = entries != nullptr && entries->exact() > 0 && entries->captured() == entries->exact();
  if (every_entry) sentence += " and every entry of the GPU's fault buffer";
  sentence += bytes->source() == "driver_queue" ? ", from the driver's event queue" : ", from CUPTI";
  return sentence + "." + change;
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
    if (!hidden || !AnyGpuFault(totals) || !totals.has_fault_batches()) return "";
    return fmt::format(
        "The driver serviced {} in {} batches over {}; its bottom-half thread is not visible here, so its CPU time is "
        "unknown.",
        Faults(totals), FormatCount(totals.fault_batches()), FormatDuration(totals.fault_service_ns()));
  }
  std::string sentence =
      fmt::format("{} used {} of CPU ({} of a core over {})", busiest->name(), FormatDuration(busiest->cpu_ns()),
                  FormatPercent(busiest->utilization()), FormatDuration(busiest->span_ns()));
  if (totals.gpu_fault_records() + totals.gpu_fault_entries() > 0) {
    sentence += fmt::format(", explained by {} in {} batches, which took {}", Faults(totals),
                            FormatCount(totals.fault_batches()), FormatDuration(totals.fault_service_ns()));
    if (busiest->has_ns_per_mib()) {
      sentence += fmt::format(" ({} of CPU for each MiB serviced, waiting for copies included)",
                              FormatDuration(static_cast<uint64_t>(busiest->ns_per_mib())));
    }
  } else if (totals.has_gpu_fault_records() || totals.has_gpu_fault_entries()) {
    sentence += ", though this program had no GPU fault: the thread serves every process on that GPU";
  }
  sentence += "." + InsideSentence(report, busiest->name()) + TimeStampSentence(report, busiest->cpu_ns());
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
  const Totals& totals = report.totals();
  const uint64_t moved = totals.host_to_device_bytes() + totals.device_to_host_bytes();
  if (bytes == 0 || AnyGpuFault(totals) || moved > 0) return "";
  return fmt::format(
      "{} of host memory are pinned or registered: the GPU can read them in place, over the link. For such zero-copy "
      "access "
      "no fault, no migration and no copy record is expected.",
      FormatBytes(bytes));
}

// A hazard whose cost is a good part of the run's. The others are in their section.
std::string HazardSentence(const Report& report) {
  constexpr double kMuchOfTheTime = 0.1;
  constexpr double kMuchOfTheBytes = 0.25;
  constexpr uint64_t kManyBytes = uint64_t{64} << 20;
  uint64_t waited_ns = 0;
  uint64_t unused_bytes = 0;
  for (const HazardRow& row : report.hazards().rows()) {
    if (row.hazard() == "free_waited") waited_ns += row.time_ns();
    if (row.hazard() == "unused_prefetch") unused_bytes += row.moved_bytes();
  }
  std::vector<std::string> parts;
  const auto share = [](uint64_t part, uint64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  const double of_time = share(waited_ns, report.capture().duration_ns());
  if (of_time >= kMuchOfTheTime) {
    parts.push_back(
        fmt::format("frees waited {} for kernels, {} of the run", FormatDuration(waited_ns), FormatPercent(of_time)));
  }
  const double of_bytes = share(unused_bytes, report.totals().host_to_device_bytes());
  if (unused_bytes >= kManyBytes && of_bytes >= kMuchOfTheBytes) {
    parts.push_back(
        fmt::format("{} were prefetched to the GPU and freed before anything used them, {} of what moved there",
                    FormatBytes(unused_bytes), FormatPercent(of_bytes)));
  }
  if (parts.empty()) return "";
  std::string sentence = Join(parts);
  sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
  return sentence + ": see HAZARDS.";
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
  add(FatalSentence(*report));
  add(CompletenessSentence(*report));
  add(MemorySentence(*report));
  add(MigrationSentence(*report));
  add(WindowSentence(*report));
  add(FitSentence(*report));
  add(ReadDuplicationSentence(*report));
  add(HazardSentence(*report));
  add(BottomHalfSentence(*report));
  add(ZeroCopySentence(*report));
  add(SourceSentence(*report));
  add(LossSentence(*report));
}

}  // namespace uvmtrace::analyzer
