// What goes wrong with CUPTI, one test for each: old and new record layouts, refusals, hangs, other clients, fork.
#include "cupti/cupti_source.h"

#include <cupti.h>
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "cupti/foreign_client.h"
#include "record/recorder.h"
#include "tests/unit/fake_cupti.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::RecordInChild;
using sources_test::TraceContents;

constexpr char kFakeCupti[] = UVMTRACE_FAKE_CUPTI_FOLDER "/libcupti.so.13";
constexpr char kCudartBesideIt[] = UVMTRACE_FAKE_CUPTI_FOLDER "/libcudart.so.13";
constexpr uint64_t kStartNs = 1'790'000'000'000'000'000;  // about now in CLOCK_REALTIME
constexpr uint32_t kCpuId = 0xFFFFFFFF;

FakeCupti* Fake() {
  void* library = dlopen(kFakeCupti, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto script = reinterpret_cast<FakeCupti* (*)()>(dlsym(library, "FakeCuptiScript"));
  return script == nullptr ? nullptr : script();
}

CuptiOptions Options() {
  CuptiOptions options;
  options.cudart_path = kCudartBesideIt;
  return options;
}

// The newest layout; the fake cuts it to what its version has.
CUpti_ActivityUnifiedMemoryCounter3 Counter(CUpti_ActivityUnifiedMemoryCounterKind kind) {
  CUpti_ActivityUnifiedMemoryCounter3 record{};
  record.kind = CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER;
  record.counterKind = kind;
  record.start = kStartNs;
  record.end = kStartNs + 1000;
  record.address = 0x7f0000000000;
  record.srcId = 0;
  record.dstId = kCpuId;
  record.streamId = 0xDEAD;
  record.processId = 1;
  return record;
}

template <typename Record>
void Queue(FakeCupti* fake, const Record& record) {
  fake->queue(&record, sizeof record);
}

void SleepMs(int milliseconds) { usleep(static_cast<useconds_t>(milliseconds) * 1000); }

bool WaitFor(const std::function<bool()>& condition, int timeout_ms = 5000) {
  for (int i = 0; i < timeout_ms; ++i) {
    if (condition()) return true;
    SleepMs(1);
  }
  return condition();
}

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
    StartCupti(Options());
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

TEST(CuptiSource, T9_ShutDownByAnotherClientIsToldAndCollectionStartsAgain) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 3; })) return "no flushes";
    fake->shut_down();
    const int before = fake->registrations;
    if (!WaitFor([&] { return fake->registrations > before && fake->kernels_enabled; })) return "not armed again";
    auto fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT);
    Queue(fake, fault);
    FinishCupti(2000);
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.losses.count("cupti: CUPTI stopped working: what followed was not recorded"), 1u);
  for (const char* source : {"cupti", "cupti.htod_bytes", "cupti.kernels"}) {
    const auto& history = trace.history.at(source);
    ASSERT_GE(history.size(), 2u) << source;
    EXPECT_EQ(history.back().state, sources_test::kActive) << source;
    EXPECT_EQ(history[history.size() - 2].state, sources_test::kStopped) << source;
  }
  EXPECT_NE(trace.history.at("cupti")[trace.history.at("cupti").size() - 2].reason.find("cuptiFinalize"),
            std::string::npos);
}

