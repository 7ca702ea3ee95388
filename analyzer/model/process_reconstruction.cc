// Whether what moved is taken from the faults instead of from recorded migrations.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/model/process_model.h"
#include "analyzer/timeline/windows_detail.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

// With less than this, what was recorded in windows, or the counters alone, say more.
constexpr double kTrustedShare = 0.9;
// What the reconstruction takes for each byte of events in the file: it holds its rows at once.
constexpr uint64_t kReconstructionBytes = 4;

std::string WhyNot(const reconstruct::Reconstruction& result, uint64_t started_ns) {
  if (!result.counters) return "the trace has no counters of the driver's to hold it against";
  const uint64_t unexplained = std::min(result.unexplained_bytes, result.exact_bytes);
  return fmt::format("the recorded faults explain only {:.2f} % of {} that moved; {} of it, from {} on, they do not",
                     100 * result.explained_share, FormatBytes(result.exact_bytes), FormatBytes(unexplained),
                     FormatDuration(result.since_ns > started_ns ? result.since_ns - started_ns : 0));
}

}  // namespace

void ProcessModel::ReconstructIfWanted(const ReadOptions& options) {
  if (options.migrations == MigrationChoice::kRecorded) return;
  const bool asked = options.migrations == MigrationChoice::kReconstructed;
  const std::string detail = process ? process->detail : "";
  if (!asked && detail != "light" && !InWindowsOnly(detail)) return;
  const uint64_t needed = kReconstructionBytes * event_bytes_;
  if (needed > std::max(budget.memory_left(), options.reconstruction_bytes)) {
    const uint64_t enough = budget.memory_bytes() - budget.memory_left() + needed;
    sources["reconstruction"] = {
        "reconstruction", State::kUnavailable,
        fmt::format("it would take about {}, more than --max-memory lets it; --max-memory {}M is enough",
                    FormatBytes(needed), (enough >> 20) + 1)};
    return;
  }
  reconstruct::Reconstruction result;
  if (!ReconstructTrace(file, &result).ok()) return;
  // Of the driver's queue: CUPTI's faults are groups. A program that only prefetches has none.
  const auto queue = sources.find("driver_queue");
  if (!result.faults && (queue == sources.end() || queue->second.state != State::kActive)) return;
  if (!asked && (!result.counters || result.explained_share < kTrustedShare)) {
    if (result.counters && result.exact_bytes == 0) return;
    const std::string reason = WhyNot(result, process ? process->started_ns : 0);
    sources["reconstruction"] = {"reconstruction", State::kUnavailable, reason};
    return;
  }
  reconstruction = std::move(result);
  timeline.migrations_reconstructed = true;
}

}  // namespace uvmtrace::analyzer
