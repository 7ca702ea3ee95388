#include "analyzer/explain/bottom_half.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "analyzer/explain/capture_words.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

// CPU time of a thread that serves faults alone, as a multiple of the time its batches took: measured on an H100 and an
// H200, docs/measurements.
constexpr double kLeastPerService = 1.05;
constexpr double kMostPerService = 1.10;

bool AnyGpuFault(const Totals& totals) {
  return totals.gpu_fault_records() + totals.gpu_fault_entries() + totals.gpu_faults() > 0;
}

std::string Faults(const Totals& totals) {
  if (totals.has_gpu_fault_entries()) {
    std::string text = FormatCount(totals.gpu_fault_entries()) + " fault entries";
    if (totals.gpu_faults() > 0) text += fmt::format(" ({} faults)", FormatCount(totals.gpu_faults()));
    return text;
  }
  return FormatCount(totals.gpu_fault_groups()) + " fault groups";
}

// " Of its time, 47 % went into copying pages and 33 % into unmapping them from the CPU."
std::string InsideSentence(const Report& report, const std::string& thread) {
  static const std::vector<std::pair<std::string, std::string>> kWords = {
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
    for (const auto& [part, what] : kWords) {
      if (part == row.part())
        parts.push_back(
            fmt::format("{}{} {}", FormatPercent(row.share()), parts.empty() ? " went into" : " into", what));
    }
  }
  return parts.empty() ? "" : " Of its time, " + Join(parts) + ".";
}

// Where the threads cannot be seen, the batches tell about what they cost.
std::string HiddenSentence(const Evidence& evidence) {
  const Totals& totals = evidence.report().totals();
  bool hidden = false;
  for (const BottomHalfRow& row : evidence.report().bh_threads()) hidden |= !row.visible();
  if (!hidden || !AnyGpuFault(totals) || !totals.has_fault_batches() || !totals.has_fault_service_ns()) return "";
  const auto service_ns = static_cast<double>(totals.fault_service_ns());
  return fmt::format(
      "The driver's bottom-half thread is not visible here. Estimated: it used {} to {} of CPU, {} to {} times the {} "
      "that "
      "its {} batches took, as on the GPUs where both were measured ({}). To see it, run with the host's processes "
      "visible "
      "(docker run --pid=host).",
      FormatDuration(static_cast<uint64_t>(service_ns * kLeastPerService)),
      FormatDuration(static_cast<uint64_t>(service_ns * kMostPerService)), kLeastPerService, kMostPerService,
      FormatDuration(totals.fault_service_ns()), FormatCount(totals.fault_batches()), Faults(totals));
}

}  // namespace

uint64_t ServiceNsOf(const Evidence& evidence, const std::string& device_uuid) {
  const Report& report = evidence.report();
  const auto& devices = report.fault_definitions().devices();
  for (const FaultCounts& counts : devices) {
    if (!device_uuid.empty() && counts.device() == device_uuid) return counts.service_ns();
  }
  const bool one_thread = std::count_if(report.bh_threads().begin(), report.bh_threads().end(),
                                        [](const auto& row) { return row.has_cpu_ns(); }) <= 1;
  // Faults of another GPU are none of this thread's.
  if (!devices.empty() && !one_thread) return 0;
  return report.totals().fault_service_ns();
}

std::optional<BottomHalfCost> BottomHalfCostOf(const Evidence& evidence) {
  const Report& report = evidence.report();
  BottomHalfCost cost;
  size_t threads = 0;
  for (const BottomHalfRow& row : report.bh_threads()) {
    if (!row.has_cpu_ns()) continue;
    ++threads;
    if (cost.thread == nullptr || row.cpu_ns() > cost.thread->cpu_ns()) cost.thread = &row;
  }
  if (cost.thread == nullptr) return std::nullopt;
  cost.cpu_ns = cost.thread->cpu_ns();
  cost.service_ns = ServiceNsOf(evidence, cost.thread->device_uuid());
  // The cost of time stamps is known of all threads together.
  if (threads == 1) cost.observer_ns = std::min(report.capture().tool_cost().time_stamps_ns(), cost.cpu_ns);
  const Totals& totals = report.totals();
  // Where most faults are missing, what they took is not known either.
  cost.faults_known = (totals.has_gpu_fault_records() || totals.has_gpu_fault_entries()) &&
                      totals.has_fault_service_ns() && LostFaultsSentence(report).empty();
  cost.explained = cost.faults_known && cost.service_ns > 0 && cost.service_ns * 2 >= cost.cpu_ns - cost.observer_ns;
  return cost;
}

std::string BottomHalfInShort(const Evidence& evidence) {
  const auto cost = BottomHalfCostOf(evidence);
  if (!cost) return "";
  const double share = Share(cost->cpu_ns, cost->thread->span_ns());
  std::string text = fmt::format("{}: {} of a core", cost->thread->name(),
                                 cost->thread->span_ns() > 0 ? FormatPercent(share) : FormatDuration(cost->cpu_ns));
  if (!cost->faults_known) return text + "; how much of it for this program is not known.";
  if (cost->service_ns == 0) return text + ", none of it for this program.";
  return text + (cost->explained ? ", for this program's faults." : ", most of it not for this program's faults.");
}

