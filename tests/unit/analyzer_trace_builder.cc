#include "tests/unit/analyzer_trace_builder.h"

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>

namespace uvmtrace::testing {
namespace {

void AppendFixed(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

int64_t Delta(uint64_t value, uint64_t* previous) {
  const auto delta = static_cast<int64_t>(value - *previous);
  *previous = value;
  return delta;
}

}  // namespace

uint32_t ReferenceCrc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
  }
  return ~crc;
}

std::string Frame(std::string_view fields, uint64_t sequence, uint64_t run_id, bool padded_length, char version) {
  std::string rest;
  rest.push_back(0x19);
  AppendFixed(&rest, run_id, 8);
  rest.push_back(0x21);
  AppendFixed(&rest, sequence, 8);
  rest += fields;

  std::string body;
  body.push_back(0x09);
  body += std::string("UVMTRC") + version + '\x0a';
  body.push_back(0x15);
  AppendFixed(&body, ReferenceCrc32c(rest), 4);
  body += rest;

  std::string frame(1, '\x0a');
  uint64_t length = body.size();
  for (int i = 0; i < 5; ++i) {
    const bool more = padded_length ? i < 4 : length >= 0x80;
    frame.push_back(static_cast<char>((length & 0x7f) | (more ? 0x80 : 0)));
    length >>= 7;
    if (!more) break;
  }
  return frame + body;
}

TraceBuilder::TraceBuilder(const TraceOptions& options) {
  Process* process = chunk_.mutable_process();
  process->set_pid(options.pid);
  process->set_parent_pid(options.parent_pid);
  process->set_host(options.host);
  process->add_command_line("./program");
  process->add_command_line("--size=1");
  process->set_executable("/usr/bin/program");
  process->set_started_ns(options.started_ns);
  process->set_started_realtime_ns(options.started_realtime_ns);
  process->set_uvmtrace_version("0.1.0");
  process->set_detail(options.detail);
  process->set_simulated(options.simulated);
  allocate_ = Function("cudaMallocManaged", OPERATION_ALLOCATE);
  free_ = Function("cudaFree", OPERATION_FREE);
}

uint32_t TraceBuilder::Function(const std::string& name, Operation operation) {
  auto* function = chunk_.add_function();
  function->set_id(next_function_++);
  function->set_name(name);
  function->set_operation(operation);
  return function->id();
}

void TraceBuilder::Source(const std::string& name, State state, const std::string& reason) {
  SourceState* source = chunk_.add_source_state();
  source->set_name(name);
  source->set_state(state);
  source->set_reason(reason);
}

void TraceBuilder::CuptiActive() {
  for (const char* name :
       {"cupti", "cupti.htod_bytes", "cupti.dtoh_bytes", "cupti.dtod_bytes", "cupti.gpu_page_faults",
        "cupti.cpu_page_faults", "cupti.thrashing", "cupti.throttling", "cupti.remote_map", "cupti.kernels"}) {
    Source(name, STATE_ACTIVE);
  }
}

void TraceBuilder::Device(uint32_t ordinal, uint64_t total_memory_bytes, char uuid_byte) {
  auto* device = chunk_.add_device();
  device->set_ordinal(ordinal);
  device->set_name("NVIDIA Test");
  device->set_uuid(std::string(16, uuid_byte));
  device->set_total_memory_bytes(total_memory_bytes);
}

void TraceBuilder::Allocate(MemoryKind kind, uint64_t address, uint64_t bytes, uint64_t end_ns, uint32_t stack) {
  Call call;
  call.function = allocate_;
  call.start_ns = end_ns - 1000;
  call.address = address;
  call.bytes = bytes;
  call.kind = kind;
  call.stack = stack;
  Add(call);
}

void TraceBuilder::Free(uint64_t address, uint64_t start_ns) {
  Call call;
  call.function = free_;
  call.start_ns = start_ns;
  call.address = address;
  Add(call);
}

void TraceBuilder::GpuFault(uint64_t start_ns, uint64_t end_ns, uint64_t address, uint64_t groups, int32_t device) {
  gpu_faults_.push_back({start_ns, end_ns, address, groups, device});
}

