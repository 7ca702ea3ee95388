// First reading: definitions, kernels, windows, phases. Calls are in process_calls.cc, samples in process_samples.cc,
// the second reading in process_events.cc.
#include "analyzer/model/process_model.h"

#include <algorithm>

#include "analyzer/model/event_values.h"
#include "analyzer/timeline/windows_detail.h"

namespace uvmtrace::analyzer {
namespace {

// Changes are written once, but a chunk may be read that repeats them; more than these are damage.
constexpr size_t kMaximumDetailChanges = 4096;
// What one run of a kernel takes until the timeline is sealed: its record, its interval, its run, its segments.
constexpr uint64_t kBytesOfKernel = 160;
// So many are kept whatever allocations took before them, because the GPU's time is told from them.
constexpr size_t kFewestKernels = 65536;

bool HasEvents(const Chunk& chunk) {
  for (const EventKind kind : {EventKind::kGpuFaults, EventKind::kReplays, EventKind::kCpuFaults,
                               EventKind::kMigrations, EventKind::kRegionEvents}) {
    if (!chunk.columns[static_cast<size_t>(kind)].empty()) return true;
  }
  return false;
}

}  // namespace

Status ProcessModel::ReadTrace(const std::string& path, const ReadOptions& options) {
  file = path;
  if (!options.phase.empty()) {
    // Which spans to keep is known only after all ranges have been read.
    ProcessModel scout;
    ReadOptions everything = options;
    everything.phase.clear();
    const Status status = scout.ReadTimelineOf(path, everything);
    if (!status.ok()) return status;
    timeline.filter = scout.SpansOfPhase(options.phase);
  }
  const Status status = ReadTimelineOf(path, options);
  if (!status.ok()) return status;
  ReconstructIfWanted(options);
  ReadEvents(options);
  return status;
}

Status ProcessModel::ReadTimelineOf(const std::string& path, const ReadOptions& options) {
  ChunkReader reader;
  Status status = reader.Open(path);
  if (!status.ok()) return status;
  budget = ReadBudget(reader.statistics().file_bytes, options.max_memory_bytes);
  memory.table().SetBudget(&budget);
  reader.SetBudget(&budget);
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
    if (HasEvents(chunk)) {
      event_chunks_.push_back({frame.fields_offset, static_cast<uint32_t>(frame.fields.size())});
      event_bytes_ += frame.fields.size();
      has_cpu_faults_ |= !chunk.columns[static_cast<size_t>(EventKind::kCpuFaults)].empty();
    }
    ReadTimeline(chunk, options);
  }
  read = reader.statistics();
  status = reader.Finish();
  if (status.ok()) SealTimeline(options);
  return status;
}

void ProcessModel::ReadTimeline(const Chunk& chunk, const ReadOptions& options) {
  ApplyDefinitions(chunk, options);
  const auto each = [&](EventKind kind, auto apply) {
    for (const std::string_view message : chunk.columns[static_cast<size_t>(kind)]) {
      DecodeColumns(kind, message, &batch_);
      apply(batch_);
    }
  };
  each(EventKind::kClockSamples, [this](const ColumnBatch& batch) {
    clocks.AddSamples(batch);
    for (size_t row = 0; row < batch.rows; ++row) last_ns = std::max(last_ns, batch[clock_samples::kMonotonic][row]);
  });
  each(EventKind::kApiCalls, [this](const ColumnBatch& batch) { ApplyApiCalls(batch); });
  each(EventKind::kMigrationWindows, [this](const ColumnBatch& batch) { ApplyMigrationWindows(batch); });
  each(EventKind::kKernels, [this](const ColumnBatch& batch) { ApplyKernels(batch); });
  each(EventKind::kThreadSamples, [this](const ColumnBatch& batch) { ApplyThreadSamples(batch); });
  each(EventKind::kProcessSamples, [this](const ColumnBatch& batch) { ApplyProcessSamples(batch); });
  each(EventKind::kCounterSamples, [this](const ColumnBatch& batch) { ApplyCounterSamples(batch); });
  each(EventKind::kToolSamples, [this](const ColumnBatch& batch) { ApplyToolSamples(batch); });
  each(EventKind::kCopies, [this](const ColumnBatch& batch) { ApplyCopies(batch); });
  each(EventKind::kLinkSamples, [this](const ColumnBatch& batch) { ApplyLinkSamples(batch); });
  each(EventKind::kAnnotations, [this](const ColumnBatch& batch) { annotations_.Add(batch); });
  each(EventKind::kAllocationFailures, [this](const ColumnBatch& batch) { failed_allocations.AddRecords(batch); });
  each(EventKind::kBottomHalfSamples, [this](const ColumnBatch& batch) { ApplyBottomHalfSamples(batch); });
  ApplyPending(false);
  hazards.EndChunk(&memory.table());
}

