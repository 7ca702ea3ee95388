// Which numbers can be known, and why others cannot: decided from the states that the recorder's sources left.
#include <fmt/format.h>

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

// A counter is on if it says so itself, or if CUPTI is on and the counter was never mentioned.
bool IsOn(const ProcessModel& process, const std::string& counter) {
  const SourceVerdict own = StateOf(process, counter);
  if (own != SourceVerdict::kNotMentioned) return own == SourceVerdict::kOn;
  return StateOf(process, "cupti") == SourceVerdict::kOn;
}

}  // namespace

Knowledge WhatIsKnown(const ProcessModel& process) {
  Knowledge known;
  known.gpu_faults = process.gpu_fault_rows > 0 || IsOn(process, "cupti.gpu_page_faults");
  known.cpu_faults = process.cpu_fault_rows > 0 || IsOn(process, "cupti.cpu_page_faults");
  known.host_to_device = process.totals.host_to_device_bytes > 0 || IsOn(process, "cupti.htod_bytes");
  known.device_to_host = process.totals.device_to_host_bytes > 0 || IsOn(process, "cupti.dtoh_bytes");
  known.device_to_device = process.totals.device_to_device_bytes > 0 || IsOn(process, "cupti.dtod_bytes");
  known.thrashing = process.regions.thrashing_events > 0 || IsOn(process, "cupti.thrashing");
  known.throttling = process.regions.throttling_events > 0 || IsOn(process, "cupti.throttling");
  known.remote_map = process.regions.remote_maps > 0 || IsOn(process, "cupti.remote_map");
  known.kernels = process.kernel_rows > 0 || IsOn(process, "cupti.kernels");
  return known;
}

Knowledge WhatIsKnown(const Run& run) {
  Knowledge known;
  for (const auto& process : run) {
    const Knowledge one = WhatIsKnown(*process);
    known.gpu_faults |= one.gpu_faults;
    known.cpu_faults |= one.cpu_faults;
    known.host_to_device |= one.host_to_device;
    known.device_to_host |= one.device_to_host;
    known.device_to_device |= one.device_to_device;
    known.thrashing |= one.thrashing;
    known.throttling |= one.throttling;
    known.remote_map |= one.remote_map;
    known.kernels |= one.kernels;
  }
  return known;
}

std::string WhyNoUnifiedMemoryEvents(const Run& run, const std::string& source) {
  for (const auto& process : run) {
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
    if (process->process && process->process->detail == "calls") {
      return "the detail is \"calls\": no unified-memory source was on; record with UVMTRACE_DETAIL=full";
    }
  }
  const bool managed = SumOfKind(run, MemoryKind::kManaged).allocations > 0;
  for (const auto& process : run) {
    const auto state = process->sources.find("cupti");
    if (managed && state != process->sources.end() && state->second.state == State::kIdle) {
      return "cupti was never started" + (state->second.reason.empty() ? "" : ": " + state->second.reason);
    }
  }
  bool mentioned = false;
  for (const auto& process : run) mentioned |= process->sources.count("cupti") > 0;
  if (!managed) return "no managed memory was allocated";
  return mentioned ? "none happened" : "the trace does not say whether CUPTI was on";
}

void AddEmptySection(const std::string& section, const std::string& reason, Report* report) {
  EmptySection* empty = report->add_empty_sections();
  empty->set_section(section);
  empty->set_reason(reason);
}

}  // namespace uvmtrace::analyzer
