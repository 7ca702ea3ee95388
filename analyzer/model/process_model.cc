#include "analyzer/model/process_model.h"

#include <algorithm>
#include <limits>

namespace uvmtrace::analyzer {
namespace {

// CUDA numbers devices from 0; anything beyond this is damage, which must not become a table of its own.
constexpr int32_t kMaximumDevices = 1024;

uint64_t SaturatingAdd(uint64_t a, uint64_t b) { return a + b < a ? std::numeric_limits<uint64_t>::max() : a + b; }

int32_t DeviceOrdinal(uint64_t value) {
  const auto ordinal = static_cast<int64_t>(value);
  return ordinal >= kCpu && ordinal < kMaximumDevices ? static_cast<int32_t>(ordinal) : kUnknownDevice;
}

Direction DirectionOf(int32_t source, int32_t destination) {
  if (source == kCpu && destination >= 0) return Direction::kHostToDevice;
  if (source >= 0 && destination == kCpu) return Direction::kDeviceToHost;
  if (source >= 0 && destination >= 0) return Direction::kDeviceToDevice;
  return Direction::kUnknown;
}

void NoteSource(std::array<bool, 3>* seen, uint32_t source) { (*seen)[source < seen->size() ? source : 0] = true; }

}  // namespace

Status ProcessModel::ReadTrace(const std::string& path) {
  file = path;
  ChunkReader reader;
  Status status = reader.Open(path);
  if (!status.ok()) return status;
  ChunkFrame frame;
  Chunk chunk;
  while (reader.Next(&frame)) {
    // A chunk of another run cannot stand here; its ids would be taken for ours.
    const bool foreign = run_id.has_value() && *run_id != frame.run_id;
    if (foreign || !DecodeChunk(frame.fields, &chunk).ok()) {
      reader.RejectLast();
      continue;
    }
    run_id = frame.run_id;
    Apply(chunk);
  }
  read = reader.statistics();
  return reader.Finish();
}

void ProcessModel::Apply(const Chunk& chunk) {
  ApplyDefinitions(chunk);
  const auto each = [&](EventKind kind, auto apply) {
    for (const std::string_view message : chunk.columns[static_cast<size_t>(kind)]) {
      DecodeColumns(kind, message, &batch_);
      apply(batch_);
    }
  };
  // Calls before faults: an allocation stands in the same chunk as the faults on it, or earlier.
  each(EventKind::kClockSamples, [this](const ColumnBatch& batch) {
    clocks.AddSamples(batch);
    for (size_t row = 0; row < batch.rows; ++row) last_ns = std::max(last_ns, batch[clock_samples::kMonotonic][row]);
  });
  each(EventKind::kApiCalls, [this](const ColumnBatch& batch) { ApplyApiCalls(batch); });
  each(EventKind::kGpuFaults, [this](const ColumnBatch& batch) { ApplyGpuFaults(batch); });
  each(EventKind::kCpuFaults, [this](const ColumnBatch& batch) { ApplyCpuFaults(batch); });
  each(EventKind::kMigrations, [this](const ColumnBatch& batch) { ApplyMigrations(batch); });
  each(EventKind::kRegionEvents, [this](const ColumnBatch& batch) { ApplyRegionEvents(batch); });
  each(EventKind::kKernels, [this](const ColumnBatch& batch) { ApplyKernels(batch); });
  each(EventKind::kThreadSamples, [this](const ColumnBatch& batch) { ApplyThreadSamples(batch); });
  each(EventKind::kProcessSamples, [this](const ColumnBatch& batch) { ApplyProcessSamples(batch); });
  each(EventKind::kCounterSamples, [this](const ColumnBatch& batch) { ApplyCounterSamples(batch); });
}

void ProcessModel::ApplyDefinitions(const Chunk& chunk) {
  last_ns = std::max(last_ns, chunk.written_ns);
  if (chunk.process) {
    if (!process) clocks.SetStart(chunk.process->started_ns, chunk.process->started_realtime_ns);
    process = chunk.process;
  }
  if (chunk.end) {
    end = chunk.end;
    clean_end = chunk.end->clean;
  }
  // A restart repeats definitions: what is known stays.
  for (const StringDefinition& string : chunk.strings) strings.try_emplace(string.id, string.value);
  for (const FunctionDefinition& definition : chunk.functions) {
    FunctionStatistics& function = functions[definition.id];
    if (function.defined) continue;
    function.defined = true;
    function.name = definition.name;
    function.operation = definition.operation;
  }
  for (const MappingDefinition& mapping : chunk.mappings) {
    const bool known = std::any_of(mappings.begin(), mappings.end(),
                                   [&mapping](const MappingDefinition& other) { return other.id == mapping.id; });
    if (!known) mappings.push_back(mapping);
  }
  for (const StackDefinition& stack : chunk.stacks)
    stacks.try_emplace(stack.id, Stack{stack.pcs, mappings.size(), stack.codes, stack.lines});
  for (const CodeDefinition& code : chunk.codes) codes.try_emplace(code.id, code);
  for (const DeviceDefinition& device : chunk.devices) devices[device.ordinal] = device;
  for (const KernelThreadDefinition& thread : chunk.kernel_threads) kernel_threads[thread.id].definition = thread;
  for (const ParameterDefinition& parameter : chunk.parameters) parameters[parameter.name] = parameter.value;
  for (const SourceStateDefinition& source : chunk.source_states) sources[source.name] = source;
  for (const LossDefinition& loss : chunk.losses) losses[{loss.source, loss.reason}] += loss.count;
}

uint64_t ProcessModel::Monotonic(TimeBase clock, uint64_t time_ns) {
  const auto converted = clocks.ToMonotonic(clock, time_ns);
  if (converted) return *converted;
  // Nothing says when this was. Now is nearer to the truth than a number of another clock.
  ++unconverted_times;
  return last_ns;
}

DeviceActivity& ProcessModel::DeviceOf(int32_t ordinal) {
  if (last_device_activity_ == nullptr || ordinal != last_device_) {
    last_device_activity_ = &device_activity[ordinal];
    last_device_ = ordinal;
  }
  return *last_device_activity_;
}

void ProcessModel::ApplyApiCalls(const ColumnBatch& batch) {
  memory_calls_.clear();
  for (size_t row = 0; row < batch.rows; ++row) {
    FunctionStatistics& function = functions[static_cast<uint32_t>(batch[api_calls::kFunction][row])];
    const uint64_t start_ns = batch[api_calls::kStart][row];
    const uint64_t duration_ns = batch[api_calls::kDuration][row];
    const uint64_t bytes = batch[api_calls::kBytes][row];
    const bool failed = batch[api_calls::kResult][row] != 0;
    ++api_calls;
    ++function.count;
    function.failures += failed;
    function.total_ns += duration_ns;
    function.durations.Add(duration_ns);
    function.bytes += bytes;
    last_ns = std::max(last_ns, SaturatingAdd(start_ns, duration_ns));
    if (function.operation == Operation::kCopy && !failed) copied_bytes += bytes;
    if (!MemoryLedger::IsMemoryOperation(function.operation)) continue;
    const uint64_t kind = batch[api_calls::kMemoryKind][row];
    MemoryCall call;
    call.operation = function.operation;
    call.kind = kind < kMemoryKindCount ? static_cast<MemoryKind>(kind) : MemoryKind::kUnknown;
    call.start_ns = start_ns;
    call.end_ns = SaturatingAdd(start_ns, duration_ns);
    call.failed = failed;
    call.address = batch[api_calls::kAddress][row];
    call.bytes = bytes;
    call.handle = batch[api_calls::kOtherAddress][row];
    call.stack = static_cast<uint32_t>(batch[api_calls::kStack][row]);
    memory_calls_.push_back(call);
  }
  // Threads' calls stand one thread after the other; an address freed by one may have been given to the next.
  std::stable_sort(memory_calls_.begin(), memory_calls_.end(),
                   [](const MemoryCall& a, const MemoryCall& b) { return a.EffectNs() < b.EffectNs(); });
  for (const MemoryCall& call : memory_calls_) memory.Apply(call);
}

void ProcessModel::ApplyGpuFaults(const ColumnBatch& batch) {
  const auto starts = batch[gpu_faults::kStart];
  const auto durations = batch[gpu_faults::kDuration];
  const auto addresses = batch[gpu_faults::kAddress];
  const auto device_column = batch[gpu_faults::kDevice];
  const auto groups_column = batch[gpu_faults::kGroups];
  NoteSource(&fault_sources, batch.source);
  gpu_fault_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = Monotonic(batch.clock, starts[row]);
    const uint64_t groups = groups_column[row];
    DeviceActivity& device = DeviceOf(DeviceOrdinal(device_column[row]));
    MemoryActivity& activity = ActivityOf(memory.table().Find(addresses[row], time_ns));
    ++activity.gpu_fault_records;
    activity.gpu_fault_groups += groups;
    ++totals.gpu_fault_records;
    totals.gpu_fault_groups += groups;
    device.fault_groups += groups;
    device.kernels.AddActivity(time_ns, groups, 0);
    if (durations[row] == 0) {
      ++faults_without_end;
    } else {
      device.batches.Add(starts[row], SaturatingAdd(starts[row], durations[row]));
    }
  }
}

