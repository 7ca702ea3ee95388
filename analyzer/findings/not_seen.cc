// What this trace cannot tell, and what would cure it.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

#include "analyzer/findings/sections.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {

void AddNotSeen(const Run& run, const Symbolizer& symbolizer, Report* report) {
  std::vector<std::string> lines;
  std::set<uint64_t> run_ids;
  std::set<std::string> hosts;
  uint64_t clock_steps = 0;
  uint64_t unconverted = 0;
  uint64_t unknown_frees = 0;
  uint64_t missed_frees = 0;
  uint64_t unclear_resets = 0;
  uint64_t faults_without_end = 0;
  uint64_t undefined_calls = 0;
  uint64_t clipped = 0;
  bool two_sources = false;
  bool handed_over_sources = false;
  bool without_process = false;
  for (const auto& process : run) {
    if (process->run_id) run_ids.insert(*process->run_id);
    if (process->process) hosts.insert(process->process->host);
    without_process |= !process->process;
    clock_steps += process->clocks.steps();
    unconverted += process->unconverted_times;
    unknown_frees += process->memory.unknown_frees();
    missed_frees += process->memory.missed_frees();
    unclear_resets += process->memory.unclear_resets();
    faults_without_end += process->faults_without_end;
    for (const auto& [id, function] : process->functions) {
      if (!function.defined) undefined_calls += function.count;
    }
    for (const auto& causes : process->migrations) {
      for (const MigrationStatistics& statistics : causes) clipped += statistics.busy.clipped();
    }
    const auto both = [](const ProcessModel::RowsBySource& rows) { return rows[1] > 0 && rows[2] > 0; };
    if (both(process->gpu_fault_sources) || both(process->cpu_fault_sources) || both(process->migration_sources)) {
      const auto queue = process->sources.find("driver_queue");
      const bool handed_over = queue != process->sources.end() && queue->second.state == State::kStopped;
      (handed_over ? handed_over_sources : two_sources) = true;
    }
    for (const auto& [name, source] : process->sources) {
      if (name == "exact_counters") continue;  // below, with what it means
      // The queue feeds instead: what CUPTI's counters do not is no gap.
      const bool replaced = QueueIsOn(*process) && (name == "cupti" || name.rfind("cupti.", 0) == 0) &&
                            name != "cupti.kernels" && name != "cupti.flush";
      if (replaced) continue;
      const std::string reason = source.reason.empty() ? "no reason was recorded" : source.reason;
      if (source.state == State::kUnavailable) lines.push_back(fmt::format("{} was unavailable: {}", name, reason));
      if (source.state == State::kStopped) lines.push_back(fmt::format("{} stopped before the end: {}", name, reason));
      if (source.state == State::kDisabled) {
        lines.push_back(
            fmt::format("{} was off: {}", name,
                        source.reason.empty() ? "not wanted at this detail (UVMTRACE_DETAIL)" : source.reason));
      }
    }
  }
  if (without_process) {
    lines.push_back("The chunk that describes the process is damaged: pid, command line and duration are missing.");
  }
  if (run_ids.size() > 1) {
    lines.push_back(
        fmt::format("These files are of {} different runs: adding them up is only right if that is what you want.",
                    run_ids.size()));
  }
  if (hosts.size() > 1) {
    lines.push_back("These files are of different machines: driver threads and GPUs are listed for each.");
  }
  if (two_sources) {
    lines.push_back(
        "Two sources recorded faults or migrations in one process: their numbers are added up and count the same "
        "events "
        "twice. Record with one of them.");
  }
  if (handed_over_sources) {
    lines.push_back(
        "The driver's event queue stopped while the program ran, and CUPTI recorded the rest: sums are of both, and "
        "GPU "
        "faults are entries before that moment and fault groups after it.");
  }
  if (clock_steps > 0) {
    lines.push_back(
        fmt::format("The clock that event times come from was set {} time(s) during the run: events near it may "
                    "be attributed to the wrong allocation or kernel.",
                    clock_steps));
  }
  if (unconverted > 0) {
    lines.push_back(
        fmt::format("{} event(s) carry times of a clock that was never compared with the others: they are "
                    "attributed to what was allocated when they were written.",
                    FormatCount(unconverted)));
  }
  if (unknown_frees > 0) {
    lines.push_back(
        fmt::format("{} call(s) freed memory whose allocation was not seen: it was allocated before the trace "
                    "began, by a call that is not intercepted, or its record was lost.",
                    FormatCount(unknown_frees)));
  }
  if (missed_frees > 0) {
    lines.push_back(
        fmt::format("{} allocation(s) got an address whose previous owner was never seen freed; that owner was "
                    "taken as freed then.",
                    FormatCount(missed_frees)));
  }
  if (unclear_resets > 0) {
    lines.push_back(
        fmt::format("{} call(s) reset one of several devices: the trace does not tell which memory was that device's, "
                    "so none was taken as freed.",
                    FormatCount(unclear_resets)));
  }
  if (undefined_calls > 0) {
    lines.push_back(
        fmt::format("{} call(s) are of functions whose definition was in a damaged chunk: what they allocated is "
                    "missing.",
                    FormatCount(undefined_calls)));
  }
  if (faults_without_end > 0) {
    lines.push_back(fmt::format("{} GPU fault record(s) have no end: they count as faults but in no batch.",
                                FormatCount(faults_without_end)));
  }
  if (clipped > 0) {
    lines.push_back(
        fmt::format("{} migration(s) arrived so late that their busy time was cut short.", FormatCount(clipped)));
  }
  const Totals& totals = report->totals();
  if (totals.estimated_size() > 0) {
    lines.push_back(
        "Migrations were recorded in windows only: what came back to a GPU after leaving it cannot be told from a "
        "sample. UVMTRACE_DETAIL=full tells it.");
  } else if (totals.has_host_to_device_bytes() && !totals.has_prefetched_ahead_bytes()) {
    lines.push_back(
        "Migrations were not recorded: causes, evictions and which memory moved are not known. UVMTRACE_DETAIL=full "
        "tells them, sampled estimates them.");
  }
  if (totals.gpu_fault_groups() > 0 && !totals.has_gpu_fault_entries()) {
    lines.push_back(
        totals.has_gpu_faults()
            ? "Entries of the GPU's fault buffer before duplicates were merged (gpu_fault_entries) were not recorded: "
              "only the driver's event queue has them."
            : "The driver's own count of GPU faults (gpu_faults) is not known: fault groups, as CUPTI counts them, are "
              "fewer, because several faults of one page are one group.");
  }
  AddLeftOut(run, &lines);
  AddCompletenessNotSeen(run, *report, &lines);
  for (const std::string& problem : symbolizer.problems()) lines.push_back(problem);
  // Two processes of a run usually miss the same.
  std::set<std::string> seen;
  for (const std::string& line : lines) {
    if (seen.insert(line).second) report->add_not_seen(line);
  }
}

}  // namespace uvmtrace::analyzer
