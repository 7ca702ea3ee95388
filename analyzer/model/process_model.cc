// Definitions, and what faulted, moved and ran. Calls are in process_calls.cc, samples in process_samples.cc.
#include "analyzer/model/process_model.h"

#include <algorithm>
#include <limits>

#include "analyzer/model/event_values.h"

namespace uvmtrace::analyzer {
namespace {

Direction DirectionOf(int32_t source, int32_t destination) {
  if (source == kCpu && destination >= 0) return Direction::kHostToDevice;
  if (source >= 0 && destination == kCpu) return Direction::kDeviceToHost;
  if (source >= 0 && destination >= 0) return Direction::kDeviceToDevice;
  return Direction::kUnknown;
}

// What a trace calls its source can only be one that records.
size_t SourceIndex(uint32_t source) { return source < static_cast<uint32_t>(EventSource::kReconstructed) ? source : 0; }

constexpr auto kQueue = static_cast<uint32_t>(EventSource::kDriverQueue);

// Changes are written once, but a chunk may be read that repeats them; more than these are damage.
constexpr size_t kMaximumDetailChanges = 4096;

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
    if (chunk.process) ReconstructIfWanted(path, *chunk.process);
    Apply(chunk);
    AddReconstructedUntil(chunk.written_ns);
  }
  AddReconstructedUntil(std::numeric_limits<uint64_t>::max());
  Finish();
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
  // A replay ends a batch, so its faults come first; a window is there before what was recorded in it.
  each(EventKind::kReplays, [this](const ColumnBatch& batch) { ApplyReplays(batch); });
  each(EventKind::kMigrationWindows, [this](const ColumnBatch& batch) { ApplyMigrationWindows(batch); });
  each(EventKind::kCpuFaults, [this](const ColumnBatch& batch) { ApplyCpuFaults(batch); });
  each(EventKind::kMigrations, [this](const ColumnBatch& batch) { ApplyMigrations(batch); });
  each(EventKind::kRegionEvents, [this](const ColumnBatch& batch) { ApplyRegionEvents(batch); });
  each(EventKind::kKernels, [this](const ColumnBatch& batch) { ApplyKernels(batch); });
  each(EventKind::kThreadSamples, [this](const ColumnBatch& batch) { ApplyThreadSamples(batch); });
  each(EventKind::kProcessSamples, [this](const ColumnBatch& batch) { ApplyProcessSamples(batch); });
  each(EventKind::kCounterSamples, [this](const ColumnBatch& batch) { ApplyCounterSamples(batch); });
  each(EventKind::kToolSamples, [this](const ColumnBatch& batch) { ApplyToolSamples(batch); });
  each(EventKind::kBottomHalfSamples, [this](const ColumnBatch& batch) { ApplyBottomHalfSamples(batch); });
  hazards.EndChunk(&memory.table());
}

