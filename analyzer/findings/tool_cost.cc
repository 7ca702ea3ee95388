// What uvmtrace itself cost the run. Times of the program's own threads inside our calls are estimated by the recorder;
// the rest is CPU time of our threads, as the kernel counts it.
#include <algorithm>

#include "analyzer/findings/driver_symbols.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

// To record a migration the driver has the GPU write a time stamp after the copy, behind a memory barrier for the whole
// system (uvm_push_timestamp), and a bottom half waits for the last one before it replays. 34,000 of them made 82 ms of
// faults 65 ms longer (H200, driver 580). Of a prefetch call's copies nobody waits for each.
constexpr uint64_t kTimeStampNs = 1900;

bool ServedByABottomHalf(Direction direction, MigrationCause cause) {
  if (cause == MigrationCause::kEviction) return true;
  // What goes to the host for other causes was touched by the CPU, which served itself.
  return direction != Direction::kDeviceToHost &&
         (cause == MigrationCause::kCoherence || cause == MigrationCause::kPrefetch ||
          cause == MigrationCause::kAccessCounters);
}

// What the recording cost the program in the driver and on the GPU: in no thread of ours.
void AddTimeStamps(const Run& run, const Report& report, ToolCost* cost) {
  uint64_t stamps = 0;
  for (const auto& process : run) {
    if (process->process.has_value() && process->process->simulated) continue;
    if (process->reconstruction) continue;  // none of these was recorded
    for (size_t direction = 0; direction < kDirectionCount; ++direction) {
      for (size_t cause = 0; cause < kMigrationCauseCount; ++cause) {
        if (ServedByABottomHalf(static_cast<Direction>(direction), static_cast<MigrationCause>(cause))) {
          stamps += process->migrations[direction][cause].count;
        }
      }
    }
  }
  if (stamps == 0) return;
  uint64_t estimate_ns = stamps * kTimeStampNs;
  // Not more than the threads were seen to wait.
  uint64_t waited_ns = 0;
  for (const BottomHalfTimeRow& row : report.bh_time()) {
    if (row.part() == DriverWorkName(DriverWork::kGpuWait)) waited_ns += row.cpu_ns();
  }
  if (report.bh_time_size() > 0) estimate_ns = std::min(estimate_ns, waited_ns);
  cost->set_time_stamps(stamps);
  cost->set_time_stamps_ns(estimate_ns);
}

}  // namespace

void AddToolCost(const Run& run, Report* report) {
  ToolTimes sum;
  uint64_t events = 0;
  uint64_t process_cpu_ns = 0;
  for (const auto& process : run) {
    const ToolTimes& tool = process->tool;
    if (tool.samples == 0) continue;
    sum.samples += tool.samples;
    sum.calls_ns += tool.calls_ns;
    sum.start_ns += tool.start_ns;
    sum.writer_ns += tool.writer_ns;
    sum.cupti_ns += tool.cupti_ns;
    sum.queue_ns += tool.queue_ns;
    sum.sampler_ns += tool.sampler_ns;
    sum.profiler_ns += tool.profiler_ns;
    sum.bytes_written += tool.bytes_written;
    events += process->api_calls + process->gpu_fault_rows + process->cpu_fault_rows + process->migration_rows +
              process->region_rows + process->kernel_rows + process->replay_rows;
    process_cpu_ns += process->times.last_user_ns + process->times.last_system_ns;
  }
  if (sum.samples == 0) return;
  ToolCost* cost = report->mutable_capture()->mutable_tool_cost();
  const uint64_t total_ns =
      sum.calls_ns + sum.start_ns + sum.writer_ns + sum.cupti_ns + sum.queue_ns + sum.sampler_ns + sum.profiler_ns;
  cost->set_calls_ns(sum.calls_ns);
  cost->set_start_ns(sum.start_ns);
  cost->set_writer_ns(sum.writer_ns);
  cost->set_cupti_ns(sum.cupti_ns);
  cost->set_queue_ns(sum.queue_ns);
  cost->set_sampler_ns(sum.sampler_ns);
  cost->set_profiler_ns(sum.profiler_ns);
  cost->set_total_ns(total_ns);
  cost->set_bytes_written(sum.bytes_written);
  cost->set_events(events);
  if (events > 0) {
    cost->set_ns_per_event(static_cast<double>(total_ns) / static_cast<double>(events));
    cost->set_bytes_per_event(static_cast<double>(sum.bytes_written) / static_cast<double>(events));
  }
  if (process_cpu_ns > 0) {
    cost->set_share_of_process_cpu(static_cast<double>(total_ns) / static_cast<double>(process_cpu_ns));
  }
  AddTimeStamps(run, *report, cost);
}

}  // namespace uvmtrace::analyzer
