// Whose memory it was: one row for each allocation worth looking at, one for all others, one (id 0) for addresses that
// no known allocation covers. The rows add up to the totals. Only what is printed is symbolized.
#include <algorithm>
#include <unordered_set>
#include <vector>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

struct Candidate {
  const ProcessModel* process;
  uint32_t version;
  const AllocationVersion* allocation;
  const MemoryActivity* activity;
  uint64_t moved_bytes;  // estimated where they were sampled

  uint64_t moved() const { return moved_bytes; }
  uint64_t faults() const { return activity->gpu_fault_groups + activity->gpu_fault_entries + activity->cpu_faults; }
};

void SetActivity(const MemoryActivity& activity, const Knowledge& known, bool estimated, AllocationRow* row) {
  if (known.fault_groups) row->set_gpu_fault_groups(activity.gpu_fault_groups);
  if (known.fault_entries) row->set_gpu_fault_entries(activity.gpu_fault_entries);
  if (known.cpu_faults) row->set_cpu_faults(activity.cpu_faults);
  if (known.host_to_device) row->set_host_to_device_bytes(activity.host_to_device_bytes);
  if (known.device_to_host) row->set_device_to_host_bytes(activity.device_to_host_bytes);
  if (known.device_to_device) row->set_device_to_device_bytes(activity.device_to_device_bytes);
  if (known.device_to_host) row->set_evicted_bytes(activity.evicted_bytes);
  if (known.refaults()) row->set_refaulted_bytes(activity.refaulted_bytes);
  if (estimated) row->set_estimated(true);
}

// What of `whole` the rows so far do not have.
MemoryActivity Rest(const MemoryActivity& whole, const MemoryActivity& shown) {
  const auto less = [](uint64_t a, uint64_t b) { return a > b ? a - b : 0; };
  MemoryActivity rest;
  rest.gpu_fault_groups = less(whole.gpu_fault_groups, shown.gpu_fault_groups);
  rest.gpu_fault_records = less(whole.gpu_fault_records, shown.gpu_fault_records);
  rest.gpu_fault_entries = less(whole.gpu_fault_entries, shown.gpu_fault_entries);
  rest.cpu_faults = less(whole.cpu_faults, shown.cpu_faults);
  rest.host_to_device_bytes = less(whole.host_to_device_bytes, shown.host_to_device_bytes);
  rest.device_to_host_bytes = less(whole.device_to_host_bytes, shown.device_to_host_bytes);
  rest.device_to_device_bytes = less(whole.device_to_device_bytes, shown.device_to_device_bytes);
  rest.evicted_bytes = less(whole.evicted_bytes, shown.evicted_bytes);
  rest.refaulted_bytes = less(whole.refaulted_bytes, shown.refaulted_bytes);
  return rest;
}

// The first `top` by each of the three orders that the report shows, in the order of the first.
std::vector<Candidate> Choose(std::vector<Candidate> candidates, size_t top) {
  const auto tie = [](const Candidate& a, const Candidate& b) {
    return std::pair(a.process->file, a.allocation->number) < std::pair(b.process->file, b.allocation->number);
  };
  const auto by_moved = [&](const Candidate& a, const Candidate& b) {
    const auto key = [](const Candidate& c) {
      return std::tuple(c.moved(), c.faults(), c.allocation->end - c.allocation->base);
    };
    return key(a) != key(b) ? key(a) > key(b) : tie(a, b);
  };
  const auto by_faults = [&](const Candidate& a, const Candidate& b) {
    return a.faults() != b.faults() ? a.faults() > b.faults() : by_moved(a, b);
  };
  if (top == 0 || candidates.size() <= top) {
    std::sort(candidates.begin(), candidates.end(), by_moved);
    return candidates;
  }
  std::vector<Candidate> chosen;
  std::unordered_set<const AllocationVersion*> taken;
  const auto take = [&](auto order, auto wanted) {
    const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(top);
    std::partial_sort(candidates.begin(), end, candidates.end(), order);
    for (auto candidate = candidates.begin(); candidate != end; ++candidate) {
      if (wanted(*candidate) && taken.insert(candidate->allocation).second) chosen.push_back(*candidate);
    }
  };
  take(by_faults, [](const Candidate& candidate) { return candidate.faults() > 0; });
  take(by_moved, [](const Candidate&) { return true; });
  std::sort(chosen.begin(), chosen.end(), by_moved);
  return chosen;
}

}  // namespace