TEST(CuptiSource, T9_BuffersOfAnotherClientAreNotTakenAway) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 3; })) return "no flushes";
    fake->shut_down();
    SleepMs(50);
    auto register_callbacks = reinterpret_cast<decltype(&cuptiActivityRegisterCallbacks)>(
        dlsym(dlopen(kFakeCupti, RTLD_NOW), "cuptiActivityRegisterCallbacks"));
    register_callbacks([](uint8_t** buffer, size_t*, size_t*) { *buffer = nullptr; },
                       [](CUcontext, uint32_t, uint8_t*, size_t, size_t) {});
    const int before = fake->registrations;
    SleepMs(2500);
    if (fake->registrations != before) return "registered its own over the other client's";
    // Until that client, too, is done.
    fake->shut_down();
    if (!WaitFor([&] { return fake->registrations > before; })) return "not armed again";
    FinishCupti(2000);
    return "";
  });
  bool left_to_other = false;
  for (const auto& state : trace.history.at("cupti")) {
    left_to_other = left_to_other || (state.state == sources_test::kStopped &&
                                      state.reason.find("does not take them away") != std::string::npos);
  }
  EXPECT_TRUE(left_to_other);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
  EXPECT_EQ(trace.losses.at("cupti: CUPTI stopped working: what followed was not recorded"), 1u);
}

// torch.profiler, started before the program's first managed allocation: CUPTI's records are its own.
TEST(CuptiSource, AClientThatWasThereFirstKeepsItsBuffers) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    fake->clock_offset_ns = -1'000'000'000'000;
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    usleep(20'000);
    FinishCupti(2000);
    return fake->flushes == 0 ? "" : "CUPTI was used";
  });
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at("cupti").reason.find("was there first"), std::string::npos);
}

TEST(CuptiSource, T9_AClockOfAnotherClientIsTold) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 20; })) return "no flushes";
    Recorder::Get().Flush(1000);  // a chunk holds only the last state
    fake->clock_offset_ns = -1'000'000'000'000;
    const int before = fake->flushes;
    if (!WaitFor([&] { return fake->flushes > before + 20; })) return "no flushes";
    FinishCupti(2000);
    return "";
  });
  ASSERT_EQ(trace.history.at("cupti.clock").size(), 2u);
  EXPECT_EQ(trace.history.at("cupti.clock")[0].reason, "CLOCK_REALTIME");
  EXPECT_NE(trace.states.at("cupti.clock").reason.find("changed from CLOCK_REALTIME"), std::string::npos);
  // Samples right before and right after the change, so that times between two samples convert correctly.
  bool bracketed = false;
  std::vector<sources_test::ClockSample> samples;
  for (const auto& sample : trace.clock_samples) {
    if (sample.cupti_ns != 0) samples.push_back(sample);  // without the writer's own
  }
  for (size_t i = 1; i < samples.size(); ++i) {
    const auto& before = samples[i - 1];
    const auto& after = samples[i];
    if (after.cupti_ns < before.cupti_ns) {
      bracketed = true;
      EXPECT_LT(after.monotonic_ns - before.monotonic_ns, 100'000'000);  // 1 ms, but for a busy machine
    }
  }
  EXPECT_TRUE(bracketed);
}

TEST(CuptiSource, T10_SeveralMappedLibrariesAreCounted) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    if (dlopen(UVMTRACE_FAKE_CUPTI_FOLDER "/other/libcupti.so.12", RTLD_NOW | RTLD_LOCAL) == nullptr) return dlerror();
    if (Fake() == nullptr) return "no fake";
    StartCupti(Options());
    FinishCupti(2000);
    return "";
  });
  EXPECT_NE(trace.states.at("cupti").reason.find("1 other libcupti"), std::string::npos)
      << trace.states.at("cupti").reason;
}

