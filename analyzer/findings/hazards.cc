// Calls that endanger the program or waste its time: one row for each place in the code, and for each hazard how many
// calls were looked at, or why none could be.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/hazard_words.h"
#include "analyzer/findings/sections.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr std::array<HazardKind, kHazardKindCount> kInOrder = {
    HazardKind::kDoubleFree,       HazardKind::kInteriorFree,     HazardKind::kUseAfterFree,
    HazardKind::kUnmapUnderKernel, HazardKind::kTouchUnderKernel, HazardKind::kRefusedHint,
    HazardKind::kUnusedPrefetch,   HazardKind::kFreeWaited,
};

struct Found {
  const ProcessModel* process;
  const HazardPlace* place;
  const HazardFinding* finding;
};

std::string WhyNoKernels(const ProcessModel& process) {
  if (process.process && process.process->detail == "calls") {
    return "the detail is \"calls\", which records no kernels; UVMTRACE_DETAIL=light does";
  }
  for (const char* name : {"cupti.kernels", "cupti"}) {
    const auto source = process.sources.find(name);
    if (source == process.sources.end() || source->second.state == State::kActive) continue;
    return fmt::format("kernels were not recorded: {}",
                       source->second.reason.empty() ? std::string(name) + " was off" : source->second.reason);
  }
  return "kernels were not recorded";
}

bool CallsAreMissing(const ProcessModel& process) {
  return process.read.bad_chunks > 0 || std::any_of(process.losses.begin(), process.losses.end(), [](const auto& loss) {
           return loss.first.first == "api_calls" && loss.second > 0;
         });
}

// Why the times of kernels and of calls cannot be compared; empty: they can.
std::string WhyTimesDisagree(const ProcessModel& process) {
  if (!WhatIsKnown(process).kernels) return WhyNoKernels(process);
  if (process.unconverted_times > 0 || process.clocks.steps() > 0) {
    return "the clock of the kernels was set during the run, or never compared with that of the calls";
  }
  return "";
}

// GPUs whose memory the CPU reads in place, over a coherent link.
bool CpuReadsWithoutAFault(const ProcessModel& process) {
  return std::any_of(process.devices.begin(), process.devices.end(), [](const auto& device) {
    for (const char* name : {"GH200", "GB10", "GB200", "GB300", "Thor", "Orin"}) {
      if (device.second.name.find(name) != std::string::npos) return true;
    }
    return false;
  });
}

// Whether a use of memory by a GPU or the CPU may have happened without a word of it in the trace; empty: no.
std::string WhyUsesMayBeMissing(const ProcessModel& process) {
  if (const std::string why = WhyTimesDisagree(process); !why.empty()) return why;
  if (CpuReadsWithoutAFault(process)) return "the CPU uses the memory of this GPU without a fault";
  if (!WhatIsKnown(process).cpu_faults) return "faults of the CPU were not recorded";
  if (!process.clean_end) return "the trace was cut off, and a last use may be missing";
  const auto kernels = process.sources.find("cupti.kernels");
  if (kernels != process.sources.end() && kernels->second.state == State::kStopped) {
    return "the recording of kernels stopped before the end";
  }
  const bool lost =
      std::any_of(process.losses.begin(), process.losses.end(), [](const auto& loss) { return loss.second > 0; });
  if (lost || process.read.bad_chunks > 0) return "events were lost, and a use may be among them";
  if (HasCounters(process) && process.counters.cpu_faults > process.cpu_fault_rows) {
    return "not every fault of the CPU was recorded";
  }
  return "";
}

// Why a touch of the CPU under a kernel that uses the memory would not be seen; empty: it may be.
std::string WhyTouchesAreUnseen(const ProcessModel& process) {
  if (const std::string why = WhyTimesDisagree(process); !why.empty()) return why;
  if (CpuReadsWithoutAFault(process)) return "the CPU uses the memory of this GPU without a fault";
  const Knowledge known = WhatIsKnown(process);
  if (!known.cpu_faults) return "faults of the CPU were not recorded";
  return known.gpu_faults() ? "" : "faults of GPUs were not recorded";
}

