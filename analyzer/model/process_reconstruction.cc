// Migrations that were not recorded: reconstructed from the faults, and put where recorded ones go.
#include "analyzer/model/process_model.h"

namespace uvmtrace::analyzer {
namespace {

// With less than this, what was recorded in windows, or the counters alone, say more.
constexpr double kTrustedShare = 0.9;

}  // namespace

void ProcessModel::ReconstructIfWanted(const std::string& path, const ProcessDefinition& definition) {
  if (reconstruction_tried_ || migration_choice == MigrationChoice::kRecorded) return;
  reconstruction_tried_ = true;
  const bool asked = migration_choice == MigrationChoice::kReconstructed;
  const std::string& detail = definition.detail;
  if (!asked && detail != "light" && detail != "sampled" && detail != "exact") return;
  reconstruct::Reconstruction result;
  if (!ReconstructTrace(path, &result).ok()) return;
  if (!result.faults) return;  // of the driver's queue: CUPTI's are groups
  if (!asked && (!result.counters || result.explained_share < kTrustedShare)) return;
  reconstruction = std::move(result);
}

// They go in at the time at which recorded ones would, because kernels and residency are followed in the order of time.
void ProcessModel::AddReconstructedUntil(uint64_t time_ns) {
  if (!reconstruction) return;
  for (; next_reconstructed_ < reconstruction->rows.size(); ++next_reconstructed_) {
    const reconstruct::Migration& row = reconstruction->rows[next_reconstructed_];
    if (row.time_ns > time_ns) return;
    MigrationEvent event;
    event.time_ns = row.time_ns;
    event.address = row.address;
    event.bytes = row.bytes;
    event.source = row.source;
    event.destination = row.destination;
    event.cause = static_cast<MigrationCause>(row.cause);
    ++migration_sources[static_cast<size_t>(EventSource::kReconstructed)];
    AddMigration(event, EventSource::kReconstructed);
  }
}

}  // namespace uvmtrace::analyzer
