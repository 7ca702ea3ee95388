// What one trace file says: the state that the report is made of.
//
// The file is read twice. First everything but the events: definitions, calls, kernels, clocks, samples. They make the
// Timeline. Then the events (faults, replays, migrations, region events), by several workers, each event looked up in
// the timeline. So the order of records in the file does not matter, and no event waits for a later record.
// Memory is bounded by distinct things (functions, call sites, 2 MiB blocks, kernel names), by 40 bytes for each
// allocation of memory that can move, and by 24 for each kernel. Nothing here knows how it will be presented, and
// nothing is guessed: what cannot be known stays countable as such.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "analyzer/accounts/event_sums.h"
#include "analyzer/accounts/event_worker.h"
#include "analyzer/accounts/service_batches.h"
#include "analyzer/model/allocation_table.h"
#include "analyzer/model/annotation_ranges.h"
#include "analyzer/model/clock.h"
#include "analyzer/model/counter_series.h"
#include "analyzer/model/cpu_fault_sites.h"
#include "analyzer/model/failed_allocations.h"
#include "analyzer/model/hazards.h"
#include "analyzer/model/histogram.h"
#include "analyzer/model/interval_union.h"
#include "analyzer/model/kinds.h"
#include "analyzer/model/link_traffic.h"
#include "analyzer/model/memory_ledger.h"
#include "analyzer/model/sampled_migrations.h"
#include "analyzer/model/system_memory.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/chunk_reader.h"
#include "analyzer/read/read_budget.h"
#include "analyzer/reconstruct/reconstruction.h"
#include "analyzer/timeline/call_sites.h"
#include "analyzer/timeline/timeline.h"

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

struct MigrationStatistics : MigrationSums {
  IntervalUnion busy;
};

// Of one GPU, as this process numbers it.
struct DeviceActivity : DeviceSums {
  ServiceBatches batches;        // CUPTI
  ServiceBatches queue_batches;  // driver's queue
};

struct KernelStatistics {
  uint64_t count = 0;
  uint64_t total_ns = 0;
  uint64_t longest_ns = 0;
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

// When managed memory came nearest to what the GPUs had room for.
struct CapacityPeak {
  uint64_t managed_bytes = 0;
  uint64_t plain_bytes = 0;  // device, pool and physical memory at that instant
  uint64_t time_ns = 0;
};

// Samples of a driver thread with one call stack.
struct StackSamples {
  uint64_t samples = 0;
  uint64_t weight_ns = 0;
};

// What events on one account belong to: an allocation of its own, or all others of its site. Account 0 is memory of no
// known allocation.
struct Account {
  static constexpr uint32_t kNoSite = ~uint32_t{0};
  uint32_t site = kNoSite;
  uint32_t version = AllocationVersions::kNone;
};

struct Phase {
  std::string name;
  std::string origin;  // "nvtx", "profiler", "marker", "found"
  uint64_t first_ns = 0;
  uint64_t last_ns = 0;
  uint64_t count = 0;
  uint64_t duration_ns = 0;
  uint64_t kernel_ns = 0;  // in which a kernel ran, summed over GPUs
  std::vector<std::pair<uint64_t, uint64_t>> spans;
};

// What of a trace to read.
// Whose word the report takes for what moved, where a trace has both.
enum class MigrationChoice : uint8_t {
  kBest,  // what was recorded if all of it was, else what the faults say
  kRecorded,
  kReconstructed,
};

struct ReadOptions {
  MigrationChoice migrations = MigrationChoice::kBest;
  unsigned threads = 0;  // 0: one for each core
  uint64_t max_memory_bytes = kDefaultMemoryBytes;
  // What the reconstruction may take besides; 0: no more than is left of max_memory_bytes.
  uint64_t reconstruction_bytes = 0;
  // Since the start of the trace.
  std::optional<uint64_t> from_ns;
  std::optional<uint64_t> to_ns;
  std::string phase;         // only what happened in phases of this name
  std::string phase_marker;  // a kernel, by a part of its name: each launch of it begins a phase
};

struct Stack {
  std::vector<uint64_t> pcs;
  size_t mappings_known = 0;  // mappings that came before it: later ones may have replaced these addresses
  // Python frames, innermost first: ids of `codes`, and lines.
  std::vector<uint32_t> codes;
  std::vector<uint32_t> lines;
};

FunctionRole RoleOfFunction(const std::string& name);

class ProcessModel {
 public:
  // Reads the whole file. An error means that nothing of it could be read.
  Status ReadTrace(const std::string& path, const ReadOptions& options = {});

  // What a chunk defines; a part of ReadTrace.
  void ApplyDefinitions(const Chunk& chunk, const ReadOptions& options);

