// Which kernels ran while the faults happened.
#include <algorithm>
#include <tuple>
#include <vector>

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

void Add(const KernelStatistics& part, KernelStatistics* sum) {
  sum->count += part.count;
  sum->total_ns += part.total_ns;
  sum->gpu_fault_groups += part.gpu_fault_groups;
  sum->host_to_device_bytes += part.host_to_device_bytes;
}

void AddRow(const std::string& name, const KernelStatistics& kernel, bool is_kernel, const Knowledge& known,
            Report* report) {
  KernelRow* row = report->add_kernels();
  row->set_name(name);
  if (is_kernel) {
    row->set_count(kernel.count);
    row->set_total_ns(kernel.total_ns);
  }
  if (known.gpu_faults) row->set_gpu_fault_groups(kernel.gpu_fault_groups);
  if (known.host_to_device) row->set_host_to_device_bytes(kernel.host_to_device_bytes);
}

}  // namespace

void AddKernels(const Run& run, const Knowledge& known, const ReportOptions& options, Report* report) {
  std::map<std::string, KernelStatistics> by_name;
  KernelStatistics unclaimed;
  for (const auto& process : run) {
    for (const auto& [ordinal, device] : process->device_activity) {
      Add(device.kernels.unclaimed(), &unclaimed);
      for (const auto& [id, kernel] : device.kernels.kernels()) {
        const auto name = process->strings.find(id);
        Add(kernel,
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
    return std::tuple(a.second.gpu_fault_groups, a.second.total_ns) >
           std::tuple(b.second.gpu_fault_groups, b.second.total_ns);
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
  if (unclaimed.gpu_fault_groups > 0 || unclaimed.host_to_device_bytes > 0) {
    AddRow("(no kernel)", unclaimed, false, known, report);
  }
}

}  // namespace uvmtrace::analyzer