void ProcessModel::ApplyDefinitions(const Chunk& chunk, const ReadOptions& options) {
  last_ns = std::max(last_ns, chunk.written_ns);
  if (chunk.process) {
    if (!process) clocks.SetStart(chunk.process->started_ns, chunk.process->started_realtime_ns);
    process = chunk.process;
    timeline.detail.starts_sampled = InWindowsOnly(process->detail);
    if (timeline.filter.everything() && (options.from_ns || options.to_ns)) {
      const uint64_t to_ns = options.to_ns ? SaturatingAdd(process->started_ns, *options.to_ns) : ~uint64_t{0};
      timeline.filter.Keep(SaturatingAdd(process->started_ns, options.from_ns.value_or(0)), to_ns);
    }
  }
  if (chunk.end) {
    end = chunk.end;
    clean_end = chunk.end->clean;
  }
  // A restart repeats definitions: what is known stays.
  for (const StringDefinition& string : chunk.strings) strings.try_emplace(string.id, string.value);
  for (const FunctionDefinition& definition : chunk.functions) {
    FunctionStatistics& function = FunctionOf(definition.id);
    if (function.defined) continue;
    function.defined = true;
    function.name = definition.name;
    function.layer = definition.layer;
    function.operation = definition.operation;
    function.role = RoleOfFunction(function.name);
  }
  for (const MappingDefinition& mapping : chunk.mappings) {
    if (known_mappings_.count(mapping.id) > 0 || budget.Take(Spending::kDefinitions) == 0) continue;
    known_mappings_.insert(mapping.id);
    mappings.push_back(mapping);
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
  for (const ManagedVariableDefinition& variable : chunk.managed_variables) DefineManagedVariable(variable);
  for (const MemoryAreaDefinition& area : chunk.memory_areas) system_memory.Define(area, &budget);
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

void ProcessModel::ApplyMigrationWindows(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t start_ns = batch[migration_windows::kStart][row];
    if (budget.Take(Spending::kWindows) == 0) return;
    sampled.AddWindow(start_ns, SaturatingAdd(start_ns, batch[migration_windows::kDuration][row]));
  }
}

void ProcessModel::ApplyKernels(const ColumnBatch& batch) {
  kernel_rows += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t start = batch[kernels::kStart][row];
    const uint64_t duration_ns = batch[kernels::kDuration][row];
    const int32_t device = DeviceOrdinal(batch[kernels::kDevice][row]);
    const auto name = static_cast<uint32_t>(batch[kernels::kName][row]);
    const uint64_t start_ns = Monotonic(batch.clock, start);
    pending_kernels_.push_back({start_ns, SaturatingAdd(start_ns, duration_ns), device, name});
    if (timeline.filter.Has(start_ns)) {
      KernelStatistics& statistics = this->kernels[name];
      ++statistics.count;
      statistics.total_ns += duration_ns;
      statistics.longest_ns = std::max(statistics.longest_ns, duration_ns);
    }
    const bool few = kernel_records_.size() < kFewestKernels;
    if (!few && !budget.TakeMemory(Spending::kKernels, kBytesOfKernel)) continue;
    kernel_records_.push_back({start, duration_ns, name, static_cast<int16_t>(device), batch.clock});
  }
}