TEST(CuptiSource, T11_ARefusedKindDoesNotCostTheOthers) {
  for (const bool replaces : {false, true}) {
    const TraceContents trace = RecordInChild([&]() -> std::string {
      FakeCupti* fake = Fake();
      fake->configure_replaces = replaces;
      fake->configure_result[4] = CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_ON_NON_P2P_DEVICES;
      fake->configure_result[8] = CUPTI_ERROR_INVALID_PARAMETER;
      StartCupti(Options());
      FinishCupti(2000);
      if (fake->configured_kinds != 0b0'1110'1110)
        return "wrong kinds are on: " + std::to_string(fake->configured_kinds);
      return fake->unified_memory_enabled && fake->kernels_enabled ? "" : "not enabled";
    });
    EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
    EXPECT_NE(trace.states.at("cupti").reason.find(kFakeCupti), std::string::npos);
    EXPECT_NE(trace.states.at("cupti").reason.find("130001"), std::string::npos);
    EXPECT_EQ(trace.states.at("cupti.htod_bytes").state, sources_test::kActive);
    EXPECT_EQ(trace.states.at("cupti.kernels").state, sources_test::kActive);
    EXPECT_EQ(trace.states.at("cupti.gpu_page_faults").state, sources_test::kUnavailable);
    EXPECT_NE(trace.states.at("cupti.gpu_page_faults").reason.find("CUDA_VISIBLE_DEVICES"), std::string::npos);
    EXPECT_EQ(trace.states.at("cupti.dtod_bytes").state, sources_test::kUnavailable);
  }
}

TEST(CuptiSource, T11_RefusedUnifiedMemoryLeavesKernels) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    fake->enable_unified_memory_result = CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
    StartCupti(Options());
    FinishCupti(2000);
    return fake->kernels_enabled ? "" : "kernels are off";
  });
  EXPECT_EQ(trace.states.at("cupti.kernels").state, sources_test::kActive);
  for (const char* kind : {"htod_bytes", "dtoh_bytes", "cpu_page_faults", "gpu_page_faults", "thrashing", "throttling",
                           "remote_map", "dtod_bytes"}) {
    const auto& state = trace.states.at(std::string("cupti.") + kind);
    EXPECT_EQ(state.state, sources_test::kUnavailable) << kind;
    EXPECT_NE(state.reason.find("NVreg_RestrictProfilingToAdminUsers=0"), std::string::npos) << state.reason;
  }
}

TEST(CuptiSource, T11_EverythingRefusedIsUnavailableAndNotALoss) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    for (int& result : fake->configure_result) result = CUPTI_ERROR_UNKNOWN;
    fake->enable_kernels_result = CUPTI_ERROR_UNKNOWN;
    fake->flush_result = CUPTI_ERROR_UNKNOWN;
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    SleepMs(20);
    FinishCupti(2000);
    return fake->flushes == 0 ? "" : "drains nothing";
  });
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at("cupti").reason.find("nvidia-smi"), std::string::npos) << trace.states.at("cupti").reason;
  EXPECT_TRUE(trace.losses.empty());
}

// The toolkit's own libcupti on a machine without a driver: the library must say so and leave the program alone.
TEST(CuptiSource, TheRealLibraryWithoutADriverIsUnavailable) {
  if (access("/dev/nvidiactl", F_OK) == 0) GTEST_SKIP() << "this machine has a driver";
  if (access(UVMTRACE_REAL_CUPTI, R_OK) != 0) GTEST_SKIP() << UVMTRACE_REAL_CUPTI;
  const TraceContents trace = RecordInChild([]() -> std::string {
    CuptiOptions options;
    options.cudart_path = UVMTRACE_REAL_CUPTI;  // its folder
    StartCupti(options);
    SetCuptiManagedMemoryLive(true);
    SleepMs(20);
    FinishCupti(2000);
    return CuptiVersion() > 0 ? "" : "no version";
  });
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kUnavailable);
  EXPECT_EQ(trace.states.at("cupti.gpu_page_faults").state, sources_test::kUnavailable);
  EXPECT_EQ(trace.states.at("cupti.kernels").state, sources_test::kUnavailable);
  EXPECT_TRUE(trace.losses.empty());
}

