// What is sampled: cumulative counters of threads, of the process, of the driver, of uvmtrace itself.
#include <algorithm>

#include "analyzer/model/event_values.h"
#include "analyzer/model/process_model.h"

namespace uvmtrace::analyzer {

void ProcessModel::ApplyThreadSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    SampledThread& thread = kernel_threads[static_cast<uint32_t>(batch[thread_samples::kKernelThread][row])];
    const uint64_t time_ns = batch[thread_samples::kTime][row];
    const uint64_t cpu_ns = batch[thread_samples::kCpu][row];
    const uint64_t wait_ns = batch[thread_samples::kWait][row];
    if (thread.samples++ == 0) {
      thread.first_ns = time_ns;
      thread.first_cpu_ns = cpu_ns;
      thread.first_wait_ns = wait_ns;
    } else if (time_ns < thread.last_ns) {
      continue;
    }
    thread.last_ns = time_ns;
    thread.last_cpu_ns = std::max(thread.last_cpu_ns, cpu_ns);
    thread.last_wait_ns = std::max(thread.last_wait_ns, wait_ns);
    last_ns = std::max(last_ns, time_ns);
  }
}

void ProcessModel::ApplyProcessSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t user_ns = batch[process_samples::kUser][row];
    const uint64_t system_ns = batch[process_samples::kSystem][row];
    if (times.samples++ == 0) {
      times.first_user_ns = user_ns;
      times.first_system_ns = system_ns;
    }
    times.last_user_ns = std::max(times.last_user_ns, user_ns);
    times.last_system_ns = std::max(times.last_system_ns, system_ns);
    times.tool_ns = std::max(times.tool_ns, batch[process_samples::kTool][row]);
    last_ns = std::max(last_ns, batch[process_samples::kTime][row]);
  }
}

void ProcessModel::ApplyCounterSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    // A GPU's own rows are parts of the process's, which has its own.
    const uint64_t processor = batch[counter_samples::kProcessor][row];
    DriverCounters& sum = processor == 0 ? counters : device_counters[DeviceOrdinal(processor - 1)];
    CounterAmounts since;
    const auto raise = [&batch, row](uint64_t* counter, uint64_t* grown, size_t column) {
      const uint64_t value = batch[column][row];
      if (value <= *counter) return;
      *grown = value - *counter;
      *counter = value;
    };
    raise(&sum.host_to_device_bytes, &since.host_to_device_bytes, counter_samples::kHostToDeviceBytes);
    raise(&sum.device_to_host_bytes, &since.device_to_host_bytes, counter_samples::kDeviceToHostBytes);
    raise(&sum.cpu_faults, &since.cpu_faults, counter_samples::kCpuFaults);
    raise(&sum.gpu_faults, &since.gpu_faults, counter_samples::kGpuFaults);
    ++sum.samples;
    const uint64_t time_ns = batch[counter_samples::kTime][row];
    last_ns = std::max(last_ns, time_ns);
    if (processor == 0) counter_series.Add(time_ns, since);
    traffic.migrated[processor == 0 ? kCpu : DeviceOrdinal(processor - 1)].Add(
        {time_ns, sum.host_to_device_bytes, sum.device_to_host_bytes}, 0);
  }
}

void ProcessModel::ApplyToolSamples(const ColumnBatch& batch) {
  tool.samples += batch.rows;
  const auto raise = [&batch](uint64_t* time, size_t column, size_t row) {
    *time = std::max(*time, batch[column][row]);
  };
  for (size_t row = 0; row < batch.rows; ++row) {
    raise(&tool.calls_ns, tool_samples::kCalls, row);
    raise(&tool.start_ns, tool_samples::kStart, row);
    raise(&tool.writer_ns, tool_samples::kWriter, row);
    raise(&tool.cupti_ns, tool_samples::kCupti, row);
    raise(&tool.queue_ns, tool_samples::kQueue, row);
    raise(&tool.sampler_ns, tool_samples::kSampler, row);
    raise(&tool.profiler_ns, tool_samples::kProfiler, row);
    raise(&tool.bytes_written, tool_samples::kBytesWritten, row);
    last_ns = std::max(last_ns, batch[tool_samples::kTime][row]);
  }
}

void ProcessModel::ApplyBottomHalfSamples(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const uint64_t thread = batch[bottom_half_samples::kKernelThread][row] & 0xffffffff;
    const uint64_t stack = batch[bottom_half_samples::kKernelStack][row] & 0xffffffff;
    StackSamples& samples = bottom_half_samples[thread << 32 | stack];
    ++samples.samples;
    samples.weight_ns += batch[bottom_half_samples::kWeight][row];
  }
}

}  // namespace uvmtrace::analyzer
