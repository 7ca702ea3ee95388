// The report: totals balance, the unknown is absent, empty sections say why, the verdict says what the tables say.
#include <random>

#include "analyzer/findings/call_site.h"
#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {
namespace {

TEST(ReportTest, SampleTraceInNumbers) {
  TraceBuilder trace = SampleTrace();
  const Report report = ReportOf(trace);
  ExpectBalanced(report);
  const Totals& totals = report.totals();
  EXPECT_EQ(totals.gpu_fault_groups(), 31u);
  EXPECT_EQ(totals.gpu_fault_records(), 13u);
  EXPECT_EQ(totals.fault_batches(), 7u);
  EXPECT_EQ(totals.fault_service_ns(), 6u * 100'000 + 1000);
  EXPECT_EQ(totals.cpu_faults(), 1u);
  EXPECT_EQ(totals.host_to_device_bytes(), 12 * kMiB);
  EXPECT_EQ(totals.device_to_host_bytes(), 8 * kMiB + 4096);
  EXPECT_EQ(totals.evicted_bytes(), 8 * kMiB);
  EXPECT_EQ(totals.prefetched_ahead_bytes(), 12 * kMiB - 6 * 65536);
  EXPECT_EQ(totals.remote_mapped_bytes(), 65536u);
  EXPECT_EQ(totals.thrashing_events(), 1u);
  EXPECT_FALSE(totals.has_throttling_events());  // that counter was unavailable
  EXPECT_FALSE(totals.has_gpu_faults());
  EXPECT_FALSE(totals.has_gpu_fault_entries());
  EXPECT_EQ(report.oversubscription().managed_live_peak_bytes(), 6 * kMiB);
  EXPECT_DOUBLE_EQ(report.oversubscription().peak_ratio(), 1.5);
  EXPECT_EQ(report.oversubscription().refaulted_bytes(), 6 * kMiB);
  ASSERT_EQ(report.bh_threads_size(), 1);
  const BottomHalfRow& thread = report.bh_threads(0);
  EXPECT_EQ(thread.cpu_ns(), 900'000u);
  EXPECT_EQ(thread.wait_ns(), 2000u);
  EXPECT_DOUBLE_EQ(thread.ns_per_batch(), 900'000.0 / 7);
  EXPECT_DOUBLE_EQ(thread.ns_per_fault_group(), 900'000.0 / 31);
  EXPECT_DOUBLE_EQ(thread.ns_per_mib(), 900'000.0 / 20);
  EXPECT_EQ(report.capture().tools_event_queue_cpu_ns(), 20'000u);
  EXPECT_EQ(report.capture().tool_cpu_ns(), 30'000u);
  ASSERT_EQ(report.capture().lost_size(), 1);
  EXPECT_EQ(report.capture().lost(0).count(), 7u);
  EXPECT_EQ(report.verdict(0).rfind("SIMULATED", 0), 0u);
  EXPECT_NE(Verdict(report).find("what is in use does not fit"), std::string::npos);
  ASSERT_EQ(report.kernels_size(), 2);
  EXPECT_EQ(report.kernels(0).name(), "touch(float*, unsigned long)");
  EXPECT_EQ(report.kernels(0).gpu_fault_groups(), 30u);
  EXPECT_EQ(report.kernels(1).name(), "(no kernel)");
}

TEST(ReportTest, UnknownIsAbsentWithoutCupti) {
  TraceBuilder trace;
  trace.Source("cupti", STATE_UNAVAILABLE, "libcupti.so was not found; install cuda-cupti");
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  const Report report = ReportOf(trace);
  const Totals& totals = report.totals();
  EXPECT_TRUE(totals.has_api_calls());
  EXPECT_FALSE(totals.has_gpu_fault_groups());
  EXPECT_FALSE(totals.has_gpu_fault_records());
  EXPECT_FALSE(totals.has_cpu_faults());
  EXPECT_FALSE(totals.has_fault_batches());
  EXPECT_FALSE(totals.has_host_to_device_bytes());
  EXPECT_FALSE(totals.has_device_to_host_bytes());
  EXPECT_FALSE(totals.has_evicted_bytes());
  EXPECT_FALSE(totals.has_remote_mapped_bytes());
  EXPECT_FALSE(report.oversubscription().has_refaulted_bytes());
  EXPECT_FALSE(report.allocations(0).has_gpu_fault_groups());
  EXPECT_FALSE(report.processes(0).has_host_to_device_bytes());
  EXPECT_NE(ReasonOf(report, "migrations").find("libcupti.so was not found"), std::string::npos);
  EXPECT_NE(Verdict(report).find("libcupti.so was not found"), std::string::npos);
  ASSERT_GE(report.not_seen_size(), 1);
  EXPECT_NE(report.not_seen(0).find("install cuda-cupti"), std::string::npos);
}

TEST(ReportTest, NothingHappenedIsZeroWithCupti) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  const Report report = ReportOf(trace);
  ASSERT_TRUE(report.totals().has_gpu_fault_groups());
  EXPECT_EQ(report.totals().gpu_fault_groups(), 0u);
  ASSERT_TRUE(report.totals().has_host_to_device_bytes());
  EXPECT_EQ(report.totals().host_to_device_bytes(), 0u);
  EXPECT_EQ(ReasonOf(report, "migrations"), "none happened");
}

TEST(ReportTest, OneUnavailableCounterIsAbsentAlone) {
  TraceBuilder trace;
  trace.Source("cupti", STATE_ACTIVE);
  trace.Source("cupti.htod_bytes", STATE_ACTIVE);
  trace.Source("cupti.gpu_page_faults", STATE_UNAVAILABLE, "CUPTI_ERROR_NOT_SUPPORTED");
  const Report report = ReportOf(trace);
  EXPECT_TRUE(report.totals().has_host_to_device_bytes());
  EXPECT_FALSE(report.totals().has_gpu_fault_groups());
  EXPECT_FALSE(report.totals().has_fault_batches());
}

TEST(ReportTest, DetailCallsSaysSo) {
  TraceOptions options;
  options.detail = "calls";
  TraceBuilder trace(options);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  const Report report = ReportOf(trace);
  EXPECT_NE(ReasonOf(report, "faults").find("UVMTRACE_DETAIL=full"), std::string::npos);
  EXPECT_FALSE(report.totals().has_cpu_faults());
}

TEST(ReportTest, ZeroCopyIsExplained) {
  TraceBuilder trace;
  trace.CuptiActive();
  const uint32_t pin = trace.Function("cudaHostAlloc", OPERATION_ALLOCATE);
  TraceBuilder::Call call;
  call.function = pin;
  call.start_ns = kStart;
  call.address = kBase;
  call.bytes = 3 * kGiB;
  call.kind = MEMORY_KIND_PINNED;
  trace.Add(call);
  const Report report = ReportOf(trace);
  EXPECT_NE(Verdict(report).find("3.00 GiB of host memory are pinned or registered"), std::string::npos);
  EXPECT_NE(Verdict(report).find("no fault and no migration shows that; no copy used 3.00 GiB of it"),
            std::string::npos);
  EXPECT_EQ(ReasonOf(report, "faults"), "no managed memory was allocated");
}

TEST(ReportTest, MigrationSpanningTwoAllocationsIsSplit) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase + kMiB, kMiB, kStart + 6000);
  trace.Migrate(kStart + 10'000, kStart + 20'000, kBase + kMiB / 2, kMiB, -1, 0);
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.allocations_size(), 2);
  EXPECT_EQ(report.allocations(0).host_to_device_bytes(), kMiB / 2);
  EXPECT_EQ(report.allocations(1).host_to_device_bytes(), kMiB / 2);
  ExpectBalanced(report);
}

TEST(ReportTest, AddressReuseAcrossThreadsWhoseCallsAreOutOfOrder) {
  TraceBuilder trace;
  trace.CuptiActive();
  // Thread 2's ring was drained first: its allocation stands before thread 1's free of the same address.
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 10'000'000);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 40'000'000);
  trace.Free(kBase, kStart + 30'000'000);
  trace.Migrate(kStart + 20'000'000, kStart + 20'001'000, kBase, 4096, -1, 0);
  trace.Migrate(kStart + 50'000'000, kStart + 50'001'000, kBase, 65536, -1, 0);
  const Report report = ReportOf(trace);
  const MemoryRow* managed = MemoryOf(report, "managed");
  ASSERT_NE(managed, nullptr);
  EXPECT_EQ(managed->peak_bytes(), kMiB);
  EXPECT_EQ(managed->frees(), 1u);
  ASSERT_EQ(report.allocations_size(), 2);
  EXPECT_EQ(report.allocations(0).id(), 2u);
  EXPECT_EQ(report.allocations(0).host_to_device_bytes(), 65536u);
  EXPECT_EQ(report.allocations(1).host_to_device_bytes(), 4096u);
}

TEST(ReportTest, RefaultsOfAnAddressUsedAgainAreNotInvented) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, kStart + 10'000'000);
  trace.Migrate(kStart + 20'000'000, kStart + 20'001'000, kBase, 2 * kMiB, -1, 0);
  trace.Migrate(kStart + 21'000'000, kStart + 21'001'000, kBase, 2 * kMiB, 0, -1, MIGRATION_CAUSE_EVICTION);
  trace.Free(kBase, kStart + 30'000'000);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, kStart + 40'000'000);
  trace.Migrate(kStart + 50'000'000, kStart + 50'001'000, kBase, 2 * kMiB, -1, 0);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.oversubscription().refaulted_bytes(), 0u);
}

