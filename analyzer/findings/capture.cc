// Of what this is a report: the process, what was on, what was lost, on which machine.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "analyzer/findings/applied.h"
#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

std::string StateName(State state) {
  switch (state) {
    case State::kActive:
      return "active";
    case State::kUnavailable:
      return "unavailable";
    case State::kDisabled:
      return "disabled";
    case State::kIdle:
      return "idle";
    case State::kStopped:
      return "stopped";
    default:
      return "unknown";
  }
}

// The process that the others descend from, or the one that started first.
const ProcessModel& RootOf(const Run& run) {
  std::set<uint32_t> pids;
  for (const auto& process : run) {
    if (process->process) pids.insert(process->process->pid);
  }
  const ProcessModel* root = run.front().get();
  for (const auto& process : run) {
    if (!process->process) continue;
    const bool better =
        !root->process || pids.count(root->process->parent_pid) > 0 ||
        (pids.count(process->process->parent_pid) == 0 && process->process->started_ns < root->process->started_ns);
    if (better) root = process.get();
  }
  return *root;
}

using Losses = std::map<std::pair<std::string, std::string>, uint64_t>;

// The last chunk says how many rows were written: what was not read stood in damaged chunks.
void AddRowsThatAreMissing(const ProcessModel& process, Losses* losses) {
  if (!process.end) return;
  const EndDefinition& end = *process.end;
  const std::pair<const char*, std::pair<uint64_t, uint64_t>> kinds[] = {
      {"calls", {end.api_calls, process.api_calls}},
      {"GPU faults", {end.gpu_faults, process.gpu_fault_rows}},
      {"CPU faults", {end.cpu_faults, process.cpu_fault_rows}},
      {"migrations", {end.migrations, process.migration_rows}},
      {"region events", {end.region_events, process.region_rows}},
      {"kernels", {end.kernels, process.kernel_rows}},
      {"replays", {end.replays, process.replay_rows}},
  };
  for (const auto& [name, counts] : kinds) {
    if (counts.first > counts.second)
      (*losses)[{name, "in damaged chunks of the trace"}] += counts.first - counts.second;
  }
}

uint64_t DurationOf(const ProcessModel& process) {
  const uint64_t started_ns = process.process ? process.process->started_ns : 0;
  return process.last_ns > started_ns ? process.last_ns - started_ns : 0;
}

// What the driver counted of this GPU, over all processes that counted.
void AddExactCounters(const Run& run, const std::string& key, DeviceRow* row) {
  CounterAmounts sum;
  bool known = false;
  for (const auto& process : run) {
    if (!HasCounters(*process)) continue;
    for (const auto& [ordinal, counters] : process->device_counters) {
      if (GpuKey(*process, ordinal) != key) continue;
      sum.Add(counters);
      known = true;
    }
  }
  if (!known) return;
  row->set_exact_host_to_device_bytes(sum.host_to_device_bytes);
  row->set_exact_device_to_host_bytes(sum.device_to_host_bytes);
  row->set_exact_gpu_faults(sum.gpu_faults);
}

void AddDetailChanges(const Run& run, Capture* capture) {
  uint64_t windows = 0;
  uint64_t windows_ns = 0;
  for (const auto& process : run) {
    windows += process->sampled.windows();
    windows_ns += process->sampled.windows_ns();
    const uint64_t started_ns = process->process ? process->process->started_ns : 0;
    std::string in_force = process->process ? process->process->detail : "";
    for (const DetailChangeDefinition& change : process->detail_changes) {
      // The recorder tells what it starts with: that is no change, and "auto" starts as "full".
      const bool same = change.detail == in_force || (in_force == "auto" && change.detail == "full");
      in_force = change.detail;
      if (same && change.reason.empty()) continue;
      DetailChangeRow* row = capture->add_detail_changes();
      row->set_time_ns(change.time_ns > started_ns ? change.time_ns - started_ns : 0);
      row->set_detail(change.detail);
      row->set_reason(change.reason);
      if (run.size() > 1 && process->process) row->set_pid(process->process->pid);
    }
  }
  if (windows == 0) return;
  capture->set_migration_windows(windows);
  capture->set_migration_windows_ns(windows_ns);
}

}  // namespace

std::string FormatUuid(const std::string& uuid) {
  if (uuid.size() != 16) return "";
  std::string text = "GPU-";
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid[i]));
  }
  return text;
}

