// What CUPTI's records become, one test for each: old and new layouts, buffers, values that are no counts.
#include <algorithm>
#include <thread>

#include "tests/unit/cupti_test_util.h"

namespace uvmtrace {
namespace {

using namespace cupti_test;  // NOLINT

TEST(CuptiSource, EachCounterKindBecomesItsEvent) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    auto htod = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD);
    htod.value = 65536;
    htod.srcId = kCpuId;
    htod.dstId = 1;
    htod.flags = CUPTI_ACTIVITY_UNIFIED_MEMORY_MIGRATION_CAUSE_PREFETCH;
    Queue(fake, htod);
    auto dtoh = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH);
    dtoh.value = 4096;
    dtoh.flags = CUPTI_ACTIVITY_UNIFIED_MEMORY_MIGRATION_CAUSE_EVICTION;
    Queue(fake, dtoh);
    auto dtod = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOD);
    dtod.value = 8192;
    dtod.dstId = 1;
    Queue(fake, dtod);
    auto gpu_fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT);
    gpu_fault.value = 3;
    gpu_fault.srcId = 1;
    gpu_fault.flags = CUPTI_ACTIVITY_UNIFIED_MEMORY_ACCESS_TYPE_WRITE;
    Queue(fake, gpu_fault);
    auto throttling = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THROTTLING);
    throttling.flags = 1;
    Queue(fake, throttling);
    CUpti_ActivityKernel9 kernel{};
    kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    kernel.start = kStartNs + 5;
    kernel.end = kStartNs + 105;
    kernel.deviceId = 1;
    kernel.streamId = 7;
    kernel.name = "_Z5touchPcmmi";
    Queue(fake, kernel);
    const uint64_t others[] = {CUPTI_ACTIVITY_KIND_RUNTIME};  // of another client
    Queue(fake, others);
    Queue(fake, kernel);
    FinishCupti(2000);
    return fake->calls_in_callback == 0 ? "" : "called CUPTI inside a buffer callback";
  });
  ASSERT_EQ(trace.migrations.size(), 3u);
  EXPECT_EQ(trace.migrations[0].bytes, 65536u);
  EXPECT_EQ(trace.migrations[0].source, -1);  // T7
  EXPECT_EQ(trace.migrations[0].destination, 1);
  EXPECT_EQ(trace.migrations[0].cause, 3);
  EXPECT_EQ(trace.migrations[0].start_ns, static_cast<int64_t>(kStartNs));
  EXPECT_EQ(trace.migrations[0].duration_ns, 1000u);
  EXPECT_EQ(trace.migrations[0].address, 0x7f0000000000u);
  EXPECT_EQ(trace.migrations[1].source, 0);
  EXPECT_EQ(trace.migrations[1].destination, -1);
  EXPECT_EQ(trace.migrations[1].cause, 4);
  EXPECT_EQ(trace.migrations[2].source, 0);
  EXPECT_EQ(trace.migrations[2].destination, 1);
  ASSERT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.gpu_faults[0].groups, 3u);
  EXPECT_EQ(trace.gpu_faults[0].device, 1);
  EXPECT_EQ(trace.gpu_faults[0].access, 2);
  ASSERT_EQ(trace.regions.size(), 1u);
  EXPECT_EQ(trace.regions[0].kind, 2);
  EXPECT_EQ(trace.regions[0].source, -1);
  EXPECT_EQ(trace.regions[0].duration_ns, 1000u);
  ASSERT_EQ(trace.kernels.size(), 2u);
  for (const auto& kernel : trace.kernels) {
    EXPECT_EQ(kernel.name, "_Z5touchPcmmi");
    EXPECT_EQ(kernel.duration_ns, 100u);
    EXPECT_EQ(kernel.device, 1);
    EXPECT_EQ(kernel.stream, 7u);
  }
  EXPECT_TRUE(trace.losses.empty());
}