TEST(ReportTest, TheVerdictTellsPrefetchedAwayFromTouchedByTheCpu) {
  for (const MigrationCause cause : {MIGRATION_CAUSE_USER, MIGRATION_CAUSE_COHERENCE}) {
    TraceBuilder trace;
    trace.CuptiActive();
    trace.Allocate(MEMORY_KIND_MANAGED, kBase, 2 * kMiB, kStart + 10'000'000);
    trace.Migrate(kStart + 20'000'000, kStart + 20'001'000, kBase, 2 * kMiB, -1, 0);
    trace.Migrate(kStart + 21'000'000, kStart + 21'001'000, kBase, 2 * kMiB, 0, -1, cause);
    trace.Migrate(kStart + 22'000'000, kStart + 22'001'000, kBase, 2 * kMiB, -1, 0);
    const std::string verdict = Verdict(ReportOf(trace));
    const bool by_calls = cause == MIGRATION_CAUSE_USER;
    EXPECT_EQ(verdict.find("prefetch calls had moved it") != std::string::npos, by_calls) << verdict;
    EXPECT_EQ(verdict.find("ping-pong") != std::string::npos, !by_calls) << verdict;
  }
}

TEST(ReportTest, BusyTimeIsAUnionAndBandwidthFollows) {
  TraceBuilder trace;
  trace.CuptiActive();
  for (int i = 0; i < 4; ++i) trace.Migrate(kStart, kStart + 1'000'000, kBase, 2 * kMiB, -1, 0);
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.migrations_size(), 1);
  EXPECT_EQ(report.migrations(0).busy_ns(), 1'000'000u);
  EXPECT_DOUBLE_EQ(report.migrations(0).bytes_per_second(), 8.0 * kMiB * 1000);
}

