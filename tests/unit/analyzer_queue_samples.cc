// Sample traces as the driver's event queue makes them: see analyzer_trace_builder.h.
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kBase = 0x7f0000000000;
constexpr uint64_t kStart = 1'000'000'000;

void Describe(TraceBuilder* trace) {
  trace->Source("driver_queue", STATE_ACTIVE);
  trace->Source("exact_counters", STATE_ACTIVE);
  trace->Source("bh_threads", STATE_ACTIVE);
  trace->Source("cupti", STATE_ACTIVE);
  trace->Source("cupti.kernels", STATE_ACTIVE);
  for (const char* counter :
       {"cupti.cpu_page_faults", "cupti.dtoh_bytes", "cupti.gpu_page_faults", "cupti.htod_bytes"}) {
    trace->Source(counter, STATE_DISABLED, "the driver's event queue feeds instead");
  }
  trace->KernelThread(1, 55, 1234, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
}

}  // namespace

TraceBuilder QueueSampleTrace(bool replays) {
  TraceOptions options;
  options.simulated = true;
  TraceBuilder trace(options);
  Describe(&trace);
  trace.Source("bh_samples", STATE_ACTIVE);
  trace.Device(0, 4 * kMiB);
  trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
  auto* mapping = trace.chunk().add_mapping();
  mapping->set_id(1);
  mapping->set_start(0x400000);
  mapping->set_end(0x500000);
  mapping->set_load_bias(0x400000);
  mapping->set_path("/usr/bin/program");
  auto* stack = trace.chunk().add_stack();
  stack->set_id(1);
  stack->add_pc(0x401234);
  auto* thread = trace.chunk().add_thread();
  thread->set_tid(101);
  thread->set_name("worker");
  const std::vector<std::string> loop = {"service_fault_batch [nvidia_uvm]",
                                         "uvm_parent_gpu_service_replayable_faults [nvidia_uvm]",
                                         "replayable_faults_isr_bottom_half_entry [nvidia_uvm]", "kthread"};
  const auto in_loop = [&loop](std::vector<std::string> frames) {
    frames.insert(frames.end(), loop.begin(), loop.end());
    return frames;
  };
  trace.KernelStack(1, in_loop({"uvm_spin_loop", "uvm_tracker_wait", "block_copy_resident_pages.isra.0"}));
  trace.KernelStack(2, in_loop({"smp_call_function_many_cond", "flush_tlb_mm_range", "unmap_mapping_range"}));
  trace.KernelStack(3, {"uvm_spin_loop", "uvm_tracker_wait", "uvm_parent_gpu_service_replayable_faults"});
  trace.KernelStack(4, {"a_function_of_tomorrow", "kthread"});
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 6 * kMiB, kStart + 10'000, 1);
  trace.ThreadSample(1, kStart + 20'000, 5'000'000, 1000);
  trace.ProcessSample(kStart + 20'000, 1'000'000, 500'000, 10'000);
  trace.CounterSample(kStart + 20'000, 0, 0, 0, 0);
  trace.EndChunk(kStart + 30'000);
  // Three blocks through room for two, twice: a batch of eight entries for each, three of which are duplicates.
  uint64_t now = kStart + 100'000;
  uint64_t to_device = 0;
  uint64_t to_host = 0;
  uint32_t batch = 0xfffffffe;  // wraps
  for (int cycle = 0; cycle < 2; ++cycle) {
    trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
    for (uint64_t block = 0; block < 3; ++block) {
      const uint64_t address = kBase + block * 2 * kMiB;
      if (cycle > 0 || block == 2) {
        const uint64_t victim = kBase + (block + 1) % 3 * 2 * kMiB;
        trace.Migrate(now + 20'000, now + 60'000, victim, 2 * kMiB, 0, -1, MIGRATION_CAUSE_EVICTION);
        to_host += 2 * kMiB;
      }
      for (uint64_t entry = 0; entry < 8; ++entry) {
        trace.QueueFault(now + entry * 100, address + entry % 5 * 65536, batch, 0,
                         entry == 7 ? ACCESS_WRITE : ACCESS_READ);
      }
      trace.Migrate(now + 60'000, now + 70'000, address, 65536, -1, 0, MIGRATION_CAUSE_COHERENCE);
      trace.Migrate(now + 70'000, now + 95'000, address + 65536, 2 * kMiB - 65536, -1, 0, MIGRATION_CAUSE_PREFETCH);
      if (replays) trace.Replay(now + 100'000 + block * 10'000, batch);
      to_device += 2 * kMiB;
      ++batch;
      now += 200'000;
      trace.CounterSample(now, to_device, to_host, 0, to_device / (2 * kMiB) * 5);
      trace.CounterSample(now, to_device, to_host, 0, to_device / (2 * kMiB) * 5, 1);
    }
    trace.Kernel("_Z5touchPfm", now - 600'000, now);
    trace.EndChunk(now);
  }
  trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
  for (uint64_t i = 0; i < 3; ++i) trace.QueueCpuFault(now + 1000 * i, kBase + i * 4096, 0x402000, 101);
  trace.QueueCpuFault(now + 5000, kBase + 65536, 0x403000, 100);
  trace.Region(REGION_EVENT_READ_DUPLICATE, now, kBase, 65536);
  trace.Region(REGION_EVENT_READ_DUPLICATE_INVALIDATE, now, kBase, 4096);
  trace.FatalFault(now + 6000, 0x1000, 1);
  trace.Lose("driver_queue", "GPU faults dropped by the driver: the ring was full", 2);
  for (int i = 0; i < 5; ++i) trace.BottomHalfSample(now, 1, 1, 90'000);
  for (int i = 0; i < 3; ++i) trace.BottomHalfSample(now, 1, 2, 90'000);
  trace.BottomHalfSample(now, 1, 3, 90'000);
  trace.BottomHalfSample(now, 1, 4, 90'000);
  trace.CounterSample(now + 20'000, to_device, to_host, 4, 30);
  trace.CounterSample(now + 20'000, to_device, to_host, 0, 30, 1);
  trace.ThreadSample(1, now + 20'000, 5'900'000, 3000);
  trace.ProcessSample(now + 20'000, 1'500'000, 900'000, 30'000);
  trace.ToolSample(now + 20'000, {4'000, 10'000, 8'000, 0, 12'000, 3'000, 2'000}, 2048);
  trace.EndChunk(now + 20'000);
  return trace;
}

TraceBuilder WindowSampleTrace(int windows) {
  TraceOptions options;
  options.detail = "auto";
  TraceBuilder trace(options);
  Describe(&trace);
  trace.Source("bh_samples", STATE_UNAVAILABLE, "kernel.perf_event_paranoid is 4; set it to 1 or run as root");
  trace.Device(0, 8192 * kMiB);
  trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 1024 * kMiB, kStart + 10'000);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase + 2048 * kMiB, 64 * kMiB, kStart + 20'000);
  trace.CounterSample(kStart + 30'000, 0, 0, 0, 0);
  for (uint64_t i = 0; i < 32; ++i) {
    trace.Migrate(kStart + 100'000 + i * 1000, kStart + 100'900 + i * 1000, kBase + 2048 * kMiB + i * 2 * kMiB,
                  2 * kMiB, -1, 0, MIGRATION_CAUSE_COHERENCE);
  }
  trace.CounterSample(kStart + 1'000'000, 64 * kMiB, 0, 0, 32);
  trace.EndChunk(kStart + 1'000'000);
  trace.SetSource(EVENT_SOURCE_DRIVER_QUEUE);
  const uint64_t change = kStart + 2'000'000;
  trace.DetailChange(change, "sampled",
                     "migration events would have cost 64 % of the time, UVMTRACE_MAX_OVERHEAD is 20");
  for (int window = 0; window < windows; ++window) {
    const uint64_t now = change + 200'000'000 * static_cast<uint64_t>(window + 1);
    // A fifth to three tenths is faulted in, a quarter in the mean.
    const uint64_t faulted = (window % 2 == 0 ? 200 : 312) * uint64_t{1024};
    const uint64_t address = kBase + static_cast<uint64_t>(window) * 2 * kMiB;
    trace.Migrate(now + 1000, now + 21'000, address, faulted, -1, 0, MIGRATION_CAUSE_COHERENCE);
    trace.Migrate(now + 30'000, now + 60'000, address + faulted, kMiB - faulted, -1, 0, MIGRATION_CAUSE_PREFETCH);
    trace.Window(now, now + 10'000'000);
    trace.QueueFault(now + 500, address, static_cast<uint32_t>(window));
    trace.Replay(now + 70'000, static_cast<uint32_t>(window));
    trace.CounterSample(now + 10'000'000,
                        64 * kMiB + 1024 * kMiB * static_cast<uint64_t>(window + 1) / static_cast<uint64_t>(windows), 0,
                        0, 32);
  }
  trace.CounterSample(change + 5'000'000'000, 1088 * kMiB, 0, 0, 400);
  trace.EndChunk(change + 5'000'000'000);
  return trace;
}

}  // namespace uvmtrace::testing
