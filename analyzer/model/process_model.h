// What one trace file says, accumulated in one pass: the state that the report is made of.
//
// Memory is bounded by distinct things (functions, allocations, stacks, 2 MiB blocks, kernel names), never by events.
// Nothing here knows how it will be presented, and nothing is guessed: what cannot be known stays countable as such.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/model/allocation_table.h"
#include "analyzer/model/clock.h"
#include "analyzer/model/counter_series.h"
#include "analyzer/model/cpu_fault_sites.h"
#include "analyzer/model/fault_batches.h"
#include "analyzer/model/hazards.h"
#include "analyzer/model/histogram.h"
#include "analyzer/model/interval_union.h"
#include "analyzer/model/kernel_activity.h"
#include "analyzer/model/kinds.h"
#include "analyzer/model/memory_ledger.h"
#include "analyzer/model/queue_batches.h"
#include "analyzer/model/sampled_migrations.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/chunk_reader.h"
#include "analyzer/reconstruct/trace_input.h"
#include "analyzer/timeline/migration_event.h"

namespace uvmtrace::analyzer {

// Functions whose calls mean more than their operation says.
enum class FunctionRole : uint8_t {
  kNone,
  kRetainHandle,
  kStreamOrderedFree,
  kGraphLaunch,
  kGraphNode,
  kBeginCapture,
  kEndCapture,
  kGetGlobal,
};

struct FunctionStatistics {
  std::string name;
  Layer layer = Layer::kUnknown;
  Operation operation = Operation::kOther;
  FunctionRole role = FunctionRole::kNone;
  bool defined = false;
  uint64_t count = 0;
  uint64_t failures = 0;
  uint64_t total_ns = 0;
  uint64_t bytes = 0;
  Histogram durations;
};

struct MigrationStatistics {
  uint64_t bytes = 0;
  uint64_t count = 0;
  // The part of both that was recorded at the detail "sampled".
  uint64_t sampled_bytes = 0;
  uint64_t sampled_count = 0;
  IntervalUnion busy;
};

// Of one GPU, as this process numbers it.
struct DeviceActivity {
  FaultBatches batches;  // CUPTI
  QueueBatches queue_batches;
  KernelActivity kernels;
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
};

// Cumulative counters of a driver thread.
struct SampledThread {
  KernelThreadDefinition definition;
  uint64_t samples = 0;
  uint64_t first_ns = 0;
  uint64_t last_ns = 0;
  uint64_t first_cpu_ns = 0;
  uint64_t last_cpu_ns = 0;
  uint64_t first_wait_ns = 0;
  uint64_t last_wait_ns = 0;
};

struct ProcessTimes {
  uint64_t samples = 0;
  uint64_t first_user_ns = 0;
  uint64_t first_system_ns = 0;
  uint64_t last_user_ns = 0;
  uint64_t last_system_ns = 0;
  uint64_t tool_ns = 0;
};

// The driver's own counters: cumulative, so the last sample is all of it.
struct DriverCounters : CounterAmounts {
  uint64_t samples = 0;
};

// What uvmtrace itself cost: the last sample is all of it.
struct ToolTimes {
  uint64_t samples = 0;
  uint64_t calls_ns = 0;
  uint64_t start_ns = 0;
  uint64_t writer_ns = 0;
  uint64_t cupti_ns = 0;
  uint64_t queue_ns = 0;
  uint64_t sampler_ns = 0;
  uint64_t profiler_ns = 0;
  uint64_t bytes_written = 0;
};

// Samples of a driver thread with one call stack.
struct StackSamples {
  uint64_t samples = 0;
  uint64_t weight_ns = 0;
};

struct FatalFault {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  uint32_t reason = 0;
  int32_t device = kUnknownDevice;
  MemoryKind kind = MemoryKind::kUnknown;
  bool known_memory = false;
  uint32_t stack = 0;  // of the allocation
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
};

struct Stack {
  std::vector<uint64_t> pcs;
  size_t mappings_known = 0;  // mappings that came before it: later ones may have replaced these addresses
  // Python frames, innermost first: ids of `codes`, and lines.
  std::vector<uint32_t> codes;
  std::vector<uint32_t> lines;
};

FunctionRole RoleOfFunction(const std::string& name);

// Whose word the report takes for what moved, where a trace has both.
enum class MigrationChoice : uint8_t {
  kBest,  // what was recorded if all of it was, else what the faults say
  kRecorded,
  kReconstructed,
};

class ProcessModel {
 public:
  // Set before ReadTrace.
  MigrationChoice migration_choice = MigrationChoice::kBest;
  // Instead of recorded migrations: what the faults say. Nothing: migrations are those that were recorded.
  std::optional<reconstruct::Reconstruction> reconstruction;

  // Reads the whole file. An error means that nothing of it could be read.
  Status ReadTrace(const std::string& path);

  // One decoded chunk; ReadTrace's inner loop.
  void Apply(const Chunk& chunk);
  // After the last one.
  void Finish() { hazards.Finish(&memory.table()); }

  std::string file;
  std::optional<uint64_t> run_id;
  ReadStatistics read;
  std::optional<ProcessDefinition> process;
  bool clean_end = false;
  std::optional<EndDefinition> end;
  uint64_t last_ns = 0;  // newest time that the trace speaks of

