// What the driver's fault-servicing threads cost, and what explains it.
//
// "UVM GPU<n> BH" services the faults of one GPU for every process of the machine and busy-waits for the copies it
// starts, so its CPU time is no pure overhead. Work for prefetch calls and CPU faults is charged to the calling process
// instead. Several traces may have sampled the same thread: its counters are cumulative, so it is taken once, over the
// widest span.
#include <algorithm>
#include <tuple>
#include <vector>

#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

std::vector<SampledThread> MergeThreads(const Run& run) {
  std::map<std::tuple<std::string, uint32_t, uint64_t>, SampledThread> merged;
  for (const auto& process : run) {
    const std::string host = process->process ? process->process->host : "";
    for (const auto& [id, thread] : process->kernel_threads) {
      if (thread.samples == 0 && thread.definition.tid == 0) continue;
      auto [entry, is_new] =
          merged.try_emplace(std::tuple(host, thread.definition.tid, thread.definition.start_ticks), thread);
      if (is_new || thread.samples == 0) continue;
      SampledThread& sum = entry->second;
      if (sum.samples == 0 || thread.first_ns < sum.first_ns) {
        sum.first_ns = thread.first_ns;
        sum.first_cpu_ns = thread.first_cpu_ns;
        sum.first_wait_ns = thread.first_wait_ns;
      }
      sum.last_ns = std::max(sum.last_ns, thread.last_ns);
      sum.last_cpu_ns = std::max(sum.last_cpu_ns, thread.last_cpu_ns);
      sum.last_wait_ns = std::max(sum.last_wait_ns, thread.last_wait_ns);
      sum.samples += thread.samples;
      if (sum.definition.device_uuid.empty()) sum.definition.device_uuid = thread.definition.device_uuid;
    }
  }
  std::vector<SampledThread> threads;
  for (const auto& [key, thread] : merged) threads.push_back(thread);
  std::stable_sort(threads.begin(), threads.end(), [](const SampledThread& a, const SampledThread& b) {
    return a.definition.name < b.definition.name;
  });
  return threads;
}

double Ratio(uint64_t numerator, uint64_t denominator) {
  return static_cast<double>(numerator) / static_cast<double>(denominator);
}

void AddThread(const SampledThread& thread, const std::map<std::string, GpuSums>& gpus, const Knowledge& known,
               bool only_thread, Report* report) {
  BottomHalfRow* row = report->add_bh_threads();
  row->set_name(thread.definition.name);
  row->set_visible(true);
  std::string uuid = thread.definition.device_uuid;
  if (uuid.empty()) {
    if (only_thread && report->devices_size() <= 1 && gpus.size() == 1) {
      uuid = gpus.begin()->first;
      row->set_reason("taken for the thread of the only GPU in the trace: the driver does not say which GPU it serves");
    } else {
      row->set_reason("which GPU it serves is not known: /proc/driver/nvidia-uvm/gpus could not be read");
    }
  }
  row->set_device_uuid(FormatUuid(uuid));
  if (thread.samples < 2 || thread.last_ns <= thread.first_ns) {
    row->set_reason("sampled only once, so what it did is not known");
    return;
  }
  const uint64_t cpu_ns = thread.last_cpu_ns - thread.first_cpu_ns;
  const uint64_t span_ns = thread.last_ns - thread.first_ns;
  row->set_cpu_ns(cpu_ns);
  row->set_wait_ns(thread.last_wait_ns - thread.first_wait_ns);
  row->set_span_ns(span_ns);
  row->set_utilization(Ratio(cpu_ns, span_ns));
  const auto gpu = gpus.find(uuid);
  if (gpu == gpus.end()) return;
  const GpuSums& sums = gpu->second;
  if (known.gpu_faults()) {
    if (sums.batches > 0) row->set_ns_per_batch(Ratio(cpu_ns, sums.batches));
    if (sums.fault_groups > 0) row->set_ns_per_fault_group(Ratio(cpu_ns, sums.fault_groups));
    if (sums.fault_entries > 0) row->set_ns_per_fault_entry(Ratio(cpu_ns, sums.fault_entries));
    if (sums.service_ns > 0) row->set_utilization_in_faults(Ratio(cpu_ns, sums.service_ns));
  }
  if (sums.coalesced_faults > 0) row->set_ns_per_fault(Ratio(cpu_ns, sums.coalesced_faults));
  if (known.any_migration() && sums.serviced_bytes > 0) {
    row->set_ns_per_mib(static_cast<double>(cpu_ns) * (1 << 20) / static_cast<double>(sums.serviced_bytes));
  }
}

}  // namespace

