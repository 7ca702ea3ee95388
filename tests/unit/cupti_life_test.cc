// CUPTI from the first flush to the exit: hangs, forks, drops, where it is found, and what it leaves alone.
#include "tests/unit/cupti_test_util.h"

namespace uvmtrace {
namespace {

using namespace cupti_test;  // NOLINT

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