void TraceBuilder::CpuFault(uint64_t start_ns, uint64_t address) {
  CpuFaults* faults = chunk_.add_cpu_faults();
  faults->set_clock(clock_);
  faults->set_source(EVENT_SOURCE_CUPTI);
  faults->add_start_delta_ns(static_cast<int64_t>(start_ns));
  faults->add_address_delta(static_cast<int64_t>(address));
}

void TraceBuilder::Migrate(uint64_t start_ns, uint64_t end_ns, uint64_t address, uint64_t bytes, int32_t source,
                           int32_t destination, MigrationCause cause) {
  migrations_.push_back({start_ns, end_ns, address, bytes, source, destination, cause});
}

void TraceBuilder::Kernel(const std::string& name, uint64_t start_ns, uint64_t end_ns, int32_t device) {
  auto* string = chunk_.add_string();
  string->set_id(next_string_++);
  string->set_value(name);
  Kernels* kernels = chunk_.add_kernels();
  kernels->set_clock(clock_);
  kernels->set_source(EVENT_SOURCE_CUPTI);
  kernels->add_start_delta_ns(static_cast<int64_t>(start_ns));
  kernels->add_duration_ns(end_ns - start_ns);
  kernels->add_device(device);
  kernels->add_name(string->id());
}

void TraceBuilder::Region(RegionEventKind kind, uint64_t start_ns, uint64_t address, uint64_t bytes) {
  RegionEvents* events = chunk_.add_region_events();
  events->set_source(source_);
  events->add_start_delta_ns(static_cast<int64_t>(start_ns));
  events->add_address_delta(static_cast<int64_t>(address));
  events->add_bytes(bytes);
  events->add_kind(kind);
}

void TraceBuilder::KernelThread(uint32_t id, uint32_t tid, uint64_t start_ticks, const std::string& name,
                                ThreadRole role, char uuid_byte) {
  auto* thread = chunk_.add_kernel_thread();
  thread->set_id(id);
  thread->set_tid(tid);
  thread->set_start_ticks(start_ticks);
  thread->set_name(name);
  thread->set_role(role);
  if (role == THREAD_ROLE_BOTTOM_HALF && uuid_byte != 0) thread->set_device_uuid(std::string(16, uuid_byte));
}

void TraceBuilder::ThreadSample(uint32_t id, uint64_t time_ns, uint64_t cpu_ns, uint64_t wait_ns) {
  ThreadSamples* samples = chunk_.add_thread_samples();
  samples->add_time_delta_ns(static_cast<int64_t>(time_ns));
  samples->add_kernel_thread(id);
  samples->add_cpu_ns(cpu_ns);
  samples->add_wait_ns(wait_ns);
}

void TraceBuilder::ProcessSample(uint64_t time_ns, uint64_t user_ns, uint64_t system_ns, uint64_t tool_ns) {
  ProcessSamples* samples = chunk_.add_process_samples();
  samples->add_time_delta_ns(static_cast<int64_t>(time_ns));
  samples->add_user_ns(user_ns);
  samples->add_system_ns(system_ns);
  samples->add_tool_ns(tool_ns);
}

void TraceBuilder::CounterSample(uint64_t time_ns, uint64_t host_to_device_bytes, uint64_t device_to_host_bytes,
                                 uint64_t cpu_faults, uint64_t gpu_faults, uint32_t processor) {
  CounterSamples* samples = chunk_.add_counter_samples();
  samples->add_time_delta_ns(static_cast<int64_t>(time_ns));
  samples->add_host_to_device_bytes(host_to_device_bytes);
  samples->add_device_to_host_bytes(device_to_host_bytes);
  samples->add_cpu_faults(cpu_faults);
  samples->add_gpu_faults(gpu_faults);
  if (processor != 0) samples->add_processor(processor);
}

void TraceBuilder::QueueFault(uint64_t time_ns, uint64_t address, uint32_t batch, int32_t device, Access access) {
  queue_faults_.push_back({time_ns, address, batch, device, access});
}