TEST(CuptiSource, CopiesWaitsAndLaunchesBelongToTheirKernels) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    CuptiOptions options = Options();
    options.launches = true;
    StartCupti(options);
    CUpti_ActivityMemcpy6 copy{};
    copy.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
    copy.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD;
    copy.srcKind = CUPTI_ACTIVITY_MEMORY_KIND_PINNED;
    copy.dstKind = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE;
    copy.flags = CUPTI_ACTIVITY_FLAG_MEMCPY_ASYNC;
    copy.bytes = 4096;
    copy.start = kStartNs;
    copy.end = kStartNs + 50;
    copy.streamId = 7;
    copy.correlationId = 11;
    Queue(fake, copy);
    CUpti_ActivityMemcpyPtoP4 peer{};
    peer.kind = CUPTI_ACTIVITY_KIND_MEMCPY2;
    peer.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_PTOP;
    peer.bytes = 8192;
    peer.start = kStartNs + 1;
    peer.end = kStartNs + 2;
    peer.correlationId = 12;
    Queue(fake, peer);
    CUpti_ActivityMemset4 set{};
    set.kind = CUPTI_ACTIVITY_KIND_MEMSET;
    set.bytes = 100;
    set.start = kStartNs + 3;
    set.end = kStartNs + 4;
    set.memoryKind = CUPTI_ACTIVITY_MEMORY_KIND_MANAGED;
    set.correlationId = 13;
    Queue(fake, set);
    CUpti_ActivitySynchronization2 wait{};
    wait.kind = CUPTI_ACTIVITY_KIND_SYNCHRONIZATION;
    wait.type = CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_SYNCHRONIZE;
    wait.start = kStartNs + 5;
    wait.end = kStartNs + 105;
    wait.streamId = 7;
    Queue(fake, wait);
    fake->called(CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel, 4711, 14);
    fake->called(CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuMemAlloc_v2, 4711, 15);
    fake->called(CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000, 4712, 16);
    CUpti_ActivityAPI others{};  // of another client, which asked for all calls
    others.kind = CUPTI_ACTIVITY_KIND_DRIVER;
    others.cbid = CUPTI_DRIVER_TRACE_CBID_cuMemAlloc_v2;
    others.start = others.end = kStartNs;
    Queue(fake, others);
    FinishCupti(2000);
    return "";
  });
  ASSERT_EQ(trace.copies.size(), 3u);
  EXPECT_EQ(trace.copies[0].bytes, 4096u);
  EXPECT_EQ(trace.copies[0].duration_ns, 50u);
  EXPECT_EQ(trace.copies[0].kind, 1);
  EXPECT_EQ(trace.copies[0].source_memory, 2);
  EXPECT_EQ(trace.copies[0].destination_memory, 3);
  EXPECT_EQ(trace.copies[0].asynchronous, 1u);
  EXPECT_EQ(trace.copies[0].correlation, 11u);
  EXPECT_EQ(trace.copies[1].kind, 5);
  EXPECT_EQ(trace.copies[1].correlation, 12u);
  EXPECT_EQ(trace.copies[2].kind, 6);
  EXPECT_EQ(trace.copies[2].destination_memory, 5);
  ASSERT_EQ(trace.synchronizations.size(), 1u);
  EXPECT_EQ(trace.synchronizations[0].kind, 3);
  EXPECT_EQ(trace.synchronizations[0].duration_ns, 100u);
  ASSERT_EQ(trace.launches.size(), 2u);
  EXPECT_EQ(trace.launches[0].tid, 4711u);
  EXPECT_EQ(trace.launches[0].correlation, 14u);
  EXPECT_EQ(trace.launches[1].correlation, 16u);
  EXPECT_TRUE(trace.losses.empty());
}

// Each costs the program a record or two for every launch and every wait.
TEST(CuptiSource, LaunchesAndWaitsAreRecordedOnlyWhereTheyAreAskedFor) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    fake->called(CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel, 4711, 14);
    fake->called(CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000, 4711, 14);
    FinishCupti(2000);
    return "";
  });
  EXPECT_TRUE(trace.launches.empty());
  EXPECT_EQ(trace.states.at("cupti.launches").reason, "only with UVMTRACE_KERNELS=1");
  EXPECT_EQ(trace.states.at("cupti.synchronizations").reason, "only with UVMTRACE_KERNELS=1");
}

