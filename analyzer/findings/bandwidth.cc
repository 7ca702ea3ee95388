// How much moved when, from the driver's own counters: exact at every detail that has them, without a single event.
#include <algorithm>
#include <set>

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {

void AddBandwidth(const Run& run, Report* report) {
  CounterSeries sum;
  std::set<std::string> hosts;
  uint64_t started_ns = ~uint64_t{0};
  bool counters = false;
  for (const auto& process : run) {
    if (process->process) {
      hosts.insert(process->process->host);
      started_ns = std::min(started_ns, process->process->started_ns);
    }
    if (process->counters.samples == 0) continue;
    counters = true;
    sum.Merge(process->counter_series);
  }
  if (!counters) {
    return AddEmptySection("bandwidth", "the driver's own counters, which it is made of, are not in the trace", report);
  }
  if (hosts.size() > 1) {
    return AddEmptySection("bandwidth", "the processes ran on several machines, whose clocks cannot be compared",
                           report);
  }
  for (size_t i = 0; i < sum.buckets().size(); ++i) {
    const CounterAmounts& amounts = sum.buckets()[i];
    if (!amounts.any()) continue;
    const uint64_t start_ns = sum.start_ns() + i * sum.width_ns();
    BandwidthRow* row = report->add_bandwidth();
    // In whole steps from the one that the process started in.
    const uint64_t origin_ns = hosts.empty() ? sum.start_ns() : started_ns / sum.width_ns() * sum.width_ns();
    row->set_start_ns(start_ns > origin_ns ? start_ns - origin_ns : 0);
    row->set_duration_ns(sum.width_ns());
    row->set_host_to_device_bytes(amounts.host_to_device_bytes);
    row->set_device_to_host_bytes(amounts.device_to_host_bytes);
    row->set_gpu_faults(amounts.gpu_faults);
    row->set_cpu_faults(amounts.cpu_faults);
  }
  if (report->bandwidth_size() == 0) AddEmptySection("bandwidth", "nothing moved and nothing faulted", report);
}

}  // namespace uvmtrace::analyzer
