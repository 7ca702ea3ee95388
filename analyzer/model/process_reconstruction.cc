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
  if (!asked && detail != "light" && detail != "sampled" && detail != "exact") return;
  reconstruct::Reconstruction result;
  if (!ReconstructTrace(file, &result).ok()) return;
  if (!result.faults) return;  // of the driver's queue: CUPTI's are groups
  if (!asked && (!result.counters || result.explained_share < kTrustedShare)) return;
  reconstruction = std::move(result);
  timeline.migrations_reconstructed = true;
}

}  // namespace uvmtrace::analyzer
