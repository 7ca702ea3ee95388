// See chunk_encoder.h.
#include "record/chunk_encoder.h"

#include <string.h>

#include "record/chunk_format.h"

namespace uvmtrace {
namespace {

// Field numbers of the columns, in the order in which the Add functions fill them. The first is the one that is always
// there.
constexpr std::array<uint8_t, 4> kClockSampleFields = {1, 2, 3, 4};
constexpr std::array<uint8_t, 15> kApiCallFields = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<uint8_t, 11> kGpuFaultFields = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
constexpr std::array<uint8_t, 4> kReplayFields = {3, 4, 5, 6};
constexpr std::array<uint8_t, 5> kCpuFaultFields = {3, 4, 5, 6, 7};
constexpr std::array<uint8_t, 7> kMigrationFields = {3, 4, 5, 6, 7, 8, 9};
constexpr std::array<uint8_t, 8> kRegionFields = {3, 4, 5, 6, 7, 8, 9, 10};
constexpr std::array<uint8_t, 5> kKernelFields = {3, 4, 5, 6, 7};
constexpr std::array<uint8_t, 4> kThreadSampleFields = {1, 2, 3, 4};
constexpr std::array<uint8_t, 4> kProcessSampleFields = {1, 2, 3, 4};
constexpr std::array<uint8_t, 6> kCounterSampleFields = {1, 2, 3, 4, 5, 6};
constexpr std::array<uint8_t, 2> kMigrationWindowFields = {1, 2};
constexpr std::array<uint8_t, 9> kToolSampleFields = {1, 2, 3, 4, 5, 6, 7, 8, 9};
constexpr std::array<uint8_t, 4> kBottomHalfSampleFields = {1, 2, 3, 4};

uint64_t Duration(uint64_t start_ns, uint64_t end_ns) { return end_ns > start_ns ? end_ns - start_ns : 0; }

}  // namespace

int ChunkEncoder::Group(EventSource source, TimeBase clock) {
  const int source_index = static_cast<int>(source);
  const int clock_index = static_cast<int>(clock);
  if (source_index >= kSources || clock_index >= kClocks) return -1;
  return source_index * kClocks + clock_index;
}

size_t ChunkEncoder::AddApiCall(const ApiCallEvent& event, uint32_t stack) {
  if (!api_calls_.BeginRow()) return 0;
  api_calls_.Delta(0, event.start_ns);
  api_calls_.Unsigned(1, event.duration_ns);
  api_calls_.Unsigned(2, event.tid);
  api_calls_.Unsigned(3, event.function);
  api_calls_.Unsigned(4, event.driver_function);
  api_calls_.Unsigned(5, static_cast<uint64_t>(event.door));
  api_calls_.Signed(6, event.result);
  api_calls_.Delta(7, event.address);
  api_calls_.Unsigned(8, event.bytes);
  api_calls_.Delta(9, event.other_address);
  api_calls_.Unsigned(10, event.flags);
  api_calls_.Unsigned(11, event.stream);
  api_calls_.Signed(12, event.location);
  api_calls_.Unsigned(13, static_cast<uint64_t>(event.memory_kind));
  api_calls_.Unsigned(14, stack);
  return api_calls_.EndRow();
}

size_t ChunkEncoder::AddGpuFault(const GpuFaultEvent& event) {
  const int group = Group(event.source, event.clock);
  if (group < 0 || !gpu_faults_[group].BeginRow()) return 0;
  ColumnSet<11>& columns = gpu_faults_[group];
  columns.Delta(0, event.start_ns);
  columns.Unsigned(1, Duration(event.start_ns, event.end_ns));
  columns.Delta(2, event.address);
  columns.Signed(3, event.device);
  columns.Unsigned(4, event.access);
  columns.Unsigned(5, event.groups);
  columns.Unsigned(6, event.batch);
  columns.Unsigned(7, event.fault_type);
  columns.Unsigned(8, event.client_type);
  columns.Unsigned(9, event.gpc);
  columns.Unsigned(10, event.client);
  return columns.EndRow();
}

size_t ChunkEncoder::AddReplay(const ReplayEvent& event) {
  const int group = Group(event.source, event.clock);
  if (group < 0 || !replays_[group].BeginRow()) return 0;
  ColumnSet<4>& columns = replays_[group];
  columns.Delta(0, event.time_ns);
  columns.Signed(1, event.device);
  columns.Unsigned(2, event.batch);
  columns.Unsigned(3, event.client_type);
  return columns.EndRow();
}

size_t ChunkEncoder::AddCpuFault(const CpuFaultEvent& event) {
  const int group = Group(event.source, event.clock);
  if (group < 0 || !cpu_faults_[group].BeginRow()) return 0;
  ColumnSet<5>& columns = cpu_faults_[group];
  columns.Delta(0, event.start_ns);
  columns.Delta(1, event.address);
  columns.Delta(2, event.pc);
  columns.Unsigned(3, event.access);
  columns.Unsigned(4, event.tid);
  return columns.EndRow();
}

size_t ChunkEncoder::AddMigration(const MigrationEvent& event) {
  const int group = Group(event.source, event.clock);
  if (group < 0 || !migrations_[group].BeginRow()) return 0;
  ColumnSet<7>& columns = migrations_[group];
  columns.Delta(0, event.start_ns);
  columns.Unsigned(1, Duration(event.start_ns, event.end_ns));
  columns.Delta(2, event.address);
  columns.Unsigned(3, event.bytes);
  columns.Signed(4, event.source_device);
  columns.Signed(5, event.destination_device);
  columns.Unsigned(6, event.cause);
  return columns.EndRow();
}

size_t ChunkEncoder::AddRegion(const RegionEvent& event) {
  const int group = Group(event.source, event.clock);
  if (group < 0 || !region_events_[group].BeginRow()) return 0;
  ColumnSet<8>& columns = region_events_[group];
  columns.Delta(0, event.start_ns);
  columns.Unsigned(1, Duration(event.start_ns, event.end_ns));
  columns.Delta(2, event.address);
  columns.Unsigned(3, event.bytes);
  columns.Unsigned(4, static_cast<uint64_t>(event.kind));
  columns.Signed(5, event.source_device);
  columns.Signed(6, event.destination_device);
  columns.Unsigned(7, event.cause);
  return columns.EndRow();
}

size_t ChunkEncoder::AddKernel(const KernelEvent& event) {
  const int group = Group(event.source, event.clock);
  if (group < 0 || !kernels_[group].BeginRow()) return 0;
  ColumnSet<5>& columns = kernels_[group];
  columns.Delta(0, event.start_ns);
  columns.Unsigned(1, Duration(event.start_ns, event.end_ns));
  columns.Signed(2, event.device);
  columns.Unsigned(3, event.stream);
  columns.Unsigned(4, event.name);
  return columns.EndRow();
}

size_t ChunkEncoder::AddThreadSample(const ThreadSampleEvent& event) {
  if (!thread_samples_.BeginRow()) return 0;
  thread_samples_.Delta(0, event.time_ns);
  thread_samples_.Unsigned(1, event.kernel_thread);
  thread_samples_.Unsigned(2, event.cpu_ns);
  thread_samples_.Unsigned(3, event.wait_ns);
  return thread_samples_.EndRow();
}

size_t ChunkEncoder::AddProcessSample(const ProcessSampleEvent& event) {
  if (!process_samples_.BeginRow()) return 0;
  process_samples_.Delta(0, event.time_ns);
  process_samples_.Unsigned(1, event.user_ns);
  process_samples_.Unsigned(2, event.system_ns);
  process_samples_.Unsigned(3, event.tool_ns);
  return process_samples_.EndRow();
}

size_t ChunkEncoder::AddCounterSample(const CounterSampleEvent& event) {
  if (!counter_samples_.BeginRow()) return 0;
  counter_samples_.Delta(0, event.time_ns);
  counter_samples_.Unsigned(1, event.host_to_device_bytes);
  counter_samples_.Unsigned(2, event.device_to_host_bytes);
  counter_samples_.Unsigned(3, event.cpu_faults);
  counter_samples_.Unsigned(4, event.gpu_faults);
  counter_samples_.Unsigned(5, event.processor);
  return counter_samples_.EndRow();
}

size_t ChunkEncoder::AddMigrationWindow(const MigrationWindowEvent& event) {
  if (!migration_windows_.BeginRow()) return 0;
  migration_windows_.Delta(0, event.start_ns);
  migration_windows_.Unsigned(1, Duration(event.start_ns, event.end_ns));
  return migration_windows_.EndRow();
}

size_t ChunkEncoder::AddToolSample(const ToolSampleEvent& event) {
  if (!tool_samples_.BeginRow()) return 0;
  tool_samples_.Delta(0, event.time_ns);
  tool_samples_.Unsigned(1, event.calls_ns);
  tool_samples_.Unsigned(2, event.start_ns);
  tool_samples_.Unsigned(3, event.writer_ns);
  tool_samples_.Unsigned(4, event.cupti_ns);
  tool_samples_.Unsigned(5, event.queue_ns);
  tool_samples_.Unsigned(6, event.sampler_ns);
  tool_samples_.Unsigned(7, event.profiler_ns);
  tool_samples_.Unsigned(8, event.bytes_written);
  return tool_samples_.EndRow();
}

size_t ChunkEncoder::AddBottomHalfSample(const BottomHalfSampleEvent& event) {
  if (!bottom_half_samples_.BeginRow()) return 0;
  bottom_half_samples_.Delta(0, event.time_ns);
  bottom_half_samples_.Unsigned(1, event.kernel_thread);
  bottom_half_samples_.Unsigned(2, event.kernel_stack);
  bottom_half_samples_.Unsigned(3, event.weight_ns);
  return bottom_half_samples_.EndRow();
}

size_t ChunkEncoder::AddClockSample(const ClockSampleEvent& event) {
  if (!clock_samples_.BeginRow()) return 0;
  clock_samples_.Delta(0, event.monotonic_ns);
  clock_samples_.Delta(1, event.realtime_ns);
  clock_samples_.Delta(2, event.monotonic_raw_ns);
  clock_samples_.Delta(3, event.cupti_ns);
  return clock_samples_.EndRow();
}

bool ChunkEncoder::Add(EventType type, const void* event, size_t event_bytes, uint32_t stack) {
  size_t row_bytes = 0;
  const auto add = [&]<typename Event>(Event copy, auto&& encode) {
    if (event_bytes != sizeof(Event)) return;
    memcpy(&copy, event, sizeof(Event));  // the ring's memory holds bytes, not objects
    row_bytes = encode(copy);
  };
  switch (type) {
    case EventType::kApiCall:
      add(ApiCallEvent(), [&](const ApiCallEvent& copy) { return AddApiCall(copy, stack); });
      break;
    case EventType::kGpuFault:
      add(GpuFaultEvent(), [&](const GpuFaultEvent& copy) { return AddGpuFault(copy); });
      break;
    case EventType::kCpuFault:
      add(CpuFaultEvent(), [&](const CpuFaultEvent& copy) { return AddCpuFault(copy); });
      break;
    case EventType::kMigration:
      add(MigrationEvent(), [&](const MigrationEvent& copy) { return AddMigration(copy); });
      break;
    case EventType::kRegion:
      add(RegionEvent(), [&](const RegionEvent& copy) { return AddRegion(copy); });
      break;
    case EventType::kKernel:
      add(KernelEvent(), [&](const KernelEvent& copy) { return AddKernel(copy); });
      break;
    case EventType::kThreadSample:
      add(ThreadSampleEvent(), [&](const ThreadSampleEvent& copy) { return AddThreadSample(copy); });
      break;
    case EventType::kProcessSample:
      add(ProcessSampleEvent(), [&](const ProcessSampleEvent& copy) { return AddProcessSample(copy); });
      break;
    case EventType::kCounterSample:
      add(CounterSampleEvent(), [&](const CounterSampleEvent& copy) { return AddCounterSample(copy); });
      break;
    case EventType::kClockSample:
      add(ClockSampleEvent(), [&](const ClockSampleEvent& copy) { return AddClockSample(copy); });
      break;
    case EventType::kReplay:
      add(ReplayEvent(), [&](const ReplayEvent& copy) { return AddReplay(copy); });
      break;
    case EventType::kMigrationWindow:
      add(MigrationWindowEvent(), [&](const MigrationWindowEvent& copy) { return AddMigrationWindow(copy); });
      break;
    case EventType::kToolSample:
      add(ToolSampleEvent(), [&](const ToolSampleEvent& copy) { return AddToolSample(copy); });
      break;
    case EventType::kBottomHalfSample:
      add(BottomHalfSampleEvent(), [&](const BottomHalfSampleEvent& copy) { return AddBottomHalfSample(copy); });
      break;
  }
  if (row_bytes == 0) return false;
  data_bytes_ += row_bytes;
  ++rows_.of[static_cast<int>(type)];
  return true;
}

void ChunkEncoder::AppendAndClear(WireBuffer& out) {
  clock_samples_.Append(out, chunk_field::kClockSamples, kClockSampleFields, 0, 0);
  api_calls_.Append(out, chunk_field::kApiCalls, kApiCallFields, 0, 0);
  for (int group = 0; group < kGroups; ++group) {
    const uint32_t clock = group % kClocks;
    const uint32_t source = group / kClocks;
    gpu_faults_[group].Append(out, chunk_field::kGpuFaults, kGpuFaultFields, clock, source);
    replays_[group].Append(out, chunk_field::kReplays, kReplayFields, clock, source);
    cpu_faults_[group].Append(out, chunk_field::kCpuFaults, kCpuFaultFields, clock, source);
    migrations_[group].Append(out, chunk_field::kMigrations, kMigrationFields, clock, source);
    region_events_[group].Append(out, chunk_field::kRegionEvents, kRegionFields, clock, source);
    kernels_[group].Append(out, chunk_field::kKernels, kKernelFields, clock, source);
  }
  thread_samples_.Append(out, chunk_field::kThreadSamples, kThreadSampleFields, 0, 0);
  process_samples_.Append(out, chunk_field::kProcessSamples, kProcessSampleFields, 0, 0);
  counter_samples_.Append(out, chunk_field::kCounterSamples, kCounterSampleFields, 0, 0);
  migration_windows_.Append(out, chunk_field::kMigrationWindows, kMigrationWindowFields, 0, 0);
  tool_samples_.Append(out, chunk_field::kToolSamples, kToolSampleFields, 0, 0);
  bottom_half_samples_.Append(out, chunk_field::kBottomHalfSamples, kBottomHalfSampleFields, 0, 0);
  rows_ = {};
  data_bytes_ = 0;
}

}  // namespace uvmtrace
