// Which numbers can be known, and why others cannot: decided from the states that the recorder's sources left.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

enum class SourceVerdict { kOn, kOff, kNotMentioned };

SourceVerdict StateOf(const ProcessModel& process, const std::string& name) {
  const auto source = process.sources.find(name);
  if (source == process.sources.end()) return SourceVerdict::kNotMentioned;
  // A source that was active and stopped has counted something: what is lost is said elsewhere.
  const bool on = source->second.state == State::kActive || source->second.state == State::kStopped;
  return on ? SourceVerdict::kOn : SourceVerdict::kOff;
}

// Whether one of the details was in force at some time. What was asked for is not what was given if a change says so.
bool WasAt(const ProcessModel& process, std::initializer_list<const char*> details) {
  const auto wanted = [&details](const std::string& detail) {
    return std::any_of(details.begin(), details.end(), [&detail](const char* one) { return detail == one; });
  };
  const bool as_asked = process.detail_changes.empty() || (process.process && process.process->detail == "auto");
  if (as_asked && process.process && wanted(process.process->detail)) return true;
  return std::any_of(process.detail_changes.begin(), process.detail_changes.end(),
                     [&wanted](const DetailChangeDefinition& change) { return wanted(change.detail); });
}

// What was in force at the end, and why it is not what was asked for.
DetailChangeDefinition LastDetail(const ProcessModel& process) {
  if (!process.detail_changes.empty()) return process.detail_changes.back();
  return {0, process.process ? process.process->detail : "", ""};
}

}  // namespace

bool QueueIsOn(const ProcessModel& process) {
  constexpr auto kQueue = static_cast<size_t>(EventSource::kDriverQueue);
  return StateOf(process, "driver_queue") == SourceVerdict::kOn || process.gpu_fault_sources[kQueue] > 0 ||
         process.cpu_fault_sources[kQueue] > 0 || process.migration_sources[kQueue] > 0;
}

// A counter is on if it says so itself, or if CUPTI is on for unified memory and the counter was never mentioned.
bool CuptiFeeds(const ProcessModel& process, const std::string& counter) {
  const SourceVerdict own = StateOf(process, counter);
  if (own != SourceVerdict::kNotMentioned) return own == SourceVerdict::kOn;
  return StateOf(process, "cupti") == SourceVerdict::kOn && !QueueIsOn(process);
}

bool QueueFeedsMigrations(const ProcessModel& process) {
  if (process.reconstruction) return false;
  if (process.migration_sources[static_cast<size_t>(EventSource::kDriverQueue)] > 0) return true;
  return QueueIsOn(process) && WasAt(process, {"full", "auto", "sampled", "exact"}) &&
         !CuptiFeeds(process, "cupti.htod_bytes");
}

Knowledge WhatIsKnown(const ProcessModel& process) {
  const bool queue = QueueIsOn(process);
  const bool queue_migrations = QueueFeedsMigrations(process) || process.reconstruction.has_value();
  Knowledge known;
  known.fault_groups = process.totals.gpu_fault_records > 0 || CuptiFeeds(process, "cupti.gpu_page_faults");
  known.fault_entries = process.totals.gpu_fault_entries > 0 || queue;
  known.batch_ends =
      process.totals.gpu_fault_entries == 0 ||
      std::any_of(process.device_activity.begin(), process.device_activity.end(), [](const auto& device) {
        return device.second.queue_batches.AnyEnd() || device.second.batches.AnyEnd();
      });
  known.cpu_faults = process.cpu_fault_rows > 0 || queue || CuptiFeeds(process, "cupti.cpu_page_faults");
  known.host_to_device =
      process.totals.host_to_device_bytes > 0 || queue_migrations || CuptiFeeds(process, "cupti.htod_bytes");
  known.device_to_host =
      process.totals.device_to_host_bytes > 0 || queue_migrations || CuptiFeeds(process, "cupti.dtoh_bytes");
  known.device_to_device =
      process.totals.device_to_device_bytes > 0 || queue_migrations || CuptiFeeds(process, "cupti.dtod_bytes");
  known.estimated = known.any_migration() && !process.reconstruction && WasAt(process, {"sampled", "exact"});
  known.thrashing = process.regions.thrashing_events > 0 || queue || CuptiFeeds(process, "cupti.thrashing");
  known.throttling = process.regions.throttling_events > 0 || queue || CuptiFeeds(process, "cupti.throttling");
  known.remote_map = process.regions.remote_maps > 0 || queue || CuptiFeeds(process, "cupti.remote_map");
  known.read_duplication = queue && WasAt(process, {"full", "auto"});
  known.fatal_faults = queue;
  known.kernels = process.kernel_rows > 0 || StateOf(process, "cupti.kernels") == SourceVerdict::kOn ||
                  (StateOf(process, "cupti.kernels") == SourceVerdict::kNotMentioned &&
                   StateOf(process, "cupti") == SourceVerdict::kOn);
  return known;
}