TEST(CuptiSource, KernelRecordsOfUnknownLayoutAreNotAskedFor) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    fake->version = 18;
    StartCupti(Options());
    CUpti_ActivityKernel9 kernel{};  // another client asked for them
    kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    kernel.start = kStartNs;
    kernel.name = reinterpret_cast<const char*>(uintptr_t{8});
    Queue(fake, kernel);
    FinishCupti(2000);
    return fake->kernels_enabled ? "kernels are on" : "";
  });
  EXPECT_TRUE(trace.kernels.empty());
  EXPECT_EQ(trace.states.at("cupti.kernels").state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at("cupti.kernels").reason.find("18"), std::string::npos);
  EXPECT_EQ(trace.states.at("cupti.htod_bytes").state, sources_test::kActive);
}

TEST(CuptiSource, T12_TheExitPathFlushesAndDisablesNothing) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    auto migration = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH);
    migration.value = 4096;
    Queue(fake, migration);
    FinishCupti(2000);
    if (fake->forced_flushes != 1) return "not one forced flush";
    if (fake->unblocked_signals != 0) return "a flush on a thread that takes signals";
    return fake->forbidden_calls == 0 ? "" : "disabled, subscribed or finalized";
  });
  EXPECT_EQ(trace.migrations.size(), 1u);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
}

TEST(CuptiSource, T13_AHangingFlushIsGivenUpAndCounted) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 3; })) return "no flushes";
    fake->flush_hangs = true;
    SleepMs(5);
    const uint64_t begin_ns = NowNs();
    FinishCupti(200);
    const uint64_t took_ms = (NowNs() - begin_ns) / 1'000'000;
    return took_ms >= 190 && took_ms < 2000 ? "" : "took " + std::to_string(took_ms) + " ms";
  });
  EXPECT_EQ(trace.losses.at("cupti: last flush did not return in time"), 1u);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kStopped);
}

TEST(CuptiSource, FlushesThatAreHeldUpAreCounted) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    for (int round = 0; round < 2; ++round) {
      const int before = fake->flushes;
      if (!WaitFor([&] { return fake->flushes > before + 3; })) return "no flushes";
      fake->flush_hangs = true;
      SleepMs(round == 0 ? 200 : 120);
      fake->flush_hangs = false;
    }
    FinishCupti(2000);
    return "";
  });
  const sources_test::State& state = trace.states.at("cupti.flush");
  EXPECT_EQ(state.state, sources_test::kActive);
  unsigned long long count = 0;
  unsigned long long longest_ms = 0;
  ASSERT_EQ(sscanf(state.reason.c_str(), "%llu flushes were held up, the longest for %llu ms", &count, &longest_ms), 2)
      << state.reason;
  EXPECT_GE(count, 2u);
  EXPECT_GE(longest_ms, 150u);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
}

TEST(CuptiSource, KernelsThatAreNotWantedAreNotEnabled) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    CuptiOptions options = Options();
    options.kernels = false;
    StartCupti(options);
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 3; })) return "no flushes";
    FinishCupti(2000);
    if (!fake->unified_memory_enabled) return "unified memory is off";
    return fake->kernels_enabled ? "kernels are on" : "";
  });
  EXPECT_EQ(trace.states.at("cupti.kernels").state, sources_test::kDisabled);
  EXPECT_EQ(trace.states.at("cupti.kernels").reason, "UVMTRACE_KERNELS=0");
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
  EXPECT_EQ(trace.states.count("cupti.flush"), 0u);
}

TEST(CuptiSource, T14_AForkedChildRecordsNothingOfItsParent) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 3; })) return "no flushes";
    size_t bytes = 0;
    size_t max_records = 0;
    uint8_t* buffer = fake->request(&bytes, &max_records);
    auto fault = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT);
    memcpy(buffer, &fault, sizeof fault);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Recorder::Get().AbandonAfterFork();
      AbandonCuptiAfterFork();
      // libcupti's own exit handler may still deliver what it inherited, and ask for buffers.
      fake->complete(buffer, bytes, sizeof fault);
      if (fake->request(&bytes, &max_records) == nullptr) _exit(1);
      FinishCupti(100);  // there is no thread: it must not wait
      if (CuptiThreadCpuNs() != 0 || CuptiVersion() != 0) _exit(2);
