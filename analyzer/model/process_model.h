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
#include "analyzer/model/fault_batches.h"
#include "analyzer/model/histogram.h"
#include "analyzer/model/interval_union.h"
#include "analyzer/model/kernel_activity.h"
#include "analyzer/model/memory_ledger.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/chunk_reader.h"

namespace uvmtrace::analyzer {

inline constexpr int32_t kCpu = -1;
inline constexpr int32_t kUnknownDevice = -2;

enum class Direction : uint8_t { kHostToDevice, kDeviceToHost, kDeviceToDevice, kUnknown };
inline constexpr size_t kDirectionCount = 4;

// Values of uvmtrace.proto's MigrationCause.
enum class MigrationCause : uint8_t {
  kUnknown = 0,
  kUser = 1,
  kCoherence = 2,
  kPrefetch = 3,
  kEviction = 4,
  kAccessCounters = 5,
};
inline constexpr size_t kMigrationCauseCount = 6;

struct FunctionStatistics {
  std::string name;
  Operation operation = Operation::kOther;
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
  IntervalUnion busy;
};

// Of one GPU, as this process numbers it.
struct DeviceActivity {
  FaultBatches batches;
  KernelActivity kernels;
  uint64_t fault_groups = 0;
  // Moved by the thread that services this GPU's faults: what faults and its prefetcher brought in, and what was
  // evicted.
  uint64_t serviced_bytes = 0;
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
struct DriverCounters {
  uint64_t samples = 0;
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t cpu_faults = 0;
  uint64_t gpu_faults = 0;
};

struct RegionStatistics {
  uint64_t thrashing_events = 0;
  uint64_t throttling_events = 0;
  uint64_t remote_maps = 0;
  uint64_t remote_mapped_bytes = 0;
};

struct Stack {
  std::vector<uint64_t> pcs;
  size_t mappings_known = 0;  // mappings that came before it: later ones may have replaced these addresses
  // Python frames, innermost first: ids of `codes`, and lines.
  std::vector<uint32_t> codes;
  std::vector<uint32_t> lines;
};

class ProcessModel {
 public:
  // Reads the whole file. An error means that nothing of it could be read.
  Status ReadTrace(const std::string& path);

  // One decoded chunk; ReadTrace's inner loop.
  void Apply(const Chunk& chunk);

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
  ProcessTimes times;
  DriverCounters counters;

  MemoryLedger memory;
  ClockConverter clocks;
  MemoryActivity totals;
  MemoryActivity unattributed;
  uint64_t api_calls = 0;
  uint64_t copied_bytes = 0;  // by copy calls that succeeded
  uint64_t gpu_fault_rows = 0;
  uint64_t cpu_fault_rows = 0;
  uint64_t migration_rows = 0;
  uint64_t region_rows = 0;
  uint64_t kernel_rows = 0;
  uint64_t faults_without_end = 0;
  uint64_t unconverted_times = 0;  // events whose clock was never sampled
  std::array<bool, 3> fault_sources{};
  std::array<bool, 3> migration_sources{};
  std::array<std::array<MigrationStatistics, kMigrationCauseCount>, kDirectionCount> migrations;
  std::map<int32_t, DeviceActivity> device_activity;
  RegionStatistics regions;

 private:
  void ApplyDefinitions(const Chunk& chunk);
  void ApplyApiCalls(const ColumnBatch& batch);
  void ApplyGpuFaults(const ColumnBatch& batch);
  void ApplyCpuFaults(const ColumnBatch& batch);
  void ApplyMigrations(const ColumnBatch& batch);
  void ApplyRegionEvents(const ColumnBatch& batch);
  void ApplyKernels(const ColumnBatch& batch);
  void ApplyThreadSamples(const ColumnBatch& batch);
  void ApplyProcessSamples(const ColumnBatch& batch);
  void ApplyCounterSamples(const ColumnBatch& batch);

  uint64_t Monotonic(TimeBase clock, uint64_t time_ns);
  MemoryActivity& ActivityOf(Allocation* allocation) { return allocation ? allocation->activity : unattributed; }
  Residency& ResidencyOf(Allocation* allocation) {
    return allocation ? allocation->residency : unattributed_residency_;
  }
  DeviceActivity& DeviceOf(int32_t ordinal);

  Residency unattributed_residency_;
  ColumnBatch batch_;
  std::vector<MemoryCall> memory_calls_;
  int32_t last_device_ = kUnknownDevice;
  DeviceActivity* last_device_activity_ = nullptr;
};

}  // namespace uvmtrace::analyzer