  std::unordered_map<uint32_t, FunctionStatistics> functions;
  std::unordered_map<uint32_t, std::string> strings;
  std::vector<MappingDefinition> mappings;
  std::unordered_map<uint32_t, Stack> stacks;
  std::unordered_map<uint32_t, CodeDefinition> codes;
  std::map<uint32_t, DeviceDefinition> devices;
  std::map<std::string, std::string> parameters;
  std::map<std::string, SourceStateDefinition> sources;
  std::map<std::pair<std::string, std::string>, uint64_t> losses;
  std::map<uint32_t, SampledThread> kernel_threads;
  std::unordered_map<uint32_t, std::vector<uint32_t>> kernel_stacks;  // ids of strings, innermost first
  std::map<uint64_t, StackSamples> bottom_half_samples;               // by kernel thread << 32 | kernel stack
  std::unordered_map<uint32_t, std::string> thread_names;
  std::vector<DetailChangeDefinition> detail_changes;  // in the order of time
  ProcessTimes times;
  ToolTimes tool;
  DriverCounters counters;
  std::map<int32_t, DriverCounters> device_counters;  // by CUDA ordinal
  CounterSeries counter_series;

  MemoryLedger memory;
  HazardTracker hazards;
  ClockConverter clocks;
  MemoryActivity totals;
  MemoryActivity unattributed;
  uint64_t api_calls = 0;
  std::array<uint64_t, kDoorCount> calls_by_door{};
  std::map<std::string, AuditCountDefinition> audit_counts;  // by function; the last one of a function is in force
  uint64_t copied_bytes = 0;                                 // by copy calls that succeeded
  uint64_t gpu_fault_rows = 0;
  uint64_t cpu_fault_rows = 0;
  uint64_t migration_rows = 0;
  uint64_t region_rows = 0;
  uint64_t kernel_rows = 0;
  uint64_t replay_rows = 0;
  uint64_t faults_without_end = 0;  // CUPTI
  uint64_t unconverted_times = 0;   // events whose clock was never sampled
  // Rows by source.
  using RowsBySource = std::array<uint64_t, kEventSourceCount>;
  RowsBySource gpu_fault_sources{};
  RowsBySource cpu_fault_sources{};
  RowsBySource migration_sources{};
  RowsBySource region_sources{};
  std::array<std::array<uint64_t, kDirectionCount>, kEventSourceCount> migrated_by_source{};  // bytes
  std::array<std::array<MigrationStatistics, kMigrationCauseCount>, kDirectionCount> migrations;
  std::map<int32_t, DeviceActivity> device_activity;
  RegionStatistics regions;
  SampledMigrations sampled;
  CpuFaultSites cpu_fault_sites;
  static constexpr size_t kMaximumFatalFaults = 16;
  std::vector<FatalFault> fatal_faults;  // the first ones

 private:
  void ApplyDefinitions(const Chunk& chunk);
  void ApplyApiCalls(const ColumnBatch& batch);
  void ApplyCall(const MemoryCall& call, FunctionRole role);
  void ApplyGpuFaults(const ColumnBatch& batch);
  void ApplyCpuFaults(const ColumnBatch& batch);
  void ApplyMigrations(const ColumnBatch& batch);
  void AddMigration(const MigrationEvent& event, EventSource source);
  void ReconstructIfWanted(const std::string& path, const ProcessDefinition& definition);
  void AddReconstructedUntil(uint64_t time_ns);
  void ApplyRegionEvents(const ColumnBatch& batch);
  void ApplyKernels(const ColumnBatch& batch);
  void ApplyThreadSamples(const ColumnBatch& batch);
  void ApplyProcessSamples(const ColumnBatch& batch);
  void ApplyCounterSamples(const ColumnBatch& batch);
  void ApplyReplays(const ColumnBatch& batch);
  void ApplyMigrationWindows(const ColumnBatch& batch);
  void ApplyToolSamples(const ColumnBatch& batch);
  void ApplyBottomHalfSamples(const ColumnBatch& batch);
  void AddFatalFault(const ColumnBatch& batch, size_t row);

  // Whether migrations of this time were recorded in windows only.
  bool IsSampled(uint64_t time_ns) const {
    if (detail_changes.empty()) return starts_sampled_;
    return IsSampledAfterChanges(time_ns);
  }
  bool IsSampledAfterChanges(uint64_t time_ns) const;

  uint64_t Monotonic(TimeBase clock, uint64_t time_ns);
  MemoryActivity& ActivityOf(Allocation* allocation) { return allocation ? allocation->activity : unattributed; }
  Residency& ResidencyOf(Allocation* allocation) {
    return allocation ? allocation->residency : unattributed_residency_;
  }
  DeviceActivity& DeviceOf(int32_t ordinal);

  Residency unattributed_residency_;
  bool starts_sampled_ = false;
  ColumnBatch batch_;
  bool reconstruction_tried_ = false;
  size_t next_reconstructed_ = 0;
  std::vector<MemoryCall> memory_calls_;
  int32_t last_device_ = kUnknownDevice;
  DeviceActivity* last_device_activity_ = nullptr;
};

}  // namespace uvmtrace::analyzer
