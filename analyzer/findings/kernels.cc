// Which kernels ran while the faults happened.
#include <algorithm>
#include <vector>

#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

void Add(const KernelStatistics& part, KernelStatistics* sum) {
  sum->count += part.count;
  sum->total_ns += part.total_ns;
  sum->load.Add(part.load);
}

void AddRow(const std::string& name, const KernelStatistics& kernel, bool is_kernel, const Knowledge& known,
            Report* report) {
  KernelRow* row = report->add_kernels();
  row->set_name(name);
  if (is_kernel) {
    row->set_count(kernel.count);
    row->set_total_ns(kernel.total_ns);
  }
  if (known.fault_groups) row->set_gpu_fault_groups(kernel.load.gpu_fault_groups);
  if (known.fault_entries) row->set_gpu_fault_entries(kernel.load.gpu_fault_entries);
  if (known.host_to_device) row->set_host_to_device_bytes(kernel.load.host_to_device_bytes);
  if (known.estimated) row->set_estimated(true);
}

// Bytes that were recorded in windows stand for more.
KernelStatistics Scaled(KernelStatistics kernel, const DirectionBytes& bytes, Rounder* rounder) {
  KernelLoad& load = kernel.load;
  load.host_to_device_bytes += rounder->Next(static_cast<long double>(load.sampled_host_to_device_bytes) * bytes.scale);
  load.host_to_device_bytes -= load.sampled_host_to_device_bytes;
  return kernel;
}

}  // namespace

void AddKernels(const Run& run, const Knowledge& known, const ReportOptions& options, Report* report) {
  std::map<std::string, KernelStatistics> by_name;
  KernelStatistics unclaimed;
  for (const auto& process : run) {
    const DirectionBytes bytes = BytesOfProcess(*process).of(Direction::kHostToDevice);
    Rounder rounder;
    unclaimed.load.host_to_device_bytes += bytes.unsampled;
    for (const auto& [ordinal, device] : process->device_activity) {
      Add(Scaled(device.kernels.unclaimed(), bytes, &rounder), &unclaimed);
      for (const auto& [id, kernel] : device.kernels.kernels()) {
        const auto name = process->strings.find(id);
        Add(Scaled(kernel, bytes, &rounder),
            &by_name[name != process->strings.end() ? Demangle(name->second) : "(name " + std::to_string(id) + ")"]);
      }
    }
  }
  if (by_name.empty()) {
    const std::string reason = WhyNoUnifiedMemoryEvents(run, "cupti.kernels");
    AddEmptySection("kernels", known.kernels ? "no kernel ran while kernels were recorded" : reason, report);
    return;
  }
  std::vector<std::pair<std::string, KernelStatistics>> order(by_name.begin(), by_name.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    const auto key = [](const KernelStatistics& kernel) {
      return std::pair(kernel.load.gpu_fault_groups + kernel.load.gpu_fault_entries, kernel.total_ns);
    };
    return key(a.second) > key(b.second);
  });
  KernelStatistics rest;
  for (size_t i = 0; i < order.size(); ++i) {
    if (options.top == 0 || i < options.top) {
      AddRow(order[i].first, order[i].second, true, known, report);
    } else {
      Add(order[i].second, &rest);
    }
  }
  if (rest.count > 0) AddRow("(other kernels)", rest, true, known, report);
  if (unclaimed.load.any()) {
    AddRow("(no kernel)", unclaimed, false, known, report);
  }
}

}  // namespace uvmtrace::analyzer
