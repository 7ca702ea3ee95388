#include "preload/session/own_cost.h"

#include "cupti/cupti_source.h"
#include "driver/driver_sampler.h"
#include "driver/queue_source.h"
#include "preload/base/call_cost.h"
#include "record/recorder.h"

namespace uvmtrace {

constinit std::atomic<uint64_t> calls_cost_ns{0};
constinit std::atomic<uint64_t> start_cost_ns{0};

void RecordOwnCost() {
  Recorder& recorder = Recorder::Get();
  ToolSampleEvent event;
  event.time_ns = NowNs();
  event.calls_ns = calls_cost_ns.load(std::memory_order_relaxed);
  event.start_ns = start_cost_ns.load(std::memory_order_relaxed);
  event.writer_ns = recorder.WriterCpuNs();
  event.cupti_ns = CuptiThreadCpuNs();
  event.queue_ns = QueueThreadCpuNs();
  event.sampler_ns = DriverSamplerCpuNs();
  event.profiler_ns = DriverProfilerCpuNs();
  event.bytes_written = recorder.BytesWritten();
  recorder.Record(event);
}

void ForgetOwnCost() {
  calls_cost_ns.store(0, std::memory_order_relaxed);
  start_cost_ns.store(0, std::memory_order_relaxed);
}

}  // namespace uvmtrace