Knowledge WhatIsKnown(const Run& run) {
  Knowledge known;
  for (const auto& process : run) {
    const Knowledge one = WhatIsKnown(*process);
    known.fault_groups |= one.fault_groups;
    known.fault_entries |= one.fault_entries;
    known.batch_ends &= one.batch_ends;
    known.cpu_faults |= one.cpu_faults;
    known.host_to_device |= one.host_to_device;
    known.device_to_host |= one.device_to_host;
    known.device_to_device |= one.device_to_device;
    known.estimated |= one.estimated;
    known.thrashing |= one.thrashing;
    known.throttling |= one.throttling;
    known.remote_map |= one.remote_map;
    known.read_duplication |= one.read_duplication;
    known.fatal_faults |= one.fatal_faults;
    known.kernels |= one.kernels;
  }
  return known;
}

std::string WhyNoUnifiedMemoryEvents(const Run& run, const std::string& source) {
  for (const auto& process : run) {
    const DetailChangeDefinition last = LastDetail(*process);
    if (last.detail == "calls") {
      return fmt::format("the detail is \"calls\"{}: no unified-memory source was on; record with UVMTRACE_DETAIL=full",
                         last.reason.empty() ? "" : " (" + last.reason + ")");
    }
    if (QueueIsOn(*process)) {
      // It feeds instead of CUPTI: why CUPTI does not is no reason.
      if (source == "cupti.kernels" || last.detail != "light") continue;
      if (source == "cupti.htod_bytes" || source == "cupti.dtoh_bytes") {
        return "the detail is \"light\": the driver's counters have the bytes, but no migration was recorded; "
               "UVMTRACE_DETAIL=full or sampled tells causes and allocations";
      }
      continue;
    }
    for (const std::string& name : {source, std::string("cupti")}) {
      const auto state = process->sources.find(name);
      if (state == process->sources.end()) continue;
      if (state->second.state == State::kUnavailable) {
        return fmt::format("{} was unavailable: {}", name,
                           state->second.reason.empty() ? "no reason was recorded" : state->second.reason);
      }
      if (state->second.state == State::kDisabled) {
        return fmt::format("{} was off: {}", name,
                           state->second.reason.empty() ? "not wanted at this detail" : state->second.reason);
      }
    }
  }
  const bool managed = SumOfKind(run, MemoryKind::kManaged).allocations > 0;
  for (const auto& process : run) {
    const auto state = process->sources.find("cupti");
    if (managed && !QueueIsOn(*process) && state != process->sources.end() && state->second.state == State::kIdle) {
      return "cupti was never started" + (state->second.reason.empty() ? "" : ": " + state->second.reason);
    }
  }
  bool mentioned = false;
  for (const auto& process : run) mentioned |= process->sources.count("cupti") > 0 || QueueIsOn(*process);
  if (!managed) return "no managed memory was allocated";
  return mentioned ? "none happened" : "the trace does not say whether CUPTI was on";
}

void AddEmptySection(const std::string& section, const std::string& reason, Report* report) {
  EmptySection* empty = report->add_empty_sections();
  empty->set_section(section);
  empty->set_reason(reason);
}

}  // namespace uvmtrace::analyzer
