// What happened in which phase of the program, and whether the memory fitted.
#include <algorithm>
#include <map>

#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {

void AddPhases(const Run& run, const Knowledge& known, Report* report) {
  struct Sums {
    MemoryActivity activity;
    std::string origin;
    uint64_t start_ns = ~uint64_t{0};
    uint64_t end_ns = 0;
    uint64_t count = 0;
    uint64_t duration_ns = 0;
    uint64_t kernel_ns = 0;
  };
  std::map<std::string, Sums> by_name;
  std::vector<std::string> order;  // of the first beginning
  for (const auto& process : run) {
    const uint64_t started_ns = process->process ? process->process->started_ns : 0;
    for (const Phase& phase : process->phases) {
      if (phase.duration_ns == 0) continue;
      if (by_name.find(phase.name) == by_name.end()) order.push_back(phase.name);
      Sums& sums = by_name[phase.name];
      sums.origin = phase.origin;
      sums.start_ns = std::min(sums.start_ns, phase.first_ns > started_ns ? phase.first_ns - started_ns : 0);
      sums.end_ns = std::max(sums.end_ns, phase.last_ns > started_ns ? phase.last_ns - started_ns : 0);
      sums.count += phase.count;
      sums.duration_ns += phase.duration_ns;
      sums.kernel_ns += phase.kernel_ns;
    }
    ActivityScaler scaler(BytesOfProcess(*process));
    std::map<uint32_t, MemoryActivity> by_set;
    for (const Cells::Entry* cell : process->cells.Sorted()) by_set[cell->key.phases].Add(cell->activity);
    for (const auto& [set, activity] : by_set) {
      // Phases may lie within each other: each has all of what happened in it.
      for (const uint32_t name : process->timeline.phase_sets.names(set))
        by_name[process->phases[name].name].activity.Add(scaler.Scale(activity));
    }
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](const auto& a, const auto& b) { return by_name[a].start_ns < by_name[b].start_ns; });
  constexpr size_t kMaximumRows = 200;
  for (size_t i = 0; i < order.size() && i < kMaximumRows; ++i) {
    const Sums& sums = by_name[order[i]];
    PhaseRow* row = report->add_phases();
    row->set_name(order[i]);
    row->set_origin(sums.origin);
    row->set_start_ns(sums.start_ns);
    row->set_end_ns(sums.end_ns);
    row->set_count(sums.count);
    row->set_duration_ns(sums.duration_ns);
    if (known.host_to_device) row->set_host_to_device_bytes(sums.activity.host_to_device_bytes);
    if (known.device_to_host) row->set_device_to_host_bytes(sums.activity.device_to_host_bytes);
    if (known.device_to_host) row->set_evicted_bytes(sums.activity.evicted_bytes);
    if (known.fault_entries) row->set_gpu_fault_entries(sums.activity.gpu_fault_entries);
    if (known.cpu_faults) row->set_cpu_faults(sums.activity.cpu_faults);
    if (known.gpu_waits()) row->set_gpu_waited_ns(RoundToBytes(sums.activity.gpu_waited_ns));
    if (known.kernels) row->set_kernel_ns(sums.kernel_ns);
  }
}

void AddCapacity(const Run& run, const Knowledge& known, Report* report) {
  // Which GPU used which memory is not told by the calls: with one GPU it is that one.
  if (report->devices_size() != 1) return;
  const ProcessModel* largest = nullptr;
  for (const auto& process : run) {
    if (process->capacity_peak.managed_bytes == 0) continue;
    if (largest == nullptr || process->capacity_peak.managed_bytes + process->capacity_peak.plain_bytes >
                                  largest->capacity_peak.managed_bytes + largest->capacity_peak.plain_bytes) {
      largest = process.get();
    }
  }
  if (largest == nullptr) return;
  const CapacityPeak& peak = largest->capacity_peak;
  const DeviceRow& device = report->devices(0);
  CapacityRow* row = report->add_capacity();
  row->set_device(device.uuid());
  row->set_managed_peak_bytes(peak.managed_bytes);
  row->set_plain_bytes(peak.plain_bytes);
  const uint64_t started_ns = largest->process ? largest->process->started_ns : 0;
  if (peak.time_ns >= started_ns) row->set_time_ns(peak.time_ns - started_ns);
  if (device.total_memory_bytes() > 0) {
    row->set_total_bytes(device.total_memory_bytes());
    if (device.total_memory_bytes() > peak.plain_bytes)
      row->set_ratio(static_cast<double>(peak.managed_bytes) /
                     static_cast<double>(device.total_memory_bytes() - peak.plain_bytes));
  }
  if (known.device_to_host && report->totals().has_evicted_bytes())
    row->set_evicted_bytes(report->totals().evicted_bytes());
}

}  // namespace uvmtrace::analyzer
