// Which kernels ran while the faults happened.
#include <algorithm>
#include <vector>

#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

struct KernelSums {
  uint64_t count = 0;
  uint64_t total_ns = 0;
  MemoryActivity activity;  // while it ran
  bool shared = false;      // other kernels ran at the same time

  void Add(const KernelSums& part) {
    count += part.count;
    total_ns += part.total_ns;
    activity.Add(part.activity);
    shared |= part.shared;
  }
  bool any() const {
    return (activity.gpu_fault_groups | activity.gpu_fault_entries | activity.unasked_host_to_device_bytes) != 0;
  }
};

void AddRow(const std::string& name, const KernelSums& kernel, bool is_kernel, const Knowledge& known, Report* report) {
  KernelRow* row = report->add_kernels();
  row->set_name(name);
  if (is_kernel) {
    row->set_count(kernel.count);
    row->set_total_ns(kernel.total_ns);
  }
  if (known.fault_groups) row->set_gpu_fault_groups(kernel.activity.gpu_fault_groups);
  if (known.fault_entries) row->set_gpu_fault_entries(kernel.activity.gpu_fault_entries);
  if (known.host_to_device) row->set_host_to_device_bytes(kernel.activity.unasked_host_to_device_bytes);
  if (kernel.activity.sampled_unasked_host_to_device_bytes > 0) row->set_estimated(true);
  if (known.gpu_waits()) row->set_gpu_waited_ns(static_cast<uint64_t>(kernel.activity.gpu_waited_ns));
  if (kernel.shared) row->set_shared(true);
}

// Bytes that were recorded in windows stand for more.
void Scale(MemoryActivity* activity, const DirectionBytes& bytes, Rounder* rounder) {
  const uint64_t sampled = activity->sampled_unasked_host_to_device_bytes;
  activity->unasked_host_to_device_bytes -= sampled;
  activity->unasked_host_to_device_bytes += rounder->Next(static_cast<long double>(sampled) * bytes.scale);
}

}  // namespace

std::string NameOfKernel(const ProcessModel& process, uint32_t id) {
  const auto name = process.strings.find(id);
  return name != process.strings.end() ? Demangle(name->second) : "(name " + std::to_string(id) + ")";
}

// Kernels that ran at once share what happened: all parts add up to the whole.
MemoryActivity PartOf(const MemoryActivity& whole, size_t part, size_t parts) {
  MemoryActivity result;
  const auto share = [&](uint64_t value) { return value / parts + (part < value % parts ? 1 : 0); };
  result.gpu_fault_groups = share(whole.gpu_fault_groups);
  result.gpu_fault_records = share(whole.gpu_fault_records);
  result.gpu_fault_entries = share(whole.gpu_fault_entries);
  result.faulted_bytes = share(whole.faulted_bytes);
  result.unasked_host_to_device_bytes = share(whole.unasked_host_to_device_bytes);
  result.sampled_unasked_host_to_device_bytes = share(whole.sampled_unasked_host_to_device_bytes);
  for (size_t i = 0; i < kAccessCount; ++i) result.accesses[i] = share(whole.accesses[i]);
  result.gpu_waited_ns = whole.gpu_waited_ns / static_cast<double>(parts);
  return result;
}

namespace {

// Absent where two processes used one GPU: their kernels may have run at once.
void AddBusyTime(const Run& run, Totals* totals) {
  std::map<std::string, uint64_t> by_gpu;
  for (const auto& process : run) {
    for (const auto& [ordinal, kernels] : process->timeline.kernels) {
      const TimeFilter& filter = process->timeline.filter;
      uint64_t busy_ns = filter.everything() ? kernels.CoveredNs(0, ~uint64_t{0}) : 0;
      for (const auto& [from_ns, until_ns] : filter.spans()) busy_ns += kernels.CoveredNs(from_ns, until_ns);
      if (!by_gpu.emplace(GpuKey(*process, ordinal), busy_ns).second) return;
    }
  }
  uint64_t sum_ns = 0;
  for (const auto& [gpu, busy_ns] : by_gpu) sum_ns += busy_ns;
  totals->set_kernel_busy_ns(sum_ns);
}

}  // namespace

void AddKernels(const Run& run, const Knowledge& known, const ReportOptions& options, Report* report) {
  if (known.kernels) AddBusyTime(run, report->mutable_totals());
  std::map<std::string, KernelSums> by_name;
  KernelSums unclaimed;
  for (const auto& process : run) {
    const DirectionBytes bytes = BytesOfProcess(*process).of(Direction::kHostToDevice);
    Rounder rounder;
    unclaimed.activity.unasked_host_to_device_bytes += bytes.unsampled;
    for (const auto& [id, kernel] : process->kernels) {
      KernelSums& sums = by_name[NameOfKernel(*process, id)];
      sums.count += kernel.count;
      sums.total_ns += kernel.total_ns;
    }
    std::map<uint32_t, MemoryActivity> by_set;
    for (const Cells::Entry* cell : process->cells.Sorted()) by_set[cell->key.kernels].Add(cell->activity);
    for (auto& [set, activity] : by_set) {
      Scale(&activity, bytes, &rounder);
      const std::vector<uint32_t>& names = process->timeline.kernel_sets.names(set);
      if (names.empty()) {
        unclaimed.activity.Add(activity);
        continue;
      }
      for (size_t i = 0; i < names.size(); ++i) {
        KernelSums& sums = by_name[NameOfKernel(*process, names[i])];
        sums.activity.Add(PartOf(activity, i, names.size()));
        sums.shared |= names.size() > 1;
      }
    }
  }
  if (by_name.empty()) {
    const std::string reason = WhyNoUnifiedMemoryEvents(run, "cupti.kernels");
    AddEmptySection("kernels", known.kernels ? "no kernel ran while kernels were recorded" : reason, report);
    return;
  }
  std::vector<std::pair<std::string, KernelSums>> order(by_name.begin(), by_name.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    const auto key = [](const KernelSums& kernel) {
      return std::pair(kernel.activity.gpu_fault_groups + kernel.activity.gpu_fault_entries, kernel.total_ns);
    };
    return key(a.second) > key(b.second);
  });
  KernelSums rest;
  for (size_t i = 0; i < order.size(); ++i) {
    if (options.top == 0 || i < options.top) {
      AddRow(order[i].first, order[i].second, true, known, report);
    } else {
      rest.Add(order[i].second);
    }
  }
  if (rest.count > 0) AddRow("(other kernels)", rest, true, known, report);
  if (unclaimed.any()) {
    AddRow("(no kernel)", unclaimed, false, known, report);
  }
}

}  // namespace uvmtrace::analyzer