#ifdef __SANITIZE_THREAD__
      _exit(0);  // it allows no thread after the fork of a process with threads
#endif
      // The child is a program like any other and may start its own session.
      char path[] = "/tmp/uvmtrace_forked_XXXXXX";
      if (mkstemp(path) < 0) _exit(3);
      RecorderOptions options{};
      options.path = path;
      options.run_id = 1;
      options.buffer_bytes = size_t{16} << 20;
      options.detail = "full";
      if (!Recorder::Get().Start(options)) _exit(4);
      const int before = fake->flushes;
      StartCupti(Options());
      SetCuptiManagedMemoryLive(true);
      if (!WaitFor([&] { return fake->flushes > before + 3; })) _exit(5);
      auto migration = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH);
      Queue(fake, migration);
      FinishCupti(2000);
      Recorder::Get().Close(2000);
      const TraceContents own = sources_test::ReadTrace(Recorder::Get().path());
      unlink(Recorder::Get().path());
      unlink((std::string(path) + ".old").c_str());
      _exit(own.gpu_faults.empty() && own.migrations.size() == 1 ? 0 : 6);
    }
    int status = 0;
    waitpid(child, &status, 0);
    fake->complete(buffer, bytes, sizeof fault);
    FinishCupti(2000);
    return status == 0 ? "" : "the child ended with wait status " + std::to_string(status);
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
}

TEST(CuptiSource, DroppedRecordsAreCounted) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    fake->dropped = 17;
    FinishCupti(2000);
    return "";
  });
  EXPECT_EQ(trace.losses.at("cupti: dropped by CUPTI: no buffer space"), 17u);
}

TEST(CuptiSource, DrainsEveryPeriodWhileManagedMemoryLivesAndSleepsOtherwise) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    if (!WaitFor([&] { return fake->flushes > 0; })) return "no first flush";
    SleepMs(100);
    if (fake->flushes > 2) return "drains without managed memory: " + std::to_string(fake->flushes);
    SetCuptiManagedMemoryLive(true);
    SleepMs(300);
    const int live = fake->flushes;
    if (live < 50) return "drains too seldom: " + std::to_string(live);  // 300, but for a busy machine
    if (live > 320) return "drains too often: " + std::to_string(live);
    SetCuptiManagedMemoryLive(false);
    SleepMs(100);
    const int after = fake->flushes;
    SleepMs(100);
    if (fake->flushes > after + 1) return "goes on draining";
    if (CuptiThreadCpuNs() == 0) return "no CPU time";
    FinishCupti(2000);
    return CuptiVersion() == 130001 ? "" : "no version";
  });
  ASSERT_GE(trace.clock_samples.size(), 2u);
  for (const auto& sample : trace.clock_samples) {
    if (sample.cupti_ns == 0) continue;  // the writer's own: it does not know CUPTI
    EXPECT_LT(std::llabs(sample.cupti_ns - sample.realtime_ns), 1'000'000);
    EXPECT_GT(sample.monotonic_ns, 0);
  }
}

TEST(CuptiSource, ErrorsThatPassByThemselvesDoNotTakeTheCallbacksAgain) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    if (!WaitFor([&] { return fake->flushes > 3; })) return "no flushes";
    fake->flush_result = CUPTI_ERROR_UNKNOWN;
    SleepMs(50);
    const int during = fake->flushes;
    Recorder::Get().Flush(1000);
    SleepMs(100);
    if (fake->flushes > during + 3) return "flushes every millisecond though it fails";
    fake->flush_result = CUPTI_SUCCESS;
    if (!WaitFor([&] { return fake->flushes > during + 20; })) return "does not recover";
    FinishCupti(2000);
    return fake->registrations == 1 ? "" : "registered again";
  });
  bool stopped = false;
  for (const auto& state : trace.history.at("cupti")) stopped = stopped || state.state == sources_test::kStopped;
  EXPECT_TRUE(stopped);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
}