void TraceBuilder::Replay(uint64_t time_ns, uint32_t batch, int32_t device) {
  Replays* replays = chunk_.add_replays();
  replays->set_clock(clock_);
  replays->set_source(EVENT_SOURCE_DRIVER_QUEUE);
  replays->add_time_delta_ns(static_cast<int64_t>(time_ns));
  replays->add_device(device);
  replays->add_batch(batch);
}

void TraceBuilder::QueueCpuFault(uint64_t time_ns, uint64_t address, uint64_t pc, uint32_t tid) {
  CpuFaults* faults = chunk_.add_cpu_faults();
  faults->set_clock(clock_);
  faults->set_source(EVENT_SOURCE_DRIVER_QUEUE);
  faults->add_start_delta_ns(static_cast<int64_t>(time_ns));
  faults->add_address_delta(static_cast<int64_t>(address));
  faults->add_pc_delta(static_cast<int64_t>(pc));
  faults->add_tid(tid);
}

void TraceBuilder::FatalFault(uint64_t time_ns, uint64_t address, uint32_t reason, int32_t device) {
  RegionEvents* events = chunk_.add_region_events();
  events->set_source(EVENT_SOURCE_DRIVER_QUEUE);
  events->add_start_delta_ns(static_cast<int64_t>(time_ns));
  events->add_address_delta(static_cast<int64_t>(address));
  events->add_kind(REGION_EVENT_FATAL_FAULT);
  events->add_source_device(device);
  events->add_cause(reason);
}

void TraceBuilder::Window(uint64_t start_ns, uint64_t end_ns) {
  MigrationWindows* windows = chunk_.add_migration_windows();
  windows->add_start_delta_ns(static_cast<int64_t>(start_ns));
  windows->add_duration_ns(end_ns - start_ns);
}

void TraceBuilder::DetailChange(uint64_t time_ns, const std::string& detail, const std::string& reason) {
  auto* change = chunk_.add_detail_change();
  change->set_time_ns(time_ns);
  change->set_detail(detail);
  change->set_reason(reason);
}

void TraceBuilder::ToolSample(uint64_t time_ns, const std::vector<uint64_t>& times_ns, uint64_t bytes_written) {
  ToolSamples* samples = chunk_.add_tool_samples();
  samples->add_time_delta_ns(static_cast<int64_t>(time_ns));
  samples->add_calls_ns(times_ns.at(0));
  samples->add_start_ns(times_ns.at(1));
  samples->add_writer_ns(times_ns.at(2));
  samples->add_cupti_ns(times_ns.at(3));
  samples->add_queue_ns(times_ns.at(4));
  samples->add_sampler_ns(times_ns.at(5));
  samples->add_profiler_ns(times_ns.at(6));
  samples->add_bytes_written(bytes_written);
}

void TraceBuilder::KernelStack(uint32_t id, const std::vector<std::string>& frames) {
  auto* stack = chunk_.add_kernel_stack();
  stack->set_id(id);
  for (const std::string& frame : frames) {
    auto* string = chunk_.add_string();
    string->set_id(next_string_++);
    string->set_value(frame);
    stack->add_frame(string->id());
  }
}

void TraceBuilder::BottomHalfSample(uint64_t time_ns, uint32_t thread, uint32_t stack, uint64_t weight_ns) {
  BottomHalfSamples* samples = chunk_.add_bottom_half_samples();
  samples->add_time_delta_ns(static_cast<int64_t>(time_ns));
  samples->add_kernel_thread(thread);
  samples->add_kernel_stack(stack);
  samples->add_weight_ns(weight_ns);
}

void TraceBuilder::Audit(const std::string& function, uint64_t happened, uint64_t seen) {
  AuditCount* count = chunk_.add_audit_count();
  count->set_function(function);
  count->set_happened(happened);
  count->set_seen(seen);
}

void TraceBuilder::Lose(const std::string& source, const std::string& reason, uint64_t count) {
  auto* loss = chunk_.add_loss();
  loss->set_source(source);
  loss->set_reason(reason);
  loss->set_count(count);
}

