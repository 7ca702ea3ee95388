// A trace as tests of the sources look at it. Kept apart from the recorder's headers: the generated classes of
// uvmtrace.proto have the names that the recorder gives to the same things.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace sources_test {

struct Fault {
  int64_t start_ns;
  uint64_t duration_ns;
  uint64_t address;
  int device;
  int access;
  uint64_t groups;
  uint64_t pc;
  uint32_t batch = 0;
  uint32_t tid = 0;
  int clock = 0;
  int source = 0;
};
struct Replay {
  int64_t time_ns;
  int device;
  uint32_t batch;
};
struct Window {
  int64_t start_ns;
  uint64_t duration_ns;
};
struct MemoryArea {
  uint64_t start;
  uint64_t end;
  int kind;
  std::string name;
  uint64_t seen_ns;
  std::map<uint32_t, uint64_t> node_bytes;
};
struct DetailChange {
  std::string detail;
  std::string reason;
};
struct Migration {
  int64_t start_ns;
  uint64_t duration_ns;
  uint64_t address;
  uint64_t bytes;
  int source;
  int destination;
  int cause;
  int clock;
  int source_of_event;
};
struct Region {
  int64_t start_ns;
  uint64_t duration_ns;
  uint64_t bytes;
  int kind;
  int source;
  int destination;
  unsigned cause;
};
struct Kernel {
  int64_t start_ns;
  uint64_t duration_ns;
  int device;
  uint64_t stream;
  std::string name;
};
struct Copy {
  uint64_t bytes;
  uint64_t duration_ns;
  int kind;
  int source_memory;
  int destination_memory;
  uint32_t asynchronous;
  uint32_t correlation;
};
struct Synchronization {
  uint64_t duration_ns;
  int kind;
};
struct Launch {
  uint32_t tid;
  uint32_t correlation;
};
struct KernelThread {
  uint32_t tid;
  uint64_t start_ticks;
  std::string name;
  int role;
  std::string device_uuid;  // in hex
};
struct ThreadSample {
  int64_t time_ns;
  uint32_t kernel_thread;
  uint64_t cpu_ns;
  uint64_t wait_ns;
};
struct ProcessSample {
  int64_t time_ns;
  uint64_t user_ns;
  uint64_t system_ns;
  uint64_t tool_ns;
};
struct CounterSample {
  int64_t time_ns;
  uint64_t host_to_device_bytes;
  uint64_t device_to_host_bytes;
  uint64_t cpu_faults;
  uint64_t gpu_faults;
  uint32_t processor;
};
struct ClockSample {
  int64_t monotonic_ns;
  int64_t realtime_ns;
  int64_t cupti_ns;
  int64_t monotonic_raw_ns;
};
struct ToolSample {
  int64_t time_ns;
  uint64_t calls_ns;
  uint64_t sampler_ns;
  uint64_t bytes_written;
};
struct BottomHalfSample {
  int64_t time_ns;
  uint32_t kernel_thread;
  uint32_t kernel_stack;
  uint64_t weight_ns;
};
struct State {
  int state = -1;
  std::string reason;
};
inline constexpr int kActive = 1;
inline constexpr int kUnavailable = 2;
inline constexpr int kDisabled = 3;
inline constexpr int kIdle = 4;
inline constexpr int kStopped = 5;

struct TraceContents {
  std::vector<Fault> gpu_faults;
  std::vector<Fault> cpu_faults;
  std::vector<Migration> migrations;
  std::vector<Region> regions;
  std::vector<Kernel> kernels;
  std::vector<Copy> copies;
  std::vector<Synchronization> synchronizations;
  std::vector<Launch> launches;
  std::map<uint32_t, KernelThread> kernel_threads;
  std::vector<ThreadSample> thread_samples;
  std::vector<ProcessSample> process_samples;
  std::vector<CounterSample> counter_samples;
  std::vector<ClockSample> clock_samples;
  std::vector<Replay> replays;
  std::vector<Window> windows;
  std::vector<MemoryArea> memory_areas;
  std::vector<DetailChange> detail_changes;
  std::vector<ToolSample> tool_samples;
  std::vector<BottomHalfSample> bottom_half_samples;
  std::map<uint32_t, std::vector<std::string>> kernel_stacks;  // innermost first
  std::map<std::string, State> states;                         // in force at the end
  std::map<std::string, std::vector<State>> history;           // in the order of the file
  std::map<std::string, std::string> parameters;
  std::vector<std::string> threads;  // names
  size_t api_calls = 0;
  std::map<std::string, uint64_t> losses;  // by "source: reason"
};

// Fails the running test if the file is no trace.
TraceContents ReadTrace(const std::string& path);

// Runs `scenario` in a forked process under a Recorder that writes to a new file, and reads that. Each scenario thus
// has a process of its own: the sources and the recorder live once in a process. The scenario returns an empty string
// or what went wrong.
TraceContents RecordInChild(const std::function<std::string()>& scenario);

}  // namespace sources_test