// Clocks are converted with all their samples, wherever these stand in the file.
void ProcessModel::SealTimeline(const ReadOptions& options) {
  ApplyPending(true);
  system_memory.AddTo(&memory.table());
  std::map<int32_t, std::vector<KernelRun>> runs;
  for (const KernelRecord& kernel : kernel_records_) {
    const uint64_t start_ns = Monotonic(kernel.clock, kernel.start);
    const uint64_t end_ns = SaturatingAdd(start_ns, kernel.duration_ns);
    timeline.kernels[kernel.device].Add(start_ns, end_ns, kernel.name);
    if (has_cpu_faults_) runs[kernel.device].push_back({start_ns, end_ns, kernel.device, kernel.name});
    device_activity[kernel.device];
    if (first_kernel_ns_ == 0 || start_ns < first_kernel_ns_) first_kernel_ns_ = start_ns;
    last_kernel_ns_ = std::max(last_kernel_ns_, end_ns);
    if (!options.phase_marker.empty() && options.phase.empty()) {
      const auto name = strings.find(kernel.name);
      if (name != strings.end() && name->second.find(options.phase_marker) != std::string::npos)
        markers_ns_.push_back(start_ns);
    }
  }
  kernel_records_.clear();
  kernel_records_.shrink_to_fit();
  for (auto& [device, index] : timeline.kernels) index.Seal(&timeline.kernel_sets);
  for (auto& [device, of_device] : runs) timeline.kernel_runs.emplace(device, KernelWindow(std::move(of_device)));
  FindPhases();
  for (Phase& phase : phases) {
    for (const auto& [start_ns, end_ns] : phase.spans) {
      for (const auto& [device, index] : timeline.kernels) phase.kernel_ns += index.CoveredNs(start_ns, end_ns);
    }
  }
  timeline.phases.Seal(&timeline.phase_sets);
  timeline.prefetches.Seal();
  timeline.versions = &memory.table().versions();
  timeline.versions->Seal();
  timeline.shared_pages.Find(*timeline.versions);
  timeline.clocks = clocks;
  for (const DetailChangeDefinition& change : detail_changes)
    timeline.detail.changes.emplace_back(change.time_ns, InWindowsOnly(change.detail));
  timeline.filter.Seal();
  sampled.Seal();
  OpenAccounts();
}

// The largest allocations have accounts of their own; the others are folded into their sites.
void ProcessModel::OpenAccounts() {
  AllocationVersions& versions = *timeline.versions;
  std::vector<uint32_t> order(versions.size());
  for (uint32_t version = 0; version < order.size(); ++version) order[version] = version;
  const size_t single = static_cast<size_t>(budget.Take(Spending::kSingleAccounts, order.size()));
  if (single < order.size()) {
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(single), order.end(),
                     [&versions](uint32_t a, uint32_t b) {
                       const auto key = [&versions](uint32_t version) {
                         const AllocationVersion& of = versions[version];
                         return std::tuple(of.kind != MemoryKind::kManaged, ~(of.end - of.base), of.number);
                       };
                       return key(a) < key(b);
                     });
  }
  accounts.assign(1, {});
  std::vector<uint32_t> of_site(memory.table().sites().size(), 0);
  for (size_t i = 0; i < order.size(); ++i) {
    AllocationVersion& version = versions[order[i]];
    uint32_t account = i < single ? 0 : of_site[version.site];
    if (account == 0) {
      account = static_cast<uint32_t>(accounts.size());
      accounts.push_back({version.site, i < single ? order[i] : AllocationVersions::kNone});
      if (i >= single) of_site[version.site] = account;
    }
    version.account = account;
  }
  const std::vector<uint32_t>& followed = hazards.followed_versions();
  for (size_t i = 0; i < followed.size(); ++i) {
    if (followed[i] != AllocationVersions::kNone) versions[followed[i]].followed = static_cast<uint32_t>(i + 1);
  }
}

uint32_t ProcessModel::StackOfAccount(uint32_t account) const {
  const uint32_t site = SiteOfAccount(account);
  return site == Account::kNoSite ? 0 : memory.table().sites()[site].stack;
}

}  // namespace uvmtrace::analyzer
