#include "analyzer/accounts/event_sums.h"

namespace uvmtrace::analyzer {
namespace {

void AddEach(const std::vector<uint64_t>& from, std::vector<uint64_t>* to) {
  if (to->size() < from.size()) to->resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) (*to)[i] += from[i];
}

}  // namespace

void EventSums::Add(const EventSums& other) {
  cells.Add(other.cells);
  for (const auto& [ordinal, device] : other.devices) devices[ordinal].Add(device);
  gpu_fault_rows += other.gpu_fault_rows;
  cpu_fault_rows += other.cpu_fault_rows;
  migration_rows += other.migration_rows;
  region_rows += other.region_rows;
  replay_rows += other.replay_rows;
  filtered_rows += other.filtered_rows;
  faults_without_end += other.faults_without_end;
  unconverted_times += other.unconverted_times;
  for (size_t source = 0; source < kEventSourceCount; ++source) {
    gpu_fault_sources[source] += other.gpu_fault_sources[source];
    cpu_fault_sources[source] += other.cpu_fault_sources[source];
    migration_sources[source] += other.migration_sources[source];
    region_sources[source] += other.region_sources[source];
    for (size_t direction = 0; direction < kDirectionCount; ++direction)
      migrated_by_source[source][direction] += other.migrated_by_source[source][direction];
  }
  for (size_t direction = 0; direction < kDirectionCount; ++direction) {
    for (size_t cause = 0; cause < kMigrationCauseCount; ++cause)
      migrations[direction][cause].Add(other.migrations[direction][cause]);
  }
  regions.Add(other.regions);
  cpu_fault_sites.Add(other.cpu_fault_sites);
  for (const FatalFault& fault : other.fatal_faults) AddFatal(fault);
  sampled.Merge(other.sampled);
  AddEach(other.prefetched.bytes, &prefetched.bytes);
  AddEach(other.prefetched.ns, &prefetched.ns);
  if (last_use_ns.size() < other.last_use_ns.size()) last_use_ns.resize(other.last_use_ns.size());
  for (size_t i = 0; i < other.last_use_ns.size(); ++i) last_use_ns[i] = std::max(last_use_ns[i], other.last_use_ns[i]);
  touched.Add(other.touched);
  for (size_t i = 0; i < shared_pages.size() && i < other.shared_pages.size(); ++i) {
    shared_pages[i].gpu_faults += other.shared_pages[i].gpu_faults;
    shared_pages[i].cpu_faults += other.shared_pages[i].cpu_faults;
    shared_pages[i].bytes += other.shared_pages[i].bytes;
  }
}

}  // namespace uvmtrace::analyzer
