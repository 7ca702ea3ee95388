// The sums over the events of a trace. Each worker fills its own; they add up to the same whoever read what.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "analyzer/accounts/block_table.h"
#include "analyzer/accounts/cells.h"
#include "analyzer/accounts/touched_blocks.h"
#include "analyzer/model/cpu_fault_sites.h"
#include "analyzer/model/kinds.h"
#include "analyzer/model/sampled_migrations.h"
#include "analyzer/read/chunk.h"
#include "analyzer/timeline/shared_pages.h"

namespace uvmtrace::analyzer {

// Without the time that it was under way, which is a union over all workers.
struct MigrationSums {
  uint64_t bytes = 0;
  uint64_t count = 0;
  // The part of both that was recorded at the detail "sampled".
  uint64_t sampled_bytes = 0;
  uint64_t sampled_count = 0;

  void Add(const MigrationSums& other) {
    bytes += other.bytes;
    count += other.count;
    sampled_bytes += other.sampled_bytes;
    sampled_count += other.sampled_count;
  }
};

// Of one GPU, as this process numbers it.
struct DeviceSums {
  uint64_t fault_groups = 0;
  uint64_t fault_records = 0;
  std::array<uint64_t, kAccessCount> entries{};  // driver's queue, by access
  // Moved by the thread that services this GPU's faults: what faults and its prefetcher brought in, and what was
  // evicted.
  uint64_t serviced_bytes = 0;
  // The part of it that was recorded at the detail "sampled".
  uint64_t sampled_arrived_bytes = 0;
  uint64_t sampled_evicted_bytes = 0;

  uint64_t fault_entries() const {
    uint64_t sum = 0;
    for (const uint64_t count : entries) sum += count;
    return sum;
  }
  void Add(const DeviceSums& other) {
    fault_groups += other.fault_groups;
    fault_records += other.fault_records;
    for (size_t i = 0; i < kAccessCount; ++i) entries[i] += other.entries[i];
    serviced_bytes += other.serviced_bytes;
    sampled_arrived_bytes += other.sampled_arrived_bytes;
    sampled_evicted_bytes += other.sampled_evicted_bytes;
  }
};

struct FatalFault {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  uint32_t reason = 0;
  int32_t device = kUnknownDevice;
  uint32_t account = 0;
  bool known_memory = false;

  bool operator<(const FatalFault& other) const {
    return time_ns != other.time_ns ? time_ns < other.time_ns : address < other.address;
  }
};

struct RegionStatistics {
  uint64_t thrashing_events = 0;
  uint64_t throttling_events = 0;
  uint64_t remote_maps = 0;
  uint64_t remote_mapped_bytes = 0;
  // Driver's queue only.
  uint64_t read_duplicates = 0;
  uint64_t read_duplicated_bytes = 0;
  uint64_t read_duplicate_invalidated_bytes = 0;
  uint64_t fatal_faults = 0;

  void Add(const RegionStatistics& other) {
    thrashing_events += other.thrashing_events;
    throttling_events += other.throttling_events;
    remote_maps += other.remote_maps;
    remote_mapped_bytes += other.remote_mapped_bytes;
    read_duplicates += other.read_duplicates;
    read_duplicated_bytes += other.read_duplicated_bytes;
    read_duplicate_invalidated_bytes += other.read_duplicate_invalidated_bytes;
    fatal_faults += other.fatal_faults;
  }
};

// What prefetch calls moved, by the number of the call.
struct PrefetchMoved {
  std::vector<uint64_t> bytes;
  std::vector<uint64_t> ns;
};

// How large the tables of the second reading may become.
struct TableBounds {
  size_t cells = Cells::kMaximumCells;
  size_t touched_blocks = TouchedBlocks::kMaximumBlocks;
  size_t residency_blocks = BlockTable::kMaximumBlocks;
};

struct EventSums {
  // The first ones by time.
  static constexpr size_t kMaximumFatalFaults = 16;
  using RowsBySource = std::array<uint64_t, kEventSourceCount>;

  explicit EventSums(const TableBounds& bounds = {}) : cells(bounds.cells), touched(bounds.touched_blocks) {}

  Cells cells;
  std::map<int32_t, DeviceSums> devices;
  uint64_t gpu_fault_rows = 0;
  uint64_t cpu_fault_rows = 0;
  uint64_t migration_rows = 0;
  uint64_t region_rows = 0;
  uint64_t replay_rows = 0;
  uint64_t filtered_rows = 0;       // outside of what the report is about
  uint64_t faults_without_end = 0;  // CUPTI
  uint64_t unconverted_times = 0;   // events whose clock was never sampled
  RowsBySource gpu_fault_sources{};
  RowsBySource cpu_fault_sources{};
  RowsBySource migration_sources{};
  RowsBySource region_sources{};
  std::array<std::array<uint64_t, kDirectionCount>, kEventSourceCount> migrated_by_source{};  // bytes
  std::array<std::array<MigrationSums, kMigrationCauseCount>, kDirectionCount> migrations;
  RegionStatistics regions;
  CpuFaultSites cpu_fault_sites;
  std::vector<FatalFault> fatal_faults;
  SampledMigrations sampled;
  PrefetchMoved prefetched;
  std::vector<uint64_t> last_use_ns;  // of followed memory, by its number
  TouchedBlocks touched;
  std::vector<SharedPageSums> shared_pages;  // by their index

  void AddFatal(const FatalFault& fault) {
    fatal_faults.insert(std::upper_bound(fatal_faults.begin(), fatal_faults.end(), fault), fault);
    if (fatal_faults.size() > kMaximumFatalFaults) fatal_faults.pop_back();
  }
  void Add(const EventSums& other);
};

}  // namespace uvmtrace::analyzer
