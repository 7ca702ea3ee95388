// What CUPTI refuses, and other clients of it that came first, shut it down or took its buffers.
#include "tests/unit/cupti_test_util.h"

namespace uvmtrace {
namespace {

using namespace cupti_test;  // NOLINT

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

}  // namespace
}  // namespace uvmtrace