void ProcessModel::ApplyCpuFaults(const ColumnBatch& batch) {
  NoteSource(&fault_sources, batch.source);
  cpu_fault_rows += batch.rows;
  totals.cpu_faults += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = Monotonic(batch.clock, batch[cpu_faults::kStart][row]);
    ++ActivityOf(memory.table().Find(batch[cpu_faults::kAddress][row], time_ns)).cpu_faults;
  }
}

void ProcessModel::ApplyMigrations(const ColumnBatch& batch) {
  const auto starts = batch[migrations::kStart];
  const auto durations = batch[migrations::kDuration];
  const auto addresses = batch[migrations::kAddress];
  const auto bytes_column = batch[migrations::kBytes];
  const auto sources_column = batch[migrations::kSourceDevice];
  const auto destinations = batch[migrations::kDestinationDevice];
  const auto causes = batch[migrations::kCause];
  NoteSource(&migration_sources, batch.source);
  migration_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t bytes = bytes_column[row];
    const int32_t source = DeviceOrdinal(sources_column[row]);
    const int32_t destination = DeviceOrdinal(destinations[row]);
    const Direction direction = DirectionOf(source, destination);
    const auto cause =
        causes[row] < kMigrationCauseCount ? static_cast<MigrationCause>(causes[row]) : MigrationCause::kUnknown;
    const uint64_t time_ns = Monotonic(batch.clock, starts[row]);

    MigrationStatistics& statistics = this->migrations[static_cast<size_t>(direction)][static_cast<size_t>(cause)];
    statistics.bytes += bytes;
    ++statistics.count;
    statistics.busy.Add(time_ns, SaturatingAdd(time_ns, durations[row]));

    if (destination >= 0) {
      DeviceActivity& device = DeviceOf(destination);
      if (direction == Direction::kHostToDevice) device.kernels.AddActivity(time_ns, 0, bytes);
      if (cause == MigrationCause::kCoherence || cause == MigrationCause::kPrefetch ||
          cause == MigrationCause::kAccessCounters) {
        device.serviced_bytes += bytes;
      }
    }
    if (source >= 0 && cause == MigrationCause::kEviction) DeviceOf(source).serviced_bytes += bytes;

    memory.table().Split(addresses[row], bytes, time_ns, [&](Allocation* allocation, uint64_t address, uint64_t part) {
      MemoryActivity moved;
      Residency& residency = ResidencyOf(allocation);
      switch (direction) {
        case Direction::kHostToDevice:
          moved.host_to_device_bytes = part;
          break;
        case Direction::kDeviceToHost:
          moved.device_to_host_bytes = part;
          break;
        case Direction::kDeviceToDevice:
          moved.device_to_device_bytes = part;
          break;
        case Direction::kUnknown:
          break;
      }
      if (cause == MigrationCause::kEviction) moved.evicted_bytes = part;
      if (source >= 0) residency.Leave(source, address, part);
      if (destination >= 0) moved.refaulted_bytes = residency.Arrive(destination, address, part);
      ActivityOf(allocation).Add(moved);
      totals.Add(moved);
    });
  }
}