TEST(CuptiSource, T1_NoMemoryStillGivesBuffersAndCountsTheLoss) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    if (!WaitFor([&] { return fake->flushes > 0; })) return "no flush";
    const rlimit none{1, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &none) != 0) return "setrlimit";
    std::vector<uint8_t*> buffers(64);  // grown before memory ends
    std::set<uint8_t*> distinct;
    size_t bytes = 0;
    size_t max_records = 0;
    for (uint8_t*& buffer : buffers) {
      buffer = fake->request(&bytes, &max_records);
      if (buffer == nullptr) return "a null buffer";
      if (reinterpret_cast<uintptr_t>(buffer) % 8 != 0 || bytes < 1024) return "a buffer that CUPTI cannot use";
      memset(buffer, 0, bytes);
    }
    // The shared one holds what several threads wrote over each other: nothing of it may become an event.
    auto fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT);
    memcpy(buffers.back(), &fault, sizeof fault);
    fake->complete(buffers.back(), bytes, sizeof fault);
    if (buffers[0] == buffers.back()) return "the emergency buffers were skipped";
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &all);  // the recorder, too, needs some for this thread
    memcpy(buffers[0], &fault, sizeof fault);
    fake->complete(buffers[0], size_t{64} << 10, sizeof fault);
    FinishCupti(2000);
    return fake->null_buffers == 0 ? "" : "null buffers";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.losses.at("cupti: no memory for CUPTI's buffers"), 1u);
}

TEST(CuptiSource, T1_ManyThreadsEachGetTheirOwnBuffer) {
  RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    CuptiOptions options = Options();
    options.buffer_bytes = size_t{512} << 20;
    StartCupti(options);
    std::set<uint8_t*> distinct;
    size_t bytes = 0;
    size_t max_records = 0;
    std::vector<uint8_t*> buffers(300);
    for (uint8_t*& buffer : buffers) {
      buffer = fake->request(&bytes, &max_records);
      if (bytes != size_t{1} << 20 || max_records != 0) return "not an ordinary buffer";
      distinct.insert(buffer);
    }
    if (distinct.size() != buffers.size()) return "a buffer was lent twice";
    for (uint8_t* buffer : buffers) fake->complete(buffer, bytes, 0);
    if (distinct.count(fake->request(&bytes, &max_records)) != 1) return "returned buffers are not used again";
    alignas(8) static uint8_t foreign[4096];  // of a client whose callbacks ours replaced
    fake->complete(foreign, sizeof foreign, 0);
    FinishCupti(2000);
    return "";
  });
}

// The fake steps from record to record by its version's size, so reading 104 bytes of a 64-byte record would take the
// next record's words for processors.
TEST(CuptiSource, T3_RecordsOf64BytesAreReadWithoutProcessors) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    fake->version = 25;
    StartCupti(Options());
    auto thrashing = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING);
    thrashing.srcId = 0b0100;
    thrashing.flags = 1;
    Queue(fake, thrashing);
    thrashing.srcId = 0b1010;
    thrashing.flags = 0;
    Queue(fake, thrashing);
    FinishCupti(2000);
    return "";
  });
  ASSERT_EQ(trace.regions.size(), 2u);
  EXPECT_EQ(trace.regions[0].source, 2);
  EXPECT_EQ(trace.regions[0].destination, -1);
  EXPECT_EQ(trace.regions[1].source, 1);
  EXPECT_EQ(trace.regions[1].destination, 3);
}

TEST(CuptiSource, T3_RecordsOf104BytesNameProcessorsBeyond32) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    fake->version = 26;
    StartCupti(Options());
    auto thrashing = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING);
    thrashing.srcId = 0xFFFF;  // to be ignored
    thrashing.processors[0] = uint64_t{1} << 40;
    thrashing.processors[1] = 1;
    Queue(fake, thrashing);
    FinishCupti(2000);
    return "";
  });
  ASSERT_EQ(trace.regions.size(), 1u);
  EXPECT_EQ(trace.regions[0].source, 40);
  EXPECT_EQ(trace.regions[0].destination, 64);
}

