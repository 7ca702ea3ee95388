// Builds traces for the analyzer's tests, with libprotobuf's generated classes: an encoder that shares no code with the
// reader under test, and that follows proto/uvmtrace.proto alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proto/uvmtrace.pb.h"

namespace uvmtrace::testing {

inline constexpr uint64_t kRunId = 0x1122334455667788;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// Bit by bit, as the polynomial says.
uint32_t ReferenceCrc32c(std::string_view bytes);

// One frame of a file. `fields` is what follows the framing.
std::string Frame(std::string_view fields, uint64_t sequence, uint64_t run_id = kRunId, bool padded_length = true,
                  char version = 1);

struct TraceOptions {
  uint32_t pid = 100;
  uint32_t parent_pid = 1;
  std::string detail = "full";
  bool simulated = false;
  uint64_t started_ns = 1'000'000'000;
  uint64_t started_realtime_ns = 0;
  std::string host = "host";
};

class TraceBuilder {
 public:
  explicit TraceBuilder(const TraceOptions& options = {});

  // The chunk under construction, for what has no method of its own.
  Chunk& chunk() { return chunk_; }

  uint32_t Function(const std::string& name, Operation operation);
  void Source(const std::string& name, State state, const std::string& reason = "");
  // "cupti" and its counters, all active.
  void CuptiActive();
  void Device(uint32_t ordinal, uint64_t total_memory_bytes, char uuid_byte = 0x11);

  struct Call {
    uint32_t function = 0;
    uint64_t start_ns = 0;
    uint64_t duration_ns = 1000;
    int32_t result = 0;
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint64_t other_address = 0;
    MemoryKind kind = MEMORY_KIND_UNKNOWN;
    uint32_t stack = 0;
    uint32_t tid = 1;
    Door door = DOOR_UNKNOWN;
    uint64_t flags = 0;
    uint64_t stream = 0;
    int32_t location = 0;
  };
  void Add(const Call& call) { calls_.push_back(call); }
  void Allocate(MemoryKind kind, uint64_t address, uint64_t bytes, uint64_t end_ns, uint32_t stack = 0);
  void Free(uint64_t address, uint64_t start_ns);

  void GpuFault(uint64_t start_ns, uint64_t end_ns, uint64_t address, uint64_t groups = 1, int32_t device = 0);
  void CpuFault(uint64_t start_ns, uint64_t address);
  void Migrate(uint64_t start_ns, uint64_t end_ns, uint64_t address, uint64_t bytes, int32_t source,
               int32_t destination, MigrationCause cause = MIGRATION_CAUSE_COHERENCE);
  void Kernel(const std::string& name, uint64_t start_ns, uint64_t end_ns, int32_t device = 0);
  void Region(RegionEventKind kind, uint64_t start_ns, uint64_t address, uint64_t bytes);
  void KernelThread(uint32_t id, uint32_t tid, uint64_t start_ticks, const std::string& name, ThreadRole role,
                    char uuid_byte = 0x11);
  void ThreadSample(uint32_t id, uint64_t time_ns, uint64_t cpu_ns, uint64_t wait_ns);
  void ProcessSample(uint64_t time_ns, uint64_t user_ns, uint64_t system_ns, uint64_t tool_ns);
  // processor: 0 all of the process, n the CUDA device n - 1.
  void CounterSample(uint64_t time_ns, uint64_t host_to_device_bytes, uint64_t device_to_host_bytes,
                     uint64_t cpu_faults, uint64_t gpu_faults, uint32_t processor = 0);
  void ClockSample(uint64_t monotonic_ns, uint64_t realtime_ns, uint64_t monotonic_raw_ns, uint64_t cupti_ns);
  // What the driver's event queue tells.
  void QueueFault(uint64_t time_ns, uint64_t address, uint32_t batch, int32_t device = 0, Access access = ACCESS_READ);
  void Replay(uint64_t time_ns, uint32_t batch, int32_t device = 0);
  void QueueCpuFault(uint64_t time_ns, uint64_t address, uint64_t pc, uint32_t tid);
  void FatalFault(uint64_t time_ns, uint64_t address, uint32_t reason, int32_t device = 0);
  void Window(uint64_t start_ns, uint64_t end_ns);
  void DetailChange(uint64_t time_ns, const std::string& detail, const std::string& reason);
  // calls, start, writer, cupti, queue, sampler, profiler
  void ToolSample(uint64_t time_ns, const std::vector<uint64_t>& times_ns, uint64_t bytes_written);
  // frames from the innermost outwards.
  void KernelStack(uint32_t id, const std::vector<std::string>& frames);
  void BottomHalfSample(uint64_t time_ns, uint32_t thread, uint32_t stack, uint64_t weight_ns);
  void Audit(const std::string& function, uint64_t happened, uint64_t seen);
  void Lose(const std::string& source, const std::string& reason, uint64_t count);
  // Source of the migrations and region events of the open chunk.
  void SetSource(EventSource source) { source_ = source; }

  // Clock of all events of the open chunk.
  void SetClock(TimeBase clock) { clock_ = clock; }

  // Closes the chunk; the next one has the next sequence number.
  void EndChunk(uint64_t written_ns = 0);
  // Leaves out a sequence number, as a lost chunk does.
  void SkipSequence() { ++sequence_; }

  // Ends the trace with a clean end and returns the file.
  std::string Finish(uint64_t written_ns = 0);
  // What was framed so far.
  const std::string& bytes() const { return bytes_; }
  // Offsets at which frames start.
  const std::vector<size_t>& frames() const { return frames_; }

 private:
  struct MigrationRow {
    uint64_t start_ns, end_ns, address, bytes;
    int32_t source, destination;
    MigrationCause cause;
  };
  struct FaultRow {
    uint64_t start_ns, end_ns, address, groups;
    int32_t device;
  };
  struct QueueFaultRow {
    uint64_t time_ns, address;
    uint32_t batch;
    int32_t device;
    Access access;
  };

  Chunk chunk_;
  std::string bytes_;
  std::vector<size_t> frames_;
  uint64_t sequence_ = 0;
  uint32_t next_function_ = 1;
  uint32_t next_string_ = 1;
  uint32_t allocate_ = 0;
  uint32_t free_ = 0;
  TimeBase clock_ = TIME_BASE_MONOTONIC;
  std::vector<Call> calls_;
  std::vector<MigrationRow> migrations_;
  std::vector<FaultRow> gpu_faults_;
  std::vector<QueueFaultRow> queue_faults_;
  EventSource source_ = EVENT_SOURCE_CUPTI;
};

// A file in memory, with a path that child processes can open too, that goes with this object.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view bytes);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }
  // Replaces the content.
  void Write(std::string_view bytes);

 private:
  int file_ = -1;
  std::string path_;
};

// A small trace in which everything occurs: calls, faults, migrations of every direction, evictions, refaults, kernels,
// driver threads, losses, several chunks.
TraceBuilder SampleTrace();

// The same kind of program as the driver's event queue tells it, with everything that only the queue, the counters and
// the sampler of the driver's threads know. What it holds adds up: 12 MiB to the GPU, 8 MiB back.
TraceBuilder QueueSampleTrace(bool replays = true);

// A program that was recorded in full for a while and then in windows: 64 MiB went to the GPU while all was recorded,
// 1 GiB afterwards, of which `windows` windows caught 1 MiB each; a quarter of that was faulted in, the rest
// prefetched.
TraceBuilder WindowSampleTrace(int windows = 20);

// One of every hazard.
TraceBuilder HazardSampleTrace();

}  // namespace uvmtrace::testing