void ProcessModel::ApplyRegionEvents(const ColumnBatch& batch) {
  region_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    // Bytes of thrashing regions are no migrated bytes and no mapped ones: never add up values of different kinds.
    switch (batch[region_events::kKind][row]) {
      case 1:
        ++regions.thrashing_events;
        break;
      case 2:
        ++regions.throttling_events;
        break;
      case 3:
        ++regions.remote_maps;
        regions.remote_mapped_bytes += batch[region_events::kBytes][row];
        break;
      default:
        break;
    }
  }
}

void ProcessModel::ApplyKernels(const ColumnBatch& batch) {
  kernel_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t start_ns = Monotonic(batch.clock, batch[kernels::kStart][row]);
    const uint64_t end_ns = SaturatingAdd(start_ns, batch[kernels::kDuration][row]);
    DeviceOf(DeviceOrdinal(batch[kernels::kDevice][row]))
        .kernels.AddKernel(static_cast<uint32_t>(batch[kernels::kName][row]), start_ns, end_ns);
  }
}

void ProcessModel::ApplyThreadSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    SampledThread& thread = kernel_threads[static_cast<uint32_t>(batch[thread_samples::kKernelThread][row])];
    const uint64_t time_ns = batch[thread_samples::kTime][row];
    const uint64_t cpu_ns = batch[thread_samples::kCpu][row];
    const uint64_t wait_ns = batch[thread_samples::kWait][row];
    if (thread.samples++ == 0) {
      thread.first_ns = time_ns;
      thread.first_cpu_ns = cpu_ns;
      thread.first_wait_ns = wait_ns;
    } else if (time_ns < thread.last_ns) {
      continue;
    }
    thread.last_ns = time_ns;
    thread.last_cpu_ns = std::max(thread.last_cpu_ns, cpu_ns);
    thread.last_wait_ns = std::max(thread.last_wait_ns, wait_ns);
    last_ns = std::max(last_ns, time_ns);
  }
}