TEST(CuptiSource, T4_ValuesThatAreNoCountsStayApart) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    auto cpu_fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT);
    cpu_fault.value = 0x55550000abcd;
    cpu_fault.flags = CUPTI_ACTIVITY_UNIFIED_MEMORY_ACCESS_TYPE_READ;
    Queue(fake, cpu_fault);
    auto thrashing = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING);
    thrashing.value = 2 << 20;
    Queue(fake, thrashing);
    auto remote = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_REMOTE_MAP);
    remote.value = 1 << 16;
    remote.flags = 3;
    Queue(fake, remote);
    auto unknown = Counter(static_cast<CUpti_ActivityUnifiedMemoryCounterKind>(77));
    Queue(fake, unknown);
    FinishCupti(2000);
    return "";
  });
  ASSERT_EQ(trace.cpu_faults.size(), 1u);
  EXPECT_EQ(trace.cpu_faults[0].pc, 0x55550000abcdu);
  EXPECT_EQ(trace.cpu_faults[0].access, 1);
  EXPECT_TRUE(trace.gpu_faults.empty());
  EXPECT_TRUE(trace.migrations.empty());
  ASSERT_EQ(trace.regions.size(), 2u);
  EXPECT_EQ(trace.regions[0].kind, 1);
  EXPECT_EQ(trace.regions[0].bytes, uint64_t{2} << 20);
  EXPECT_EQ(trace.regions[0].duration_ns, 0u);  // its end means nothing
  EXPECT_EQ(trace.regions[1].kind, 3);
  EXPECT_EQ(trace.regions[1].bytes, uint64_t{1} << 16);
  EXPECT_EQ(trace.regions[1].cause, 3u);
  EXPECT_EQ(trace.regions[1].destination, -1);
  EXPECT_EQ(trace.losses.at("cupti: unknown counter kind"), 1u);
}

TEST(CuptiSource, T6_RecordsInProgressAreKeptWithoutADuration) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    auto fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT);
    fault.end = 0;
    Queue(fake, fault);
    auto migration = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH);
    migration.value = 4096;
    migration.end = migration.start - 1;
    Queue(fake, migration);
    migration.start = 0;
    migration.end = kStartNs + 9;
    Queue(fake, migration);
    migration.end = 0;
    Queue(fake, migration);
    auto cpu_fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT);
    cpu_fault.start = 0;  // and its end means nothing
    Queue(fake, cpu_fault);
    const uint64_t not_finished[8] = {CUPTI_ACTIVITY_KIND_INVALID};
    Queue(fake, not_finished);
    Queue(fake, fault);  // unreachable
    FinishCupti(2000);
    return "";
  });
  ASSERT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.gpu_faults[0].start_ns, static_cast<int64_t>(kStartNs));
  EXPECT_EQ(trace.gpu_faults[0].duration_ns, 0u);
  ASSERT_EQ(trace.migrations.size(), 2u);
  EXPECT_EQ(trace.migrations[0].duration_ns, 0u);
  EXPECT_EQ(trace.migrations[0].bytes, 4096u);
  EXPECT_EQ(trace.migrations[1].start_ns, static_cast<int64_t>(kStartNs + 9));
  EXPECT_TRUE(trace.cpu_faults.empty());
  EXPECT_EQ(trace.losses.at("cupti: record without a time"), 2u);
  EXPECT_EQ(trace.losses.at("cupti: rest of a buffer behind an incomplete record"), 1u);
}

// CUPTI delivers in whichever thread flushes or launches, and those are the program's. A thread that has a ring of ours
// is named in the trace.
TEST(CuptiSource, AThreadThatDeliversStaysTheProgramsOwn) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    auto migration = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD);
    migration.value = 4096;
    const auto deliver = [&] {
      size_t bytes = 0;
      size_t most = 0;
      uint8_t* const buffer = fake->request(&bytes, &most);
      memcpy(buffer, &migration, sizeof migration);
      fake->complete(buffer, bytes, sizeof migration);
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        const bool calls = i < 4;
        pthread_setname_np(pthread_self(), calls ? "calls" : "delivers");
        ApiCallEvent call;
        call.start_ns = NowNs();
        if (calls) Recorder::Get().Record(call);
        deliver();
        // What the thread records itself goes to its own ring again.
        for (int again = 0; calls && again < 2; ++again) Recorder::Get().Record(call);
      });
    }
    for (std::thread& thread : threads) thread.join();
    Recorder::Get().Flush(5000);
    FinishCupti(2000);
    return "";
  });
  EXPECT_EQ(trace.migrations.size(), 8u);
  EXPECT_EQ(trace.api_calls, 12u);
  EXPECT_EQ(std::count(trace.threads.begin(), trace.threads.end(), "calls"), 4);
  EXPECT_EQ(std::count(trace.threads.begin(), trace.threads.end(), "delivers"), 0);
  EXPECT_TRUE(trace.losses.empty());
}

}  // namespace
}  // namespace uvmtrace