std::string GpuKey(const ProcessModel& process, int32_t ordinal) {
  const auto device = ordinal >= 0 ? process.devices.find(static_cast<uint32_t>(ordinal)) : process.devices.end();
  const bool described = device != process.devices.end() && device->second.uuid.size() == 16;
  return described ? device->second.uuid : "ordinal " + std::to_string(ordinal);
}

std::map<std::string, GpuSums> SumByGpu(const Run& run) {
  std::map<std::string, GpuSums> gpus;
  for (const auto& process : run) {
    const ProcessBytes bytes = BytesOfProcess(*process);
    const bool counters = HasCounters(*process);
    // With one GPU the process's counters are that GPU's.
    const bool single = process->device_activity.size() == 1 && process->device_counters.empty();
    for (const auto& [ordinal, activity] : process->device_activity) {
      GpuSums& sums = gpus[GpuKey(*process, ordinal)];
      const BatchStatistics queue = activity.queue_batches.Summarize();
      const BatchStatistics cupti = activity.batches.Summarize();
      sums.batches += cupti.batches + queue.batches;
      sums.fault_groups += activity.fault_groups;
      sums.fault_records += activity.fault_records;
      sums.fault_entries += activity.fault_entries();
      for (size_t i = 0; i < kAccessCount; ++i) sums.accesses[i] += activity.entries[i];
      sums.service_ns += cupti.service.length() + queue.service.length();
      sums.queue.Merge(queue);
      const long double serviced =
          static_cast<long double>(activity.serviced_bytes - activity.sampled_arrived_bytes -
                                   activity.sampled_evicted_bytes) +
          static_cast<long double>(activity.sampled_arrived_bytes) * bytes.of(Direction::kHostToDevice).scale +
          static_cast<long double>(activity.sampled_evicted_bytes) * bytes.of(Direction::kDeviceToHost).scale;
      sums.serviced_bytes += RoundToBytes(serviced);
      if (single && counters && ordinal >= 0) {
        sums.counters = true;
        sums.coalesced_faults += process->counters.gpu_faults;
      }
    }
    if (!counters) continue;
    for (const auto& [ordinal, one] : process->device_counters) {
      GpuSums& sums = gpus[GpuKey(*process, ordinal)];
      sums.counters = true;
      sums.coalesced_faults += one.gpu_faults;
    }
  }
  return gpus;
}

void AddBottomHalf(const Run& run, const Knowledge& known, Report* report) {
  const std::map<std::string, GpuSums> gpus = SumByGpu(run);
  const std::vector<SampledThread> threads = MergeThreads(run);
  const auto bottom_halves = std::count_if(threads.begin(), threads.end(), [](const SampledThread& thread) {
    return thread.definition.role == ThreadRole::kBottomHalf;
  });
  uint64_t queue_ns = 0;
  bool queue_known = false;
  for (const SampledThread& thread : threads) {
    if (thread.definition.role == ThreadRole::kBottomHalf) AddThread(thread, gpus, known, bottom_halves == 1, report);
    if (thread.definition.role == ThreadRole::kToolsQueue && thread.samples > 1) {
      queue_ns += thread.last_cpu_ns - thread.first_cpu_ns;
      queue_known = true;
    }
  }
  if (queue_known) report->mutable_capture()->set_tools_event_queue_cpu_ns(queue_ns);
  if (bottom_halves > 0) return;
  for (const auto& process : run) {
    const auto source = process->sources.find("bh_threads");
    if (source == process->sources.end()) continue;
    if (source->second.state == State::kUnavailable) {
      BottomHalfRow* row = report->add_bh_threads();
      row->set_name("UVM GPU<n> BH");
      row->set_visible(false);
      row->set_reason(source->second.reason);
      return;
    }
    if (!source->second.reason.empty()) {
      AddEmptySection("bh_threads", source->second.reason, report);
      return;
    }
  }
  AddEmptySection("bh_threads",
                  SumOfKind(run, MemoryKind::kManaged).allocations == 0
                      ? "no managed memory was allocated, so the driver's threads were not sampled"
                      : "no driver thread was sampled",
                  report);
}

}  // namespace uvmtrace::analyzer