void ProcessModel::ApplyProcessSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t user_ns = batch[process_samples::kUser][row];
    const uint64_t system_ns = batch[process_samples::kSystem][row];
    if (times.samples++ == 0) {
      times.first_user_ns = user_ns;
      times.first_system_ns = system_ns;
    }
    times.last_user_ns = std::max(times.last_user_ns, user_ns);
    times.last_system_ns = std::max(times.last_system_ns, system_ns);
    times.tool_ns = std::max(times.tool_ns, batch[process_samples::kTool][row]);
    last_ns = std::max(last_ns, batch[process_samples::kTime][row]);
  }
}

void ProcessModel::ApplyCounterSamples(const ColumnBatch& batch) {
  const auto raise = [&batch](uint64_t* counter, size_t column, size_t row) {
    *counter = std::max(*counter, batch[column][row]);
  };
  for (size_t row = 0; row < batch.rows; ++row) {
    // A GPU's own rows are parts of the process's, which has its own.
    if (batch[counter_samples::kProcessor][row] != 0) continue;
    ++counters.samples;
    raise(&counters.host_to_device_bytes, counter_samples::kHostToDeviceBytes, row);
    raise(&counters.device_to_host_bytes, counter_samples::kDeviceToHostBytes, row);
    raise(&counters.cpu_faults, counter_samples::kCpuFaults, row);
    raise(&counters.gpu_faults, counter_samples::kGpuFaults, row);
    last_ns = std::max(last_ns, batch[counter_samples::kTime][row]);
  }
}

}  // namespace uvmtrace::analyzer