// Why nothing can be said of this process; empty: something can.
std::string WhyUnseen(const ProcessModel& process, HazardKind kind) {
  switch (kind) {
    case HazardKind::kUnmapUnderKernel:
    case HazardKind::kFreeWaited:
      return WhyTimesDisagree(process);
    case HazardKind::kUnusedPrefetch:
      return WhyUsesMayBeMissing(process);
    case HazardKind::kTouchUnderKernel:
      return WhyTouchesAreUnseen(process);
    case HazardKind::kDoubleFree:
    case HazardKind::kInteriorFree:
    case HazardKind::kUseAfterFree:
      return CallsAreMissing(process) ? "calls were lost, and one of them may have allocated the memory again" : "";
    default:
      return "";
  }
}

std::string CheckedCalls(HazardKind kind, uint64_t count) {
  const auto calls = [count](const std::string& one, const std::string& many) {
    return fmt::format("{} {}", FormatCount(count), count == 1 ? one : many);
  };
  switch (kind) {
    case HazardKind::kUnmapUnderKernel:
      return calls("unmap", "unmaps");
    case HazardKind::kFreeWaited:
    case HazardKind::kDoubleFree:
    case HazardKind::kInteriorFree:
      return calls("free", "frees");
    case HazardKind::kUseAfterFree:
      return calls("copy or memset", "copies and memsets");
    case HazardKind::kUnusedPrefetch:
      return calls("allocation that was prefetched and freed", "allocations that were prefetched and freed");
    case HazardKind::kRefusedHint:
      return calls("call that prefetches or advises", "calls that prefetch or advise");
    case HazardKind::kTouchUnderKernel:
      return calls("touch of managed memory by the CPU", "touches of managed memory by the CPU");
  }
  return "";
}

std::string NothingFound(HazardKind kind, uint64_t checked) {
  if (checked > 0) return "none in " + CheckedCalls(kind, checked);
  switch (kind) {
    case HazardKind::kUnmapUnderKernel:
      return "nothing was unmapped";
    case HazardKind::kUseAfterFree:
      return "nothing was copied or set";
    case HazardKind::kUnusedPrefetch:
      return "nothing that was prefetched to a GPU was freed";
    case HazardKind::kRefusedHint:
      return "nothing was prefetched or advised";
    case HazardKind::kTouchUnderKernel:
      return "no fault of the CPU on managed memory was recorded";
    default:
      return "nothing was freed";
  }
}

void FillRow(const Run& run, const Found& found, Symbolizer* symbolizer, HazardRow* row) {
  const ProcessModel& process = *found.process;
  const HazardPlace& place = *found.place;
  const HazardFinding& finding = *found.finding;
  row->set_hazard(HazardName(place.kind));
  row->set_severity(HazardSeverity(place.kind));
  row->set_count(finding.count);
  const uint64_t started_ns = process.process ? process.process->started_ns : 0;
  row->set_first_ns(finding.first_ns > started_ns ? finding.first_ns - started_ns : 0);
  if (place.kind == HazardKind::kTouchUnderKernel) {
    row->set_site(SiteOfInstruction(process, place.pc, symbolizer));
  } else {
    const auto function = process.functions.find(place.function);
    row->set_function(function == process.functions.end() ? "?" : function->second.name);
    if (place.result != 0) row->set_result(place.result);
    CallSite site = ResolveCallSite(process, place.stack, symbolizer);
    row->set_site(site.site);
    for (std::string& frame : site.stack) row->add_stack(std::move(frame));
  }
  row->set_address(finding.address);
  if (finding.memory_address != 0) {
    row->set_kind(MemoryKindName(place.memory_kind));
    row->set_memory_address(finding.memory_address);
    row->set_memory_bytes(finding.memory_bytes);
    row->set_memory_site(ResolveCallSite(process, place.allocation_stack, symbolizer).site);
  }
  row->set_freed_by(EndedByName(place.ended_by));
  if (place.freed_stack != 0) row->set_freed_site(ResolveCallSite(process, place.freed_stack, symbolizer).site);
  const bool under_kernel = place.kind == HazardKind::kUnmapUnderKernel ||
                            place.kind == HazardKind::kTouchUnderKernel || place.kind == HazardKind::kFreeWaited;
  if (under_kernel) {
    const auto kernel = process.strings.find(finding.kernel);
    row->set_kernel(kernel == process.strings.end() ? "?" : Demangle(kernel->second));
    if (place.kind != HazardKind::kTouchUnderKernel) row->set_time_ns(finding.time_ns);
    if (finding.ran_on_ns > 0) row->set_ran_on_ns(finding.ran_on_ns);
  }
  if (place.kind == HazardKind::kUnusedPrefetch || place.kind == HazardKind::kRefusedHint) {
    row->set_location(finding.location);
  }
  if (place.kind == HazardKind::kUnusedPrefetch) {
    row->set_bytes(finding.bytes);
    row->set_time_ns(finding.time_ns);
    const Knowledge known = WhatIsKnown(process);
    if (known.host_to_device && !known.estimated) row->set_moved_bytes(finding.moved_bytes);
  }
  if (run.size() > 1 && process.process) row->set_pid(process.process->pid);
  row->set_what(WhatHappened(place.kind, *row));
  row->set_advice(WhatToDo(place.kind, *row));
}