void ProcessModel::ApplyDefinitions(const Chunk& chunk) {
  last_ns = std::max(last_ns, chunk.written_ns);
  if (chunk.process) {
    if (!process) clocks.SetStart(chunk.process->started_ns, chunk.process->started_realtime_ns);
    process = chunk.process;
    starts_sampled_ = process->detail == "sampled";
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
    function.layer = definition.layer;
    function.operation = definition.operation;
    function.role = RoleOfFunction(function.name);
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
  for (const ThreadDefinition& thread : chunk.threads) thread_names[thread.tid] = thread.name;
  for (const KernelStackDefinition& stack : chunk.kernel_stacks) kernel_stacks.try_emplace(stack.id, stack.frames);
  for (const DetailChangeDefinition& change : chunk.detail_changes) {
    const auto same = [&change](const DetailChangeDefinition& other) {
      return other.time_ns == change.time_ns && other.detail == change.detail;
    };
    if (detail_changes.size() >= kMaximumDetailChanges ||
        std::any_of(detail_changes.begin(), detail_changes.end(), same)) {
      continue;
    }
    const auto later = [](uint64_t time_ns, const DetailChangeDefinition& other) { return time_ns < other.time_ns; };
    detail_changes.insert(std::upper_bound(detail_changes.begin(), detail_changes.end(), change.time_ns, later),
                          change);
  }
  memory.SetDevices(devices.size());
  for (const AuditCountDefinition& count : chunk.audit_counts) audit_counts[count.function] = count;
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

bool ProcessModel::IsSampledAfterChanges(uint64_t time_ns) const {
  bool in_sample = starts_sampled_;
  for (const DetailChangeDefinition& change : detail_changes) {
    if (change.time_ns > time_ns) break;
    in_sample = change.detail == "sampled";
  }
  return in_sample;
}

void ProcessModel::ApplyGpuFaults(const ColumnBatch& batch) {
  const auto starts = batch[gpu_faults::kStart];
  const auto durations = batch[gpu_faults::kDuration];
  const auto addresses = batch[gpu_faults::kAddress];
  const auto device_column = batch[gpu_faults::kDevice];
  const auto groups_column = batch[gpu_faults::kGroups];
  const bool queue = batch.source == kQueue;
  gpu_fault_sources[SourceIndex(batch.source)] += batch.rows;
  gpu_fault_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = Monotonic(batch.clock, starts[row]);
    DeviceActivity& device = DeviceOf(DeviceOrdinal(device_column[row]));
    Allocation* allocation = memory.table().Find(addresses[row], time_ns);
    if (allocation != nullptr) hazards.Touch(allocation, time_ns);
    MemoryActivity& activity = ActivityOf(allocation);
    if (queue) {
      const uint64_t access = batch[gpu_faults::kAccess][row];
      ++activity.gpu_fault_entries;
      ++totals.gpu_fault_entries;
      ++device.entries[access < kAccessCount ? access : 0];
      device.kernels.AddActivity(time_ns, {0, 1, 0, 0});
      device.queue_batches.AddFault(static_cast<uint32_t>(batch[gpu_faults::kBatch][row]), starts[row]);
      continue;
    }
    const uint64_t groups = groups_column[row];
    ++activity.gpu_fault_records;
    activity.gpu_fault_groups += groups;
    ++totals.gpu_fault_records;
    totals.gpu_fault_groups += groups;
    device.fault_groups += groups;
    ++device.fault_records;
    device.kernels.AddActivity(time_ns, {groups, 0, 0, 0});
    if (durations[row] == 0) {
      ++faults_without_end;
    } else {
      device.batches.Add(starts[row], SaturatingAdd(starts[row], durations[row]));
    }
  }
}

void ProcessModel::ApplyReplays(const ColumnBatch& batch) {
  replay_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    DeviceOf(DeviceOrdinal(batch[replays::kDevice][row]))
        .queue_batches.AddReplay(static_cast<uint32_t>(batch[replays::kBatch][row]), batch[replays::kTime][row]);
  }
}

void ProcessModel::ApplyCpuFaults(const ColumnBatch& batch) {
  const bool queue = batch.source == kQueue;
  cpu_fault_sources[SourceIndex(batch.source)] += batch.rows;
  cpu_fault_rows += batch.rows;
  totals.cpu_faults += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t time_ns = Monotonic(batch.clock, batch[cpu_faults::kStart][row]);
    Allocation* allocation = memory.table().Find(batch[cpu_faults::kAddress][row], time_ns);
    if (allocation != nullptr) hazards.Touch(allocation, time_ns);
    ++ActivityOf(allocation).cpu_faults;
    if (queue) {
      cpu_fault_sites.Add(batch[cpu_faults::kPc][row], static_cast<uint32_t>(batch[cpu_faults::kTid][row]));
    }
  }
}

void ProcessModel::ApplyMigrationWindows(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t start_ns = batch[migration_windows::kStart][row];
    sampled.AddWindow(start_ns, SaturatingAdd(start_ns, batch[migration_windows::kDuration][row]));
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
  migration_rows += batch.rows;
  if (reconstruction) return;
  migration_sources[SourceIndex(batch.source)] += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    MigrationEvent event;
    event.time_ns = Monotonic(batch.clock, starts[row]);
    event.duration_ns = durations[row];
    event.address = addresses[row];
    event.bytes = bytes_column[row];
    event.source = DeviceOrdinal(sources_column[row]);
    event.destination = DeviceOrdinal(destinations[row]);
    event.cause =
        causes[row] < kMigrationCauseCount ? static_cast<MigrationCause>(causes[row]) : MigrationCause::kUnknown;
    AddMigration(event, static_cast<EventSource>(SourceIndex(batch.source)));
  }
}