void AddAllocations(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
                    Report* report) {
  std::vector<Candidate> candidates;
  MemoryActivity unattributed;
  uint64_t total = 0;
  MemoryActivity whole;
  // Windows of a sample may have caught nothing of a direction: those bytes belong to no allocation that we know.
  std::map<const ProcessModel*, ActivityScaler> scalers;
  for (const auto& process : run) {
    total += process->memory.table().allocations();
    const ProcessBytes bytes = BytesOfProcess(*process);
    MemoryActivity unsampled;
    unsampled.host_to_device_bytes = bytes.of(Direction::kHostToDevice).unsampled;
    unsampled.device_to_host_bytes = bytes.of(Direction::kDeviceToHost).unsampled;
    whole.Add(ActivityScaler(bytes).Scale(process->totals));
    whole.Add(unsampled);
    const auto scaler = scalers.emplace(process.get(), ActivityScaler(bytes)).first;
    unattributed.Add(scaler->second.Scale(process->unattributed));
    unattributed.Add(unsampled);
    static const MemoryActivity kNothing;
    const AllocationVersions& versions = process->memory.table().versions();
    for (uint32_t version = 0; version < versions.size(); ++version) {
      const Account& account = process->accounts[versions[version].account];
      if (account.version != version) continue;  // folded into its site
      const auto known_activity = process->single_activity.find(version);
      const MemoryActivity& activity =
          known_activity == process->single_activity.end() ? kNothing : known_activity->second;
      // Alone, without a carry from the rows before it: good enough for an order.
      const MemoryActivity moved = bytes.estimated && activity.any() ? ActivityScaler(bytes).Scale(activity) : activity;
      candidates.push_back({process.get(), version, &versions[version], &activity, moved.moved_bytes()});
    }
  }
  const std::vector<Candidate> chosen = Choose(std::move(candidates), options.top);
  MemoryActivity shown = unattributed;
  for (const Candidate& candidate : chosen) {
    const AllocationVersion& allocation = *candidate.allocation;
    AllocationRow* row = report->add_allocations();
    row->set_id(allocation.number);
    row->set_kind(MemoryKindName(allocation.kind));
    row->set_bytes(allocation.end - allocation.base);
    row->set_address(allocation.base);
    if (run.size() > 1 && candidate.process->process) row->set_pid(candidate.process->process->pid);
    CallSite site = ResolveCallSite(*candidate.process,
                                    candidate.process->memory.table().sites()[allocation.site].stack, symbolizer);
    row->set_site(site.site);
    for (std::string& frame : site.stack) row->add_stack(std::move(frame));
    const MemoryActivity activity = scalers.at(candidate.process).Scale(*candidate.activity);
    SetActivity(activity, known, candidate.activity->any_sampled(), row);
    shown.Add(activity);
  }
  if (total > chosen.size()) {
    AllocationRow* row = report->add_allocations();
    row->set_site("(other allocations)");
    row->set_allocations(total - chosen.size());
    SetActivity(Rest(whole, shown), known, known.estimated, row);
  }
  if (unattributed.any()) {
    AllocationRow* row = report->add_allocations();
    row->set_id(0);
    row->set_site("(no known allocation)");
    SetActivity(unattributed, known, unattributed.any_sampled(), row);
  }
  if (report->allocations_size() == 0) AddEmptySection("allocations", "no allocation was recorded", report);
}

}  // namespace uvmtrace::analyzer