void TraceBuilder::ClockSample(uint64_t monotonic_ns, uint64_t realtime_ns, uint64_t monotonic_raw_ns,
                               uint64_t cupti_ns) {
  ClockSamples* samples = chunk_.add_clock_samples();
  samples->add_monotonic_delta_ns(static_cast<int64_t>(monotonic_ns));
  samples->add_realtime_delta_ns(static_cast<int64_t>(realtime_ns));
  samples->add_monotonic_raw_delta_ns(static_cast<int64_t>(monotonic_raw_ns));
  samples->add_cupti_delta_ns(static_cast<int64_t>(cupti_ns));
}

void TraceBuilder::EndChunk(uint64_t written_ns) {
  chunk_.set_written_ns(written_ns);
  if (!calls_.empty()) {
    ApiCalls* calls = chunk_.add_api_calls();
    uint64_t start = 0, address = 0, other = 0;
    for (const Call& call : calls_) {
      calls->add_start_delta_ns(Delta(call.start_ns, &start));
      calls->add_duration_ns(call.duration_ns);
      calls->add_tid(call.tid);
      calls->add_function(call.function);
      calls->add_result(call.result);
      calls->add_address_delta(Delta(call.address, &address));
      calls->add_bytes(call.bytes);
      calls->add_other_address_delta(Delta(call.other_address, &other));
      calls->add_memory_kind(call.kind);
      calls->add_stack(call.stack);
      calls->add_door(call.door);
      calls->add_flags(call.flags);
      calls->add_stream(call.stream);
      calls->add_location(call.location);
    }
  }
  if (!gpu_faults_.empty()) {
    GpuFaults* faults = chunk_.add_gpu_faults();
    faults->set_clock(clock_);
    faults->set_source(EVENT_SOURCE_CUPTI);
    uint64_t start = 0, address = 0;
    for (const FaultRow& row : gpu_faults_) {
      faults->add_start_delta_ns(Delta(row.start_ns, &start));
      faults->add_duration_ns(row.end_ns - row.start_ns);
      faults->add_address_delta(Delta(row.address, &address));
      faults->add_device(row.device);
      faults->add_groups(row.groups);
    }
  }
  if (!queue_faults_.empty()) {
    GpuFaults* faults = chunk_.add_gpu_faults();
    faults->set_clock(clock_);
    faults->set_source(EVENT_SOURCE_DRIVER_QUEUE);
    uint64_t start = 0, address = 0;
    for (const QueueFaultRow& row : queue_faults_) {
      faults->add_start_delta_ns(Delta(row.time_ns, &start));
      faults->add_address_delta(Delta(row.address, &address));
      faults->add_device(row.device);
      faults->add_access(row.access);
      faults->add_batch(row.batch);
      faults->add_type(2);
      faults->add_client_type(1);
      faults->add_gpc(row.batch % 8);
      faults->add_client(3);
    }
  }
  if (!migrations_.empty()) {
    Migrations* migrations = chunk_.add_migrations();
    migrations->set_clock(clock_);
    migrations->set_source(source_);
    uint64_t start = 0, address = 0;
    for (const MigrationRow& row : migrations_) {
      migrations->add_start_delta_ns(Delta(row.start_ns, &start));
      migrations->add_duration_ns(row.end_ns - row.start_ns);
      migrations->add_address_delta(Delta(row.address, &address));
      migrations->add_bytes(row.bytes);
      migrations->add_source_device(row.source);
      migrations->add_destination_device(row.destination);
      migrations->add_cause(row.cause);
    }
  }
  calls_.clear();
  gpu_faults_.clear();
  queue_faults_.clear();
  migrations_.clear();
  frames_.push_back(bytes_.size());
  bytes_ += Frame(chunk_.SerializeAsString(), sequence_++);
  chunk_.Clear();
}

std::string TraceBuilder::Finish(uint64_t written_ns) {
  chunk_.mutable_end()->set_clean(true);
  chunk_.mutable_end()->set_chunks(sequence_);
  EndChunk(written_ns);
  return bytes_;
}

TemporaryFile::TemporaryFile(std::string_view bytes) {
  file_ = memfd_create("trace", MFD_CLOEXEC);
  if (file_ < 0) throw std::runtime_error("memfd_create failed");
  path_ = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file_);
  Write(bytes);
}

TemporaryFile::~TemporaryFile() { close(file_); }