void AddCapture(const Run& run, Report* report) {
  Capture* capture = report->mutable_capture();
  const ProcessModel& root = RootOf(run);
  bool simulated = false;
  bool clean_end = true;
  uint64_t bad_chunks = 0;
  uint64_t torn_bytes = 0;
  uint64_t trace_bytes = 0;
  uint64_t tool_ns = 0;
  bool tool_ns_known = false;
  uint64_t started_ns = std::numeric_limits<uint64_t>::max();
  uint64_t last_ns = 0;
  uint64_t longest_ns = 0;
  std::set<std::string> hosts;
  std::set<std::string> source_rows;
  Losses losses;
  for (const auto& process : run) {
    clean_end &= process->clean_end;
    bad_chunks += process->read.bad_chunks;
    torn_bytes += process->read.torn_bytes;
    trace_bytes += process->read.file_bytes;
    if (process->times.samples > 0) {
      tool_ns += process->times.tool_ns;
      tool_ns_known = true;
    }
    if (process->process) {
      simulated |= process->process->simulated;
      started_ns = std::min(started_ns, process->process->started_ns);
      last_ns = std::max(last_ns, process->last_ns);
      longest_ns = std::max(longest_ns, DurationOf(*process));
      hosts.insert(process->process->host);
    }
    for (const auto& [name, source] : process->sources) {
      const std::string state = StateName(source.state);
      if (!source_rows.insert(name + '\0' + state + '\0' + source.reason).second) continue;
      SourceRow* row = capture->add_sources();
      row->set_name(name);
      row->set_state(state);
      row->set_reason(IsAppliedChange(name) ? AppliedSentence(source.reason) : source.reason);
    }
    for (const auto& [key, count] : process->losses) losses[key] += count;
    AddRowsThatAreMissing(*process, &losses);
  }
  if (root.process) {
    const ProcessDefinition& process = *root.process;
    capture->set_simulated(simulated);
    for (const std::string& argument : process.command_line) capture->add_command_line(argument);
    capture->set_pid(process.pid);
    // CLOCK_MONOTONIC of different machines cannot be compared.
    capture->set_duration_ns(hosts.size() == 1 && last_ns > started_ns ? last_ns - started_ns : longest_ns);
    capture->set_detail(process.detail);
    capture->set_host(process.host);
    capture->set_uvmtrace_version(process.uvmtrace_version);
    if (!process.kernel_driver_version.empty()) capture->set_kernel_driver_version(process.kernel_driver_version);
    if (process.cuda_driver_version != 0) capture->set_cuda_driver_version(process.cuda_driver_version);
    if (process.cupti_version != 0) capture->set_cupti_version(process.cupti_version);
  }
  AddDetailChanges(run, capture);
  capture->set_clean_end(clean_end);
  capture->set_bad_chunks(bad_chunks);
  capture->set_torn_bytes(torn_bytes);
  capture->set_trace_bytes(trace_bytes);
  if (tool_ns_known) capture->set_tool_cpu_ns(tool_ns);
  for (const auto& [key, count] : losses) {
    if (count == 0) continue;
    LostRow* row = capture->add_lost();
    row->set_source(key.first);
    row->set_reason(key.second);
    row->set_count(count);
  }
  std::map<std::string, std::string> parameters;
  for (const auto& process : run) parameters.insert(process->parameters.begin(), process->parameters.end());
  for (const auto& [name, value] : parameters) {
    ParameterRow* row = report->add_parameters();
    row->set_name(name);
    row->set_value(value);
  }
}

void AddDevices(const Run& run, Report* report) {
  // Two processes may number one GPU differently: the uuid tells, and its memory counts once.
  std::set<std::string> seen;
  for (const auto& process : run) {
    for (const auto& [ordinal, device] : process->devices) {
      const std::string key = device.uuid.size() == 16 ? device.uuid : fmt::format("ordinal {}", ordinal);
      if (!seen.insert(key).second) continue;
      DeviceRow* row = report->add_devices();
      row->set_name(device.name);
      row->set_uuid(FormatUuid(device.uuid));
      if (device.total_memory_bytes > 0) row->set_total_memory_bytes(device.total_memory_bytes);
      row->set_ordinal(ordinal);
      AddExactCounters(run, key, row);
    }
  }
  if (report->devices_size() == 0) AddEmptySection("devices", "the trace describes no GPU", report);
}

void AddProcesses(const Run& run, Report* report) {
  for (const auto& process : run) {
    const Knowledge known = WhatIsKnown(*process);
    ProcessRow* row = report->add_processes();
    row->set_file(process->file);
    row->set_clean_end(process->clean_end);
    row->set_api_calls(process->api_calls);
    if (process->process) {
      row->set_pid(process->process->pid);
      if (process->process->parent_pid != 0) row->set_parent_pid(process->process->parent_pid);
      for (const std::string& argument : process->process->command_line) row->add_command_line(argument);
      row->set_duration_ns(DurationOf(*process));
      if (run.size() > 1) row->set_host(process->process->host);
      if (!process->process->rank.empty()) row->set_rank(process->process->rank);
      if (!process->process->local_rank.empty()) row->set_local_rank(process->process->local_rank);
    }
    const ProcessBytes bytes = BytesOfProcess(*process);
    const auto& to_device = bytes.of(Direction::kHostToDevice).total;
    const auto& to_host = bytes.of(Direction::kDeviceToHost).total;
    if (known.fault_groups) row->set_gpu_fault_groups(process->totals.gpu_fault_groups);
    if (known.fault_entries) row->set_gpu_fault_entries(process->totals.gpu_fault_entries);
    if (known.cpu_faults) {
      row->set_cpu_faults(process->totals.cpu_faults);
    } else if (HasCounters(*process)) {
      row->set_cpu_faults(process->counters.cpu_faults);
    }
    if (to_device) row->set_host_to_device_bytes(*to_device);
    if (to_host) row->set_device_to_host_bytes(*to_host);
    if (process->times.samples > 1) {
      row->set_user_ns(process->times.last_user_ns - process->times.first_user_ns);
      row->set_system_ns(process->times.last_system_ns - process->times.first_system_ns);
    }
  }
}

}  // namespace uvmtrace::analyzer