std::vector<Found> Collect(const Run& run, HazardKind kind) {
  std::vector<Found> found;
  for (const auto& process : run) {
    if (!WhyUnseen(*process, kind).empty()) continue;
    for (const auto& [place, finding] : process->hazards.findings()) {
      if (place.kind == kind) found.push_back({process.get(), &place, &finding});
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    // The most first, and of equals the earliest.
    const auto key = [](const HazardFinding& finding) {
      return std::tuple(finding.time_ns, finding.count, ~finding.first_ns);
    };
    return key(*a.finding) > key(*b.finding);
  });
  return found;
}

}  // namespace

void AddHazards(const Run& run, const ReportOptions& options, Symbolizer* symbolizer, Report* report) {
  uvmtrace::Hazards* section = report->mutable_hazards();
  for (const HazardKind kind : kInOrder) {
    const std::vector<Found> found = Collect(run, kind);
    uint64_t count = 0;
    for (const Found& one : found) count += one.finding->count;
    const size_t shown = options.top == 0 ? found.size() : std::min(found.size(), options.top);
    for (size_t i = 0; i < shown; ++i) FillRow(run, found[i], symbolizer, section->add_rows());

    uint64_t checked = 0;
    uint64_t captured = 0;
    uint64_t beyond = 0;
    std::string unseen;
    for (const auto& process : run) {
      const std::string why = WhyUnseen(*process, kind);
      if (why.empty()) {
        checked += process->hazards.checked(kind);
        captured += process->hazards.left_out_in_captures();
        beyond += process->hazards.places_beyond();
      } else if (unseen.empty() || process->hazards.checked(kind) > 0) {
        // Of several reasons the one of a process that had something to look at.
        unseen = why;
      }
    }
    HazardCheckRow* check = section->add_checks();
    check->set_hazard(HazardName(kind));
    std::vector<std::string> reasons;
    const bool nobody =
        std::all_of(run.begin(), run.end(), [kind](const auto& process) { return !WhyUnseen(*process, kind).empty(); });
    if (!nobody) {
      check->set_checked(checked);
      check->set_found(count);
      if (count == 0) reasons.push_back(NothingFound(kind, checked));
    }
    if (!unseen.empty())
      reasons.push_back(nobody ? "cannot be seen: " + unseen : "not seen in every process: " + unseen);
    if (shown < found.size()) reasons.push_back(fmt::format("{} of {} places are shown", shown, found.size()));
    if (beyond > 0) reasons.push_back("there were more places than are kept");
    if (captured > 0 && kind != HazardKind::kTouchUnderKernel) {
      reasons.push_back(fmt::format("{} made while a stream was captured were left out",
                                    captured == 1 ? "1 call" : FormatCount(captured) + " calls"));
    }
    std::string reason;
    for (const std::string& one : reasons) reason += (reason.empty() ? "" : "; ") + one;
    check->set_reason(reason);
  }
}

}  // namespace uvmtrace::analyzer