  // Instead of recorded migrations: what the faults say. Nothing: migrations are those that were recorded.
  std::optional<reconstruct::Reconstruction> reconstruction;

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
  Timeline timeline;
  CallSiteTable call_sites;
  std::vector<Account> accounts;
  Cells cells;                                   // of all events
  std::vector<Phase> phases;                     // by the names of timeline.phase_sets
  std::map<uint32_t, KernelStatistics> kernels;  // by id of the name
  MemoryActivity totals;
  MemoryActivity unattributed;
  std::vector<MemoryActivity> site_activity;           // by site
  std::vector<uint64_t> site_touched_blocks;           // by site
  std::map<uint32_t, MemoryActivity> single_activity;  // by version, of accounts of one allocation
  uint64_t untracked_bytes = 0;                        // of blocks beyond the bound: not told whether they came back
  uint64_t late_migrations = 0;                        // came after newer ones of their block had been told
  ReadBudget budget;
  CapacityPeak capacity_peak;
  LinkTraffic traffic;
  FailedAllocations failed_allocations;
  std::vector<ManagedVariableDefinition> managed_variables;
  SystemMemory system_memory;
  std::vector<SharedPageSums> shared_pages;  // of timeline.shared_pages
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
  using RowsBySource = EventSums::RowsBySource;
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
  std::vector<FatalFault> fatal_faults;  // the first ones

  // __managed__ variables have ids among those of the stacks, which a trace's own ids do not reach.
  static constexpr uint32_t kVariableStacks = 0x80000000;
  const ManagedVariableDefinition* VariableOfStack(uint32_t stack) const;  // null: the stack is of a call

  // The stack that allocated the memory of an account; 0: not known.
  uint32_t StackOfAccount(uint32_t account) const;
  uint32_t SiteOfAccount(uint32_t account) const { return account < accounts.size() ? accounts[account].site : 0; }

 private:
  struct ChunkPlace {
    uint64_t offset = 0;  // of the fields
    uint32_t bytes = 0;
  };
  struct KernelRecord {
    uint64_t start;
    uint64_t duration_ns;
    uint32_t name;
    int16_t device;
    TimeBase clock;
  };

  // First reading.
  Status ReadTimelineOf(const std::string& path, const ReadOptions& options);
  void ReadTimeline(const Chunk& chunk, const ReadOptions& options);
  FunctionStatistics& FunctionOf(uint32_t id);
  void ApplyApiCalls(const ColumnBatch& batch);
  void ApplyPending(bool all);
  void ApplyCall(const MemoryCall& call, FunctionRole role);
  void CountCallSite(const MemoryCall& call);
  void CountCopyCall(const MemoryCall& call);
  void DefineManagedVariable(const ManagedVariableDefinition& variable);
  void NameVariable(const FunctionStatistics& function, MemoryCall* call) const;
  void ApplyKernels(const ColumnBatch& batch);
  void ApplyCopies(const ColumnBatch& batch);
  void ApplyLinkSamples(const ColumnBatch& batch);
  void ApplyThreadSamples(const ColumnBatch& batch);
  void ApplyProcessSamples(const ColumnBatch& batch);
  void ApplyCounterSamples(const ColumnBatch& batch);
  void ApplyMigrationWindows(const ColumnBatch& batch);
  void ApplyToolSamples(const ColumnBatch& batch);
  void ApplyBottomHalfSamples(const ColumnBatch& batch);
  void SealTimeline(const ReadOptions& options);
  void AddPhase(const std::string& name, const std::string& origin, uint64_t start_ns, uint64_t end_ns);
  void FindPhases();
  void AddNamedRanges();
  void AddProfilerSpans();
  TimeFilter SpansOfPhase(const std::string& name) const;
  void OpenAccounts();

  // Second reading.
  void ReadEvents(const ReadOptions& options);
  void ReconstructIfWanted(const ReadOptions& options);
  void TakeFindings(const ChunkFindings& findings, Cells* waited);
  void FindRaces(size_t threads, int events);
  void TakeSums(const EventSums& sums);
  void SumUp();

  uint64_t Monotonic(TimeBase clock, uint64_t time_ns);

  std::vector<ChunkPlace> event_chunks_;
  std::vector<KernelRecord> kernel_records_;
  std::vector<MemoryCall> pending_calls_;
  std::vector<KernelRun> pending_kernels_;
  std::map<std::string, uint32_t> phase_names_;
  std::unordered_set<uint32_t> known_mappings_;
  std::vector<uint64_t> markers_ns_;
  AnnotationRanges annotations_;
  std::vector<std::pair<uint64_t, bool>> profiler_switches_;  // when, to on or off
  std::unordered_map<uint64_t, uint32_t> managed_variable_at_;
  uint64_t event_bytes_ = 0;
  uint64_t first_kernel_ns_ = 0;
  uint64_t last_kernel_ns_ = 0;
  bool has_cpu_faults_ = false;
  KernelTouches touches_;
  ColumnBatch batch_;
};

}  // namespace uvmtrace::analyzer