TEST(CuptiSource, TheHostsErrnoAndSignalMaskAreKept) {
  RecordInChild([]() -> std::string {
    Fake();
    sigset_t before;
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    errno = 4711;
    StartCupti(Options());
    SetCuptiManagedMemoryLive(true);
    SetCuptiManagedMemoryLive(false);
    FinishCupti(2000);
    if (errno != 4711) return "errno changed";
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    for (int signal = 1; signal < 32; ++signal) {
      if (sigismember(&before, signal) != sigismember(&after, signal)) return "the signal mask changed";
    }
    return "";
  });
}

TEST(CuptiSource, IsFoundBesideTheLoadedCudart) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    StartCupti(Options());
    FinishCupti(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
  EXPECT_NE(trace.states.at("cupti").reason.find(kFakeCupti), std::string::npos) << trace.states.at("cupti").reason;
}

TEST(CuptiSource, IsFoundInPipsFolderForCupti) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    CuptiOptions options;
    options.cudart_path = UVMTRACE_FAKE_CUPTI_FOLDER "/nvidia/cuda_runtime/lib/libcudart.so.12";
    StartCupti(options);
    FinishCupti(2000);
    return "";
  });
  EXPECT_NE(trace.states.at("cupti").reason.find("/cuda_cupti/lib/libcupti.so.12"), std::string::npos)
      << trace.states.at("cupti").reason;
}

// The simulator's libcupti lies on the loader's path, and must be used although another one is mapped or near.
TEST(CuptiSource, TheSimulatorsIsFoundOnTheLoadersPath) {
  const char* path = getenv("LD_LIBRARY_PATH");  // the loader reads it once, when a program starts: ctest sets it
  if (path == nullptr || strstr(path, UVMTRACE_FAKE_CUPTI_FOLDER "/simulator") == nullptr) {
    GTEST_SKIP() << "needs LD_LIBRARY_PATH=" UVMTRACE_FAKE_CUPTI_FOLDER "/simulator";
  }
  const TraceContents trace = RecordInChild([]() -> std::string {
    if (Fake() == nullptr) return "no fake";  // mapped, and not to be used
    CuptiOptions options = Options();
    options.simulated = true;
    StartCupti(options);
    FinishCupti(2000);
    return "";
  });
  EXPECT_NE(trace.states.at("cupti").reason.find("/simulator/libcupti.so.13"), std::string::npos)
      << trace.states.at("cupti").reason;
}

TEST(CuptiSource, DisabledSaysSoForEverySource) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    DisableCupti("detail is \"calls\"");
    SetCuptiManagedMemoryLive(true);
    FinishCupti(100);
    return CuptiVersion() == 0 ? "" : "a version";
  });
  for (const char* source : {"cupti", "cupti.htod_bytes", "cupti.dtod_bytes", "cupti.kernels"}) {
    EXPECT_EQ(trace.states.at(source).state, sources_test::kDisabled);
    EXPECT_EQ(trace.states.at(source).reason, "detail is \"calls\"");
  }
}

// While the driver's queue feeds.
TEST(CuptiSource, WithoutUnifiedMemoryItAsksForKernelsOnly) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    CuptiOptions options = Options();
    options.unified_memory_off = "the driver's queue records it";
    StartCupti(options);
    SetCuptiManagedMemoryLive(true);
    if (fake->configured_kinds != 0 || fake->unified_memory_enabled) return "asks for unified memory";
    if (!fake->kernels_enabled) return "does not ask for kernels";
    CUpti_ActivityKernel9 kernel{};
    kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    kernel.start = kStartNs;
    kernel.end = kStartNs + 100;
    kernel.name = "touch";
    Queue(fake, kernel);
    SleepMs(300);
    const int flushes = fake->flushes;
    FinishCupti(2000);
    return flushes <= 20 ? "" : "flushes " + std::to_string(flushes) + " times in 300 ms";
  });
  EXPECT_EQ(trace.kernels.size(), 1u);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("cupti.kernels").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("cupti.htod_bytes").state, sources_test::kDisabled);
  EXPECT_EQ(trace.states.at("cupti.htod_bytes").reason, "the driver's queue records it");
}