std::string BottomHalfInFaults(const Evidence& evidence) {
  const auto cost = BottomHalfCostOf(evidence);
  if (!cost) {
    const Totals& totals = evidence.report().totals();
    if (HiddenSentence(evidence).empty()) return "";
    return fmt::format("not visible here; about {} of CPU, estimated from its {} batches (--section verdict)",
                       FormatDuration(static_cast<uint64_t>(static_cast<double>(totals.fault_service_ns()) *
                                                            (kLeastPerService + kMostPerService) / 2)),
                       FormatCount(totals.fault_batches()));
  }
  if (!cost->explained) {
    std::string text = BottomHalfInShort(evidence);
    if (!text.empty() && text.back() == '.') text.pop_back();
    return text;
  }
  const double in_faults = Share(cost->cpu_ns, cost->service_ns);
  std::string text = fmt::format("{}: {} for {} while pages faulted", cost->thread->name(),
                                 in_faults >= 0.9 ? "one core, fully," : FormatPercent(in_faults) + " of a core",
                                 FormatDuration(cost->service_ns));
  if (cost->observer_ns * 10 >= cost->cpu_ns) {
    text += fmt::format("; {} of its own work, {} for the recording", FormatDuration(cost->cpu_ns - cost->observer_ns),
                        FormatDuration(cost->observer_ns));
  }
  return text;
}

std::string BottomHalfSentence(const Evidence& evidence) {
  const auto cost = BottomHalfCostOf(evidence);
  if (!cost) return HiddenSentence(evidence);
  const Report& report = evidence.report();
  const Totals& totals = report.totals();
  const BottomHalfRow& thread = *cost->thread;
  const uint64_t own_ns = cost->cpu_ns - cost->observer_ns;
  const bool much_observed = cost->observer_ns * 10 >= cost->cpu_ns && cost->observer_ns > 0;
  std::string sentence = fmt::format("{} used {} of CPU", thread.name(), FormatDuration(own_ns));
  if (much_observed) {
    sentence += fmt::format(
        " of its own, and some {} more for recording each migration (UVMTRACE_DETAIL=light does not "
        "pay that)",
        FormatDuration(cost->observer_ns));
  } else if (cost->observer_ns > 0) {
    sentence = fmt::format("{} used {} of CPU", thread.name(), FormatDuration(cost->cpu_ns));
  }
  if (cost->explained) {
    const double in_faults = Share(cost->cpu_ns, cost->service_ns);
    sentence += in_faults >= 0.9 ? fmt::format(": one core, fully, for the {} in which pages faulted",
                                               FormatDuration(cost->service_ns))
                                 : fmt::format(": {} of a core for the {} in which pages faulted",
                                               FormatPercent(in_faults), FormatDuration(cost->service_ns));
    sentence += fmt::format(". Explained by {} in {} batches", Faults(totals), FormatCount(totals.fault_batches()));
    if (thread.has_ns_per_mib()) {
      const double scale = Share(much_observed ? own_ns : cost->cpu_ns, cost->cpu_ns);
      sentence += fmt::format(" ({} of CPU for each MiB serviced, waiting for copies included)",
                              FormatDuration(static_cast<uint64_t>(thread.ns_per_mib() * scale)));
    }
  } else {
    if (thread.span_ns() > 0) {
      sentence += fmt::format(", {} of a core over {}", FormatPercent(Share(own_ns, thread.span_ns())),
                              FormatDuration(thread.span_ns()));
    }
    if (!cost->faults_known) {
      sentence += LostFaultsSentence(report).empty()
                      ? "; this program's faults were not recorded, so its part is not known"
                      : "; most of this program's faults are missing, so its part is not known";
    } else if (cost->service_ns == 0) {
      sentence +=
          ", none of it for this program, which had no GPU fault there: the thread serves every process on its GPU";
    } else {
      sentence += fmt::format(
          ", not explained by this program's faults, whose batches took {}: the thread also serves other processes on "
          "its "
          "GPU, access counters, and memory that CUDA did not allocate (ATS)",
          FormatDuration(cost->service_ns));
    }
  }
  sentence += "." + InsideSentence(report, thread.name());
  uint64_t system_ns = 0;
  bool system_known = false;
  for (const ProcessRow& row : report.processes()) {
    system_known |= row.has_system_ns();
    system_ns += row.system_ns();
  }
  const uint64_t by_calls = evidence.MigratedBytes("", "user");
  const uint64_t by_faults =
      evidence.MigratedBytes("host_to_device", "coherence") + evidence.MigratedBytes("host_to_device", "prefetch");
  if (by_calls > by_faults && system_known) {
    sentence += fmt::format(
        " Prefetch calls moved {}, and those are charged to the process ({} of system time), not to that thread.",
        FormatBytes(by_calls), FormatDuration(system_ns));
  }
  return sentence;
}

}  // namespace uvmtrace::analyzer