void TemporaryFile::Write(std::string_view bytes) {
  if (ftruncate(file_, 0) != 0 || pwrite(file_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("cannot write " + path_);
  }
}

TraceBuilder SampleTrace() {
  constexpr uint64_t kBase = 0x7f0000000000;
  constexpr uint64_t kStart = 1'000'000'000;
  TraceOptions options;
  options.simulated = true;
  TraceBuilder trace(options);
  trace.CuptiActive();
  trace.Source("bh_threads", STATE_ACTIVE);
  trace.Source("cupti.throttling", STATE_UNAVAILABLE, "CUPTI_ERROR_NOT_SUPPORTED");
  trace.Device(0, 4 * kMiB);
  trace.KernelThread(1, 55, 1234, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
  trace.KernelThread(2, 56, 1235, "UVM Tools Event Queue", THREAD_ROLE_TOOLS_QUEUE);
  auto* parameter = trace.chunk().add_parameter();
  parameter->set_name("uvm_perf_prefetch_enable");
  parameter->set_value("1");
  auto* mapping = trace.chunk().add_mapping();
  mapping->set_id(1);
  mapping->set_start(0x400000);
  mapping->set_end(0x500000);
  mapping->set_load_bias(0x400000);
  mapping->set_path("/usr/bin/program");
  auto* stack = trace.chunk().add_stack();
  stack->set_id(1);
  stack->add_pc(0x401234);
  stack->add_pc(0x402345);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 6 * kMiB, kStart + 10'000, 1);
  trace.Allocate(MEMORY_KIND_DEVICE, kBase + 64 * kMiB, kMiB, kStart + 20'000);
  trace.ThreadSample(1, kStart + 20'000, 5'000'000, 1000);
  trace.ThreadSample(2, kStart + 20'000, 1000, 0);
  trace.ProcessSample(kStart + 20'000, 1'000'000, 500'000, 10'000);
  trace.EndChunk(kStart + 30'000);
  // Three blocks through room for two, twice.
  uint64_t now = kStart + 100'000;
  for (int cycle = 0; cycle < 2; ++cycle) {
    for (uint64_t block = 0; block < 3; ++block) {
      const uint64_t address = kBase + block * 2 * kMiB;
      if (cycle > 0 || block == 2) {
        const uint64_t victim = kBase + (block + 1) % 3 * 2 * kMiB;
        trace.Migrate(now, now + 40'000, victim, 2 * kMiB, 0, -1, MIGRATION_CAUSE_EVICTION);
      }
      trace.GpuFault(now, now + 100'000, address, 3);
      trace.GpuFault(now + 10'000, now + 100'003, address + 65536, 2);
      trace.Migrate(now + 50'000, now + 60'000, address, 65536, -1, 0, MIGRATION_CAUSE_COHERENCE);
      trace.Migrate(now + 60'000, now + 95'000, address + 65536, 2 * kMiB - 65536, -1, 0, MIGRATION_CAUSE_PREFETCH);
      now += 200'000;
    }
    trace.Kernel("_Z5touchPfm", now - 600'000, now);
    trace.EndChunk(now);
  }
  trace.CpuFault(now + 1000, kBase);
  trace.Migrate(now + 2000, now + 5000, kBase, 4096, 0, -1, MIGRATION_CAUSE_COHERENCE);
  trace.GpuFault(now + 6000, now + 7000, 0x1000, 1);  // of no known allocation
  trace.Region(REGION_EVENT_THRASHING, now, kBase, 2 * kMiB);
  trace.Region(REGION_EVENT_REMOTE_MAP, now, kBase, 65536);
  auto* loss = trace.chunk().add_loss();
  loss->set_source("cupti");
  loss->set_reason("ring full");
  loss->set_count(7);
  trace.Free(kBase, now + 10'000);
  trace.ThreadSample(1, now + 20'000, 5'900'000, 3000);
  trace.ThreadSample(2, now + 20'000, 21'000, 0);
  trace.ProcessSample(now + 20'000, 1'500'000, 900'000, 30'000);
  trace.EndChunk(now + 20'000);
  return trace;
}

}  // namespace uvmtrace::testing