TEST(CuptiSource, TakesOverWhenTheQueueFails) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    CuptiOptions options = Options();
    options.unified_memory_off = "the driver's queue records it";
    StartCupti(options);
    SetCuptiManagedMemoryLive(true);
    SleepMs(20);
    TakeOverUnifiedMemory();
    if (!WaitFor([&] { return fake->unified_memory_enabled.load(); })) return "does not take over";
    auto htod = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD);
    htod.value = 4096;
    Queue(fake, htod);
    FinishCupti(2000);
    return fake->registrations == 1 ? "" : "takes the callbacks again";
  });
  EXPECT_EQ(trace.migrations.size(), 1u);
  EXPECT_EQ(trace.states.at("cupti.htod_bytes").state, sources_test::kActive);
}

std::atomic<uint64_t> g_test_activity{0};

TEST(CuptiSource, RecordsThatGoToAnotherClientAreMissed) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    FakeCupti* fake = Fake();
    CuptiOptions options = Options();
    options.activity = [] { return g_test_activity.load(); };
    StartCupti(options);
    SetCuptiManagedMemoryLive(true);
    auto htod = Counter(CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD);
    Queue(fake, htod);
    for (int i = 0; i < 260; ++i) {  // bytes move, and no record comes
      g_test_activity += 65536;
      SleepMs(10);
    }
    Queue(fake, htod);  // the other client is gone
    SleepMs(50);
    FinishCupti(2000);
    return "";
  });
  bool told = false;
  for (const auto& state : trace.history.at("cupti")) {
    told = told ||
           (state.state == sources_test::kStopped && state.reason.find("another CUPTI client") != std::string::npos);
  }
  EXPECT_TRUE(told);
  EXPECT_EQ(trace.states.at("cupti").state, sources_test::kActive) << "records come again";
  EXPECT_EQ(trace.losses.at("cupti: records went to another CUPTI client: not known how many"), 1u);
}

TEST(ForeignClientWatch, PausesAreNoSilenceAndAReplacedClockIsToldOnce) {
  using Verdict = ForeignClientWatch::Verdict;
  constexpr uint64_t kSecondNs = 1'000'000'000;
  ForeignClientWatch watch;
  uint64_t now_ns = 1;
  uint64_t activity = 0;
  // One fault a minute, for an hour, without a record: 60 instants are no two seconds.
  for (int minute = 0; minute < 60; ++minute) {
    ++activity;
    for (int i = 0; i < 600; ++i) {
      now_ns += kSecondNs / 10;
      ASSERT_EQ(watch.Tick(now_ns, activity, 5, false, 10 * kSecondNs), Verdict::kNoChange);
    }
  }
  EXPECT_EQ(watch.Tick(now_ns, activity, 5, true, kSecondNs), Verdict::kClock);
  for (int i = 0; i < 100; ++i) {
    now_ns += kSecondNs / 10;
    ASSERT_EQ(watch.Tick(now_ns, ++activity, 5, true, kSecondNs), Verdict::kNoChange);
  }
  EXPECT_EQ(watch.Tick(now_ns, activity, 6, true, kSecondNs), Verdict::kRecordsAgain);
  int silences = 0;
  for (int i = 0; i < 100; ++i) {
    now_ns += kSecondNs / 10;
    silences += watch.Tick(now_ns, ++activity, 6, true, kSecondNs) == Verdict::kSilence ? 1 : 0;
  }
  EXPECT_EQ(silences, 1);
}

}  // namespace
}  // namespace uvmtrace