TEST(ReportTest, TimesOfAnotherClockAreAttributedThroughSamples) {
  TraceBuilder trace;
  trace.CuptiActive();
  constexpr uint64_t kReal = 1'700'000'000'000'000'000;
  trace.ClockSample(kStart, kReal + kStart, 0, kReal + kStart);
  trace.SetClock(TIME_BASE_CUPTI);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 5000);
  trace.Migrate(kReal + kStart + 10'000, kReal + kStart + 20'000, kBase, kMiB, -1, 0);
  trace.Free(kBase, kStart + 100'000);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 200'000);
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.allocations(0).id(), 1u);
  EXPECT_EQ(report.allocations(0).host_to_device_bytes(), kMiB);
}

TEST(ReportTest, TwoProcessesAreOneRun) {
  TraceOptions first;
  first.pid = 100;
  TraceOptions second;
  second.pid = 200;
  second.parent_pid = 100;
  second.started_ns = kStart + 1'000'000'000;
  std::vector<std::string> traces;
  for (const TraceOptions& options : {second, first}) {
    TraceBuilder trace(options);
    trace.CuptiActive();
    trace.Device(0, kGiB);
    trace.KernelThread(1, 55, 1234, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
    trace.Allocate(MEMORY_KIND_MANAGED, kBase, kMiB, kStart + 1'500'000'000);
    trace.Migrate(kStart + 2'000'000'000, kStart + 2'000'010'000, kBase, kMiB, -1, 0);
    trace.GpuFault(kStart + 2'000'000'000, kStart + 2'000'020'000, kBase, 4);
    trace.ThreadSample(1, options.started_ns, options.started_ns / 10, 0);
    trace.ThreadSample(1, kStart + 3'000'000'000, (kStart + 3'000'000'000) / 10, 0);
    trace.ProcessSample(options.started_ns, 0, 0, 0);
    trace.ProcessSample(kStart + 3'000'000'000, 1000, 2000, 0);
    traces.push_back(trace.Finish(kStart + 4'000'000'000));
  }
  const Report report = ReportOf(traces);
  ExpectBalanced(report);
  EXPECT_EQ(report.capture().pid(), 100u);  // the one that the other descends from
  EXPECT_EQ(report.capture().duration_ns(), 4'000'000'000u);
  EXPECT_EQ(report.processes_size(), 2);
  EXPECT_EQ(report.totals().host_to_device_bytes(), 2 * kMiB);
  EXPECT_EQ(report.totals().gpu_fault_groups(), 8u);
  EXPECT_EQ(report.oversubscription().managed_live_peak_bytes(), 2 * kMiB);
  EXPECT_EQ(report.oversubscription().device_capacity_bytes(), kGiB);  // one GPU, seen twice
  ASSERT_EQ(report.bh_threads_size(), 1);
  EXPECT_EQ(report.bh_threads(0).cpu_ns(), 300'000'000u);  // of the widest span, not the sum
  EXPECT_DOUBLE_EQ(report.bh_threads(0).utilization(), 0.1);
  ASSERT_EQ(report.allocations_size(), 2);
  EXPECT_NE(report.allocations(0).pid(), report.allocations(1).pid());
}

TEST(ReportTest, RestartedBottomHalfIsAnotherThread) {
  TraceBuilder trace;
  trace.KernelThread(1, 55, 1000, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
  trace.KernelThread(2, 55, 2000, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
  trace.ThreadSample(1, kStart, 900'000'000, 0);
  trace.ThreadSample(1, kStart + 1'000'000, 900'500'000, 0);
  trace.ThreadSample(2, kStart + 2'000'000, 0, 0);
  trace.ThreadSample(2, kStart + 3'000'000, 250'000, 0);
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.bh_threads_size(), 2);
  EXPECT_EQ(report.bh_threads(0).cpu_ns() + report.bh_threads(1).cpu_ns(), 750'000u);
}

TEST(ReportTest, InvisibleBottomHalfIsNotZero) {
  TraceBuilder trace;
  trace.Source("bh_threads", STATE_UNAVAILABLE, "kernel threads are not visible in this container");
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.bh_threads_size(), 1);
  EXPECT_FALSE(report.bh_threads(0).visible());
  EXPECT_FALSE(report.bh_threads(0).has_cpu_ns());
  EXPECT_NE(report.bh_threads(0).reason().find("container"), std::string::npos);
}

TEST(ReportTest, BottomHalfSampledOnceIsNotZero) {
  TraceBuilder trace;
  trace.KernelThread(1, 55, 1000, "UVM GPU1 BH", THREAD_ROLE_BOTTOM_HALF);
  trace.ThreadSample(1, kStart, 900'000'000, 0);
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.bh_threads_size(), 1);
  EXPECT_FALSE(report.bh_threads(0).has_cpu_ns());
  EXPECT_FALSE(report.bh_threads(0).reason().empty());
}

TEST(ReportTest, DifferentRunsAreNamed) {
  TraceBuilder first;
  TraceBuilder second;
  std::string other;
  Chunk chunk;
  chunk.mutable_process()->set_pid(7);
  other = Frame(chunk.SerializeAsString(), 0, kRunId + 1);
  const Report report = ReportOf({first.Finish(), other});
  bool named = false;
  for (const auto& line : report.not_seen()) named |= line.find("2 different runs") != std::string::npos;
  EXPECT_TRUE(named);
}

TEST(ReportTest, TopFoldsTheRestIntoOneRowThatStillBalances) {
  TraceBuilder trace;
  trace.CuptiActive();
  for (uint64_t i = 0; i < 50; ++i) {
    trace.Allocate(MEMORY_KIND_MANAGED, kBase + i * 4 * kMiB, 2 * kMiB, kStart + 1000 * (i + 1));
    trace.Migrate(kStart + 1'000'000 + i * 1000, kStart + 1'000'500 + i * 1000, kBase + i * 4 * kMiB, 4096 * (i + 1),
                  -1, 0);
    trace.Kernel("kernel" + std::to_string(i), kStart + 1'000'000 + i * 1000, kStart + 1'000'600 + i * 1000);
  }
  const std::string bytes = trace.Finish();
  const Report folded = ReportOf({bytes}, 5);
  ExpectBalanced(folded);
  ASSERT_EQ(folded.allocations_size(), 6);
  EXPECT_EQ(folded.allocations(0).id(), 50u);
  EXPECT_EQ(folded.allocations(5).allocations(), 45u);
  EXPECT_FALSE(folded.allocations(5).has_id());
  const Report whole = ReportOf({bytes}, 0);
  ExpectBalanced(whole);
  EXPECT_EQ(whole.allocations_size(), 50);
}

TEST(ReportTest, RandomTracesBalance) {
  std::mt19937_64 random(2024);
  for (int round = 0; round < 60; ++round) {
    TraceBuilder trace;
    trace.CuptiActive();
    trace.Device(0, 64 * kMiB, 0x11);
    trace.Device(1, 64 * kMiB, 0x22);
    uint64_t now = kStart;
    std::vector<uint64_t> live;
    for (int i = 0; i < 400; ++i) {
      now += random() % 1'000'000;
      // Late, early and beside: nothing keeps to the allocations.
      const uint64_t time = now - random() % 3'000'000;
      const uint64_t address = kBase + random() % (64 * kMiB);
      const auto device = static_cast<int32_t>(random() % 4) - 2;
      const auto other = static_cast<int32_t>(random() % 4) - 2;
      switch (random() % 8) {
        case 0: {
          const uint64_t base = kBase + random() % 32 * 2 * kMiB + random() % 3 * 4096;
          trace.Allocate(static_cast<MemoryKind>(random() % 8), base, 1 + random() % (5 * kMiB), now);
          live.push_back(base);
          break;
        }
        case 1:
          if (!live.empty()) trace.Free(live[random() % live.size()], now);
          break;
        case 2:
          trace.GpuFault(time, time + random() % 50'000, address, random() % 5, device);
          break;
        case 3:
          trace.CpuFault(time, address);
          break;
        case 4:
          trace.Kernel("k" + std::to_string(random() % 5), time, time + random() % 2'000'000, device);
          break;
        case 5:
          if (random() % 8 == 0) trace.EndChunk(now);
          break;
        default:
          trace.Migrate(time, time + random() % 100'000, address, random() % (8 * kMiB), device, other,
                        static_cast<MigrationCause>(random() % 7));
      }
    }
    const std::string bytes = trace.Finish(now);
    SCOPED_TRACE(round);
    ExpectBalanced(ReportOf({bytes}, round % 2 == 0 ? 3 : 0));
    if (HasFailure()) return;
  }
}

TEST(ReportTest, RowsOfDamagedChunksAreCountedWhenTheEndTellsHowManyThereWere) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.EndChunk();
  trace.Migrate(kStart, kStart + 10, kBase, 4096, -1, 0);
  trace.Migrate(kStart, kStart + 10, kBase, 4096, -1, 0);
  trace.EndChunk();
  trace.Migrate(kStart, kStart + 10, kBase, 4096, -1, 0);
  trace.chunk().mutable_end()->set_migrations(3);
  std::string bytes = trace.Finish();
  EXPECT_EQ(ReportOf({bytes}).capture().lost_size(), 0);
  bytes[trace.frames()[2] - 1] ^= 1;
  const Report report = ReportOf({bytes});
  ASSERT_EQ(report.capture().lost_size(), 1);
  EXPECT_EQ(report.capture().lost(0).source(), "migrations");
  EXPECT_EQ(report.capture().lost(0).count(), 2u);
  EXPECT_EQ(report.capture().bad_chunks(), 1u);
}

TEST(ReportTest, BytesThatAreNoUtf8BecomeValidJson) {
  TraceBuilder trace;
  trace.Source("cupti", STATE_UNAVAILABLE, "caf\xe9 \xf0\x9f\x98\x80 ok");
  const Report report = ReportOf(trace);
  EXPECT_EQ(report.capture().sources(0).reason(), "caf? \xf0\x9f\x98\x80 ok");
}

TEST(ReportTest, TerminalCodesInATraceAreHarmless) {
  TraceBuilder trace;
  const uint32_t function = trace.Function("evil\033[2J\nname", OPERATION_COPY);
  TraceBuilder::Call call;
  call.function = function;
  call.start_ns = kStart;
  trace.Add(call);
  trace.Source("cupti", STATE_UNAVAILABLE, "reason\033]0;title\007");
  const std::string text = analyzer::RenderText(ReportOf(trace), {});
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_EQ(text.find('\007'), std::string::npos);
}

TEST(CallSiteTest, FrameworkFramesAreSkipped) {
  using analyzer::IsFrameworkFrame;
  EXPECT_TRUE(IsFrameworkFrame("libuvmtrace.so", "", ""));
  EXPECT_TRUE(IsFrameworkFrame("libcudart.so.13", "cudaMallocManaged", ""));
  EXPECT_TRUE(IsFrameworkFrame("libtorch_cuda.so", "at::empty()", ""));
  EXPECT_TRUE(IsFrameworkFrame("libc10_cuda.so", "", ""));
  EXPECT_TRUE(IsFrameworkFrame("python3.12", "_PyEval_EvalFrameDefault", ""));
  EXPECT_TRUE(IsFrameworkFrame("libpython3.11.so.1.0", "", ""));
  EXPECT_TRUE(IsFrameworkFrame("program", "__cudart516", ""));
  EXPECT_TRUE(IsFrameworkFrame("program", "cudaMallocManaged", ""));
  EXPECT_TRUE(IsFrameworkFrame("program", "cudaError cudaMallocManaged<float>(float**, unsigned long, unsigned int)",
                               "/usr/local/cuda/include/cuda_runtime.h"));
  EXPECT_FALSE(IsFrameworkFrame("program", "main", "main.cc"));
  EXPECT_FALSE(IsFrameworkFrame("program", "cudaArena::Grow(unsigned long)", "arena.cc"));
  EXPECT_FALSE(IsFrameworkFrame("pythonic_loader.so", "load", ""));
  EXPECT_FALSE(IsFrameworkFrame("liballocator.so", "", ""));
}

}  // namespace
}  // namespace uvmtrace::testing
