// Whether what moved is taken from the faults instead of from recorded migrations.
#include "analyzer/model/process_model.h"

namespace uvmtrace::analyzer {
namespace {

// With less than this, what was recorded in windows, or the counters alone, say more.
constexpr double kTrustedShare = 0.9;

}  // namespace

void ProcessModel::ReconstructIfWanted(const ReadOptions& options) {
  if (options.migrations == MigrationChoice::kRecorded) return;
  const bool asked = options.migrations == MigrationChoice::kReconstructed;
  const std::string detail = process ? process->detail : "";
  if (!asked && detail != "light" && !InWindowsOnly(detail)) return;
  reconstruct::Reconstruction result;
  if (!ReconstructTrace(file, &result).ok()) return;
  // Of the driver's queue: CUPTI's faults are groups. A program that only prefetches has none.
  const auto queue = sources.find("driver_queue");
  if (!result.faults && (queue == sources.end() || queue->second.state != State::kActive)) return;
  if (!asked && (!result.counters || result.explained_share < kTrustedShare)) {
    result.rows = {};
    rejected_reconstruction = std::move(result);
    return;
  }
  reconstruction = std::move(result);
  timeline.migrations_reconstructed = true;
}

}  // namespace uvmtrace::analyzer
