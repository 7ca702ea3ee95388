#include "analyzer/reconstruct/trace_input.h"

#include <algorithm>
#include <charconv>

#include "analyzer/read/chunk_reader.h"
#include "analyzer/reconstruct/reconstruction.h"
#include "analyzer/reconstruct/window_check.h"
#include "analyzer/timeline/windows_detail.h"

namespace uvmtrace::reconstruct {

using analyzer::EventKind;
using analyzer::Operation;

namespace {

// Values of uvmtrace.proto.
constexpr uint64_t kAccessWrite = 2;
constexpr uint64_t kAccessAtomic = 3;
constexpr uint64_t kAttachSingle = 4;  // CU_MEM_ATTACH_SINGLE
constexpr uint64_t kSourceQueue = 2;
constexpr uint64_t kMemoryManaged = 2;
constexpr uint64_t kRegionThrashing = 1;
constexpr uint64_t kRegionThrottling = 2;
constexpr uint64_t kRegionRemoteMap = 3;
constexpr uint64_t kRemoteMapThrashing = 2;

bool Writes(uint64_t access) { return access == kAccessWrite || access == kAccessAtomic; }
int32_t Processor(uint64_t column) { return static_cast<int32_t>(static_cast<int64_t>(column)); }

}  // namespace

void ApplyParameter(const std::string& name, const std::string& value, Options* options) {
  uint32_t number = 0;
  if (value == "Y" || value == "N") {
    number = value == "Y";
  } else if (std::from_chars(value.data(), value.data() + value.size(), number).ec != std::errc()) {
    return;
  }
  if (name == "uvm_perf_prefetch_enable") options->service.prefetch_enable = number != 0;
  // The driver takes its default where a value is out of range.
  if (name == "uvm_perf_prefetch_threshold" && number <= 100) options->service.prefetch_threshold = number;
  if (name == "uvm_perf_prefetch_min_faults" && number >= 1 && number <= 20) {
    options->service.prefetch_min_faults = number;
  }
  if (name == "uvm_perf_thrashing_lapse_usec") options->thrashing.lapse_ns = uint64_t{number} * 1000;
  if (name == "uvm_perf_thrashing_epoch") options->thrashing.epoch_lapses = number;
  if (name == "uvm_perf_thrashing_pin") options->thrashing.pin_lapses = number;
  if (name == "uvm_perf_thrashing_max_resets") options->thrashing.max_resets = number;
}

analyzer::Status ReconstructTrace(const std::string& path, Reconstruction* reconstruction) {
  *reconstruction = {};
  analyzer::ChunkReader reader;
  analyzer::Status status = reader.Open(path);
  if (!status.ok()) return status;
  Reconstructor reconstructor({}, [&](const Migration& row) { reconstruction->rows.push_back(row); });
  TraceInput input(&reconstructor);
  WindowCheck windows;
  bool in_windows = false;
  input.on_recorded = [&](const RecordedMigration& row) {
    if (!in_windows) return;
    windows.Add(row);
    if (row.source != kCpu && row.destination != kCpu) return;
    Reconstruction::Copies& copies = row.destination == kCpu ? reconstruction->to_host : reconstruction->to_device;
    copies.window_bytes += row.bytes;
    copies.window_ns += row.duration_ns;
  };
  analyzer::ChunkFrame frame;
  analyzer::Chunk chunk;
  while (reader.Next(&frame)) {
    if (DecodeChunk(frame.fields, &chunk).ok()) {
      if (chunk.process) in_windows = analyzer::InWindowsOnly(chunk.process->detail);
      input.Add(chunk);
    } else {
      reader.RejectLast();
    }
  }
  status = reader.Finish();
  if (!status.ok()) return status;
  reconstructor.Finish();
  reconstruction->faults = input.faults();
  reconstruction->counters = input.counters();
  for (const CounterCheck* check : {&reconstructor.to_device_check(), &reconstructor.to_host_check()}) {
    reconstruction->exact_bytes += check->exact_bytes();
    reconstruction->unexplained_bytes += check->unexplained_bytes();
    const uint64_t since_ns = check->since_ns();
    if (since_ns != 0 && (reconstruction->since_ns == 0 || since_ns < reconstruction->since_ns)) {
      reconstruction->since_ns = since_ns;
    }
  }
  reconstruction->to_device.exact_bytes = reconstructor.to_device_check().exact_bytes();
  reconstruction->to_host.exact_bytes = reconstructor.to_host_check().exact_bytes();
  reconstruction->explained_share = reconstructor.ExplainedShare();
  // Evictions are told when the counters show them, and a batch's copies come after its last fault.
  std::stable_sort(reconstruction->rows.begin(), reconstruction->rows.end(),
                   [](const Migration& a, const Migration& b) { return a.time_ns < b.time_ns; });
  windows.Finish(reconstruction->rows);
  reconstruction->window_bytes = windows.bytes();
  reconstruction->window_agreed_bytes = windows.agreed_bytes();
  reconstruction->window_since_ns = windows.since_ns();
  return status;
}

void TraceInput::Add(const analyzer::Chunk& chunk) {
  if (chunk.process) clocks_.SetStart(chunk.process->started_ns, chunk.process->started_realtime_ns);
  for (const analyzer::ParameterDefinition& parameter : chunk.parameters) {
    if (reconstructor_ != nullptr) ApplyParameter(parameter.name, parameter.value, &reconstructor_->options());
  }
  for (const analyzer::FunctionDefinition& definition : chunk.functions) {
    Function& function = functions_[definition.id];
    function.operation = definition.operation;
    function.variable = definition.name == "__managed__ variable";
    function.attaches = definition.name.find("StreamAttachMemAsync") != std::string_view::npos;
  }
  const auto each = [&](EventKind kind, auto add) {
    for (const std::string_view message : chunk.columns[static_cast<size_t>(kind)]) {
      DecodeColumns(kind, message, &batch_);
      add(batch_);
    }
  };
  each(EventKind::kClockSamples, [this](const Batch& batch) { clocks_.AddSamples(batch); });
  each(EventKind::kApiCalls, [this](const Batch& batch) { AddCalls(batch); });
  each(EventKind::kMigrateCalls, [this](const Batch& batch) { AddMigrateCalls(batch); });
  each(EventKind::kKernels, [this](const Batch& batch) { AddKernels(batch); });
  each(EventKind::kGpuFaults, [this](const Batch& batch) { AddGpuFaults(batch); });
  each(EventKind::kReplays, [this](const Batch& batch) { AddReplays(batch); });
  each(EventKind::kCpuFaults, [this](const Batch& batch) { AddCpuFaults(batch); });
  each(EventKind::kRegionEvents, [this](const Batch& batch) { AddRegionEvents(batch); });
  each(EventKind::kCounterSamples, [this](const Batch& batch) { AddCounterSamples(batch); });
  if (on_recorded) each(EventKind::kMigrations, [this](const Batch& batch) { AddMigrations(batch); });
}

uint64_t TraceInput::Monotonic(const Batch& batch, uint64_t time_ns) {
  return clocks_.ToMonotonic(batch.clock, time_ns).value_or(time_ns);
}

void TraceInput::AddCalls(const Batch& batch) {
  namespace column = analyzer::api_calls;
  for (size_t row = 0; row < batch.rows; ++row) {
    if (batch[column::kResult][row] != 0) continue;
    const Function& function = functions_[static_cast<uint32_t>(batch[column::kFunction][row])];
    const bool managed = batch[column::kMemoryKind][row] == kMemoryManaged;
    Call call;
    call.time_ns = batch[column::kStart][row];
    call.duration_ns = batch[column::kDuration][row];
    call.address = batch[column::kAddress][row];
    call.bytes = batch[column::kBytes][row];
    call.processor = Processor(batch[column::kLocation][row]);
    if (function.variable) {
      call.kind = CallKind::kVariable;
    } else if (function.attaches) {
      call.kind = CallKind::kAttach;
      if (batch[column::kFlags][row] == kAttachSingle) call.stream = batch[column::kStream][row];
    } else if (function.operation == Operation::kAllocate && managed) {
      call.kind = CallKind::kAllocate;
    } else if (function.operation == Operation::kFree) {
      call.kind = CallKind::kFree;
    } else if (function.operation == Operation::kPrefetch) {
      call.kind = CallKind::kPrefetch;
    } else if (function.operation == Operation::kAdvise) {
      call.kind = CallKind::kAdvise;
      call.advice = static_cast<Advice>(batch[column::kFlags][row]);
    } else {
      continue;
    }
    Add(call);
  }
}

void TraceInput::AddMigrateCalls(const Batch& batch) {
  namespace column = analyzer::migrate_calls;
  for (size_t row = 0; row < batch.rows; ++row) {
    Call call;
    call.kind = CallKind::kMigrate;
    call.time_ns = batch[column::kStart][row];
    call.duration_ns = batch[column::kDuration][row];
    call.address = batch[column::kAddress][row];
    call.bytes = batch[column::kBytes][row];
    call.processor = Processor(batch[column::kDestinationDevice][row]);
    Add(call);
  }
}

void TraceInput::AddGpuFaults(const Batch& batch) {
  namespace column = analyzer::gpu_faults;
  if (batch.source != kSourceQueue) return;
  faults_ |= batch.rows > 0;
  GpuFault fault;
  for (size_t row = 0; row < batch.rows; ++row) {
    fault.time_ns = Monotonic(batch, batch[column::kStart][row]);
    fault.address = batch[column::kAddress][row];
    fault.batch = static_cast<uint32_t>(batch[column::kBatch][row]);
    fault.device = Processor(batch[column::kDevice][row]);
    fault.write = Writes(batch[column::kAccess][row]);
    Add(fault);
  }
}

void TraceInput::AddKernels(const Batch& batch) {
  namespace column = analyzer::kernels;
  for (size_t row = 0; row < batch.rows; ++row) {
    KernelStart kernel;
    kernel.time_ns = Monotonic(batch, batch[column::kStart][row]);
    kernel.device = Processor(batch[column::kDevice][row]);
    kernel.stream = batch[column::kStream][row];
    Add(kernel);
  }
}

void TraceInput::AddReplays(const Batch& batch) {
  namespace column = analyzer::replays;
  for (size_t row = 0; row < batch.rows; ++row) {
    Replay replay;
    replay.time_ns = Monotonic(batch, batch[column::kTime][row]);
    replay.batch = static_cast<uint32_t>(batch[column::kBatch][row]);
    replay.device = Processor(batch[column::kDevice][row]);
    Add(replay);
  }
}

void TraceInput::AddCpuFaults(const Batch& batch) {
  namespace column = analyzer::cpu_faults;
  if (batch.source != kSourceQueue) return;
  faults_ |= batch.rows > 0;
  for (size_t row = 0; row < batch.rows; ++row) {
    CpuFault fault;
    fault.time_ns = Monotonic(batch, batch[column::kStart][row]);
    fault.address = batch[column::kAddress][row];
    fault.tid = static_cast<uint32_t>(batch[column::kTid][row]);
    fault.write = Writes(batch[column::kAccess][row]);
    Add(fault);
  }
}

void TraceInput::AddRegionEvents(const Batch& batch) {
  namespace column = analyzer::region_events;
  if (batch.source != kSourceQueue) return;
  for (size_t row = 0; row < batch.rows; ++row) {
    RareEvent event;
    const uint64_t kind = batch[column::kKind][row];
    if (kind == kRegionThrashing) {
      event.kind = RareEventKind::kThrashing;
    } else if (kind == kRegionThrottling) {
      event.kind = RareEventKind::kThrottling;
      event.processor = Processor(batch[column::kSourceDevice][row]);
    } else if (kind == kRegionRemoteMap && batch[column::kCause][row] == kRemoteMapThrashing) {
      event.kind = RareEventKind::kPinned;
      event.processor = Processor(batch[column::kDestinationDevice][row]);
    } else {
      continue;
    }
    event.time_ns = Monotonic(batch, batch[column::kStart][row]);
    event.duration_ns = batch[column::kDuration][row];
    event.address = batch[column::kAddress][row];
    Add(event);
  }
}

void TraceInput::AddCounterSamples(const Batch& batch) {
  namespace column = analyzer::counter_samples;
  counters_ |= batch.rows > 0;
  for (size_t row = 0; row < batch.rows; ++row) {
    CounterSample sample;
    sample.time_ns = batch[column::kTime][row];
    sample.device = Processor(batch[column::kProcessor][row]) - 1;
    sample.to_device_bytes = batch[column::kHostToDeviceBytes][row];
    sample.to_host_bytes = batch[column::kDeviceToHostBytes][row];
    Add(sample);
  }
}

void TraceInput::AddMigrations(const Batch& batch) {
  namespace column = analyzer::migrations;
  for (size_t row = 0; row < batch.rows; ++row) {
    RecordedMigration migration;
    migration.time_ns = Monotonic(batch, batch[column::kStart][row]);
    migration.duration_ns = batch[column::kDuration][row];
    migration.address = batch[column::kAddress][row];
    migration.bytes = batch[column::kBytes][row];
    migration.source = Processor(batch[column::kSourceDevice][row]);
    migration.destination = Processor(batch[column::kDestinationDevice][row]);
    migration.cause = static_cast<MigrationCause>(batch[column::kCause][row]);
    on_recorded(migration);
  }
}

}  // namespace uvmtrace::reconstruct
