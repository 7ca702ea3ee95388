// A chunk's definitions as plain structs, and its column messages as views: see proto/uvmtrace.proto for what each
// means.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/read/columns.h"
#include "analyzer/read/status.h"

namespace uvmtrace::analyzer {

enum class Operation : uint32_t {
  kOther = 0,
  kAllocate = 1,
  kFree = 2,
  kCopy = 3,
  kSet = 4,
  kPrefetch = 5,
  kAdvise = 6,
  kRegister = 7,
  kUnregister = 8,
  kReserve = 9,
  kUnreserve = 10,
  kCreate = 11,
  kRelease = 12,
  kMap = 13,
  kUnmap = 14,
  kSetAccess = 15,
  kInitialize = 16,
  kReset = 17,
  kProfilerStart = 18,
  kProfilerStop = 19,
  kMake = 20,
};

// Values of uvmtrace.proto's Layer.
enum class Layer : uint32_t { kUnknown = 0, kRuntime = 1, kDriver = 2 };

enum class State : uint32_t { kUnknown = 0, kActive = 1, kUnavailable = 2, kDisabled = 3, kIdle = 4, kStopped = 5 };

// Values of uvmtrace.proto's EventSource, and one that no trace has.
enum class EventSource : uint8_t { kUnknown = 0, kCupti = 1, kDriverQueue = 2, kReconstructed = 3 };
inline constexpr size_t kEventSourceCount = 4;

enum class ThreadRole : uint32_t { kUnknown = 0, kBottomHalf = 1, kToolsQueue = 2 };

struct EndDefinition {
  bool clean = false;
  uint64_t chunks = 0;
  // Rows in the whole file.
  uint64_t api_calls = 0;
  uint64_t gpu_faults = 0;
  uint64_t cpu_faults = 0;
  uint64_t migrations = 0;
  uint64_t region_events = 0;
  uint64_t kernels = 0;
  uint64_t replays = 0;
};

struct ProcessDefinition {
  uint32_t pid = 0;
  uint32_t parent_pid = 0;
  std::string host;
  std::vector<std::string> command_line;
  std::string executable;
  uint64_t started_ns = 0;
  uint64_t started_realtime_ns = 0;
  std::string uvmtrace_version;
  std::string detail;
  bool simulated = false;
  uint64_t memory_total_bytes = 0;
  uint32_t cuda_driver_version = 0;
  uint32_t cupti_version = 0;
  std::string kernel_driver_version;
  std::string rank;  // empty: none
  std::string local_rank;
};

struct StringDefinition {
  uint32_t id = 0;
  std::string_view value;
};

struct FunctionDefinition {
  uint32_t id = 0;
  std::string_view name;
  Layer layer = Layer::kUnknown;
  Operation operation = Operation::kOther;
};

struct MappingDefinition {
  uint32_t id = 0;
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t load_bias = 0;
  std::string path;
  std::string build_id;
};

struct StackDefinition {
  uint32_t id = 0;
  std::vector<uint64_t> pcs;
  // Python frames, innermost first.
  std::vector<uint32_t> codes;
  std::vector<uint32_t> lines;
};

// A Python function: ids of strings.
struct CodeDefinition {
  uint32_t id = 0;
  uint32_t file = 0;
  uint32_t function = 0;
};

struct ThreadDefinition {
  uint32_t tid = 0;
  std::string_view name;
};

struct DeviceDefinition {
  uint32_t ordinal = 0;
  std::string name;
  std::string uuid;
  uint64_t total_memory_bytes = 0;
  std::optional<int32_t> host_numa_node;
  // 0: not known.
  uint32_t link_generation = 0;
  uint32_t link_width = 0;
  uint32_t link_generation_max = 0;
  uint32_t link_width_max = 0;
  bool integrated = false;
  bool host_page_tables = false;
};

struct ManagedVariableDefinition {
  uint64_t address = 0;
  uint64_t bytes = 0;
  std::string name;
};

struct KernelThreadDefinition {
  uint32_t id = 0;
  uint32_t tid = 0;
  uint64_t start_ticks = 0;
  std::string name;
  ThreadRole role = ThreadRole::kUnknown;
  std::string device_uuid;
};

// A driver thread's call stack: function names, from the innermost outwards, as ids of strings.
struct KernelStackDefinition {
  uint32_t id = 0;
  std::vector<uint32_t> frames;
};

struct DetailChangeDefinition {
  uint64_t time_ns = 0;
  std::string detail;
  std::string reason;
};

struct ParameterDefinition {
  std::string name;
  std::string value;
};

struct SourceStateDefinition {
  std::string name;
  State state = State::kUnknown;
  std::string reason;
};

struct LossDefinition {
  std::string source;
  std::string reason;
  uint64_t count = 0;
};

// Calls of one function, as CUPTI counted them and as the hooks saw them.
struct AuditCountDefinition {
  std::string function;
  uint64_t happened = 0;
  uint64_t seen = 0;
};

// Everything with a view points into the bytes that were decoded.
struct Chunk {
  uint64_t written_ns = 0;
  bool definitions_restart = false;
  std::optional<EndDefinition> end;
  std::optional<ProcessDefinition> process;
  std::vector<StringDefinition> strings;
  std::vector<FunctionDefinition> functions;
  std::vector<MappingDefinition> mappings;
  std::vector<StackDefinition> stacks;
  std::vector<ThreadDefinition> threads;
  std::vector<CodeDefinition> codes;
  std::vector<DeviceDefinition> devices;
  std::vector<KernelThreadDefinition> kernel_threads;
  std::vector<ParameterDefinition> parameters;
  std::vector<SourceStateDefinition> source_states;
  std::vector<LossDefinition> losses;
  std::vector<DetailChangeDefinition> detail_changes;
  std::vector<KernelStackDefinition> kernel_stacks;
  std::vector<AuditCountDefinition> audit_counts;
  std::vector<ManagedVariableDefinition> managed_variables;
  std::array<std::vector<std::string_view>, kEventKindCount> columns;  // checked: DecodeColumns succeeds on each

  void Clear();
};

// Decodes the fields of a chunk after its framing. All or nothing: on an error no part of the chunk may be used.
Status DecodeChunk(std::string_view fields, Chunk* chunk);

// Only the column messages of a chunk, in the order of the bytes: calls on_columns(kind, message) for each. Nothing is
// checked; throws protozero::exception on bytes that are no protobuf.
void ForEachColumns(std::string_view fields, const std::function<void(EventKind, std::string_view)>& on_columns);

}  // namespace uvmtrace::analyzer