void ProcessModel::AddMigration(const MigrationEvent& event, EventSource event_source) {
  const uint64_t bytes = event.bytes;
  const int32_t source = event.source;
  const int32_t destination = event.destination;
  const Direction direction = DirectionOf(source, destination);
  const MigrationCause cause = event.cause;
  const uint64_t time_ns = event.time_ns;
  {
    MigrationStatistics& statistics = this->migrations[static_cast<size_t>(direction)][static_cast<size_t>(cause)];
    statistics.bytes += bytes;
    ++statistics.count;
    statistics.busy.Add(time_ns, SaturatingAdd(time_ns, event.duration_ns));
    migrated_by_source[static_cast<size_t>(event_source)][static_cast<size_t>(direction)] += bytes;
    const bool in_sample = !reconstruction && IsSampled(time_ns);
    const uint64_t sampled_bytes = in_sample ? bytes : 0;
    if (in_sample) {
      statistics.sampled_bytes += bytes;
      ++statistics.sampled_count;
      sampled.Add(time_ns, static_cast<size_t>(direction), static_cast<size_t>(cause), bytes);
    }

    if (destination >= 0) {
      DeviceActivity& device = DeviceOf(destination);
      if (direction == Direction::kHostToDevice) device.kernels.AddActivity(time_ns, {0, 0, bytes, sampled_bytes});
      if (cause == MigrationCause::kCoherence || cause == MigrationCause::kPrefetch ||
          cause == MigrationCause::kAccessCounters) {
        device.serviced_bytes += bytes;
        device.sampled_arrived_bytes += sampled_bytes;
      }
    }
    if (source >= 0 && cause == MigrationCause::kEviction) {
      DeviceActivity& device = DeviceOf(source);
      device.serviced_bytes += bytes;
      device.sampled_evicted_bytes += sampled_bytes;
    }

    memory.table().Split(event.address, bytes, time_ns, [&](Allocation* allocation, uint64_t address, uint64_t part) {
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
      if (in_sample) {
        moved.sampled_host_to_device_bytes = moved.host_to_device_bytes;
        moved.sampled_device_to_host_bytes = moved.device_to_host_bytes;
        moved.sampled_device_to_device_bytes = moved.device_to_device_bytes;
        moved.sampled_evicted_bytes = moved.evicted_bytes;
      }
      if (allocation != nullptr && cause == MigrationCause::kUser && destination >= 0) {
        // A record over several allocations is shared out by bytes.
        const auto share = bytes == part
                               ? event.duration_ns
                               : static_cast<uint64_t>(static_cast<double>(event.duration_ns) *
                                                       static_cast<double>(part) / static_cast<double>(bytes));
        hazards.Moved(*allocation, time_ns, part, share);
      }
      ActivityOf(allocation).AddBytes(moved);
      totals.AddBytes(moved);
    });
  }
}

void ProcessModel::ApplyRegionEvents(const ColumnBatch& batch) {
  region_rows += batch.rows;
  region_sources[SourceIndex(batch.source)] += batch.rows;
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
      case 4:
        ++regions.read_duplicates;
        regions.read_duplicated_bytes += batch[region_events::kBytes][row];
        break;
      case 5:
        regions.read_duplicate_invalidated_bytes += batch[region_events::kBytes][row];
        break;
      case 6:
        AddFatalFault(batch, row);
        break;
      default:
        break;
    }
  }
}

void ProcessModel::AddFatalFault(const ColumnBatch& batch, size_t row) {
  ++regions.fatal_faults;
  if (fatal_faults.size() >= kMaximumFatalFaults) return;
  FatalFault fault;
  fault.time_ns = Monotonic(batch.clock, batch[region_events::kStart][row]);
  fault.address = batch[region_events::kAddress][row];
  fault.reason = static_cast<uint32_t>(batch[region_events::kCause][row]);
  fault.device = DeviceOrdinal(batch[region_events::kSourceDevice][row]);
  if (const Allocation* allocation = memory.table().Find(fault.address, fault.time_ns)) {
    fault.known_memory = true;
    fault.kind = allocation->kind;
    fault.stack = allocation->stack;
  }
  fatal_faults.push_back(fault);
}

void ProcessModel::ApplyKernels(const ColumnBatch& batch) {
  kernel_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t start_ns = Monotonic(batch.clock, batch[kernels::kStart][row]);
    const uint64_t end_ns = SaturatingAdd(start_ns, batch[kernels::kDuration][row]);
    const int32_t device = DeviceOrdinal(batch[kernels::kDevice][row]);
    const auto name = static_cast<uint32_t>(batch[kernels::kName][row]);
    DeviceOf(device).kernels.AddKernel(name, start_ns, end_ns);
    hazards.AddKernel({start_ns, end_ns, device, name});
  }
}

}  // namespace uvmtrace::analyzer
