// Full rings, full disks, forks and kills: nothing is lost without being counted.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <thread>

#include "record_test_util.h"

namespace uvmtrace {
namespace {

using namespace uvmtrace::testing;  // NOLINT

class FailureTest : public ::testing::Test {
 protected:
  void TearDown() override { Recorder::Get().Close(10'000); }
  TemporaryFolder folder_;
  std::string path_ = folder_ / "trace.pb";
};

TEST_F(FailureTest, OverflowBalances) {
  ASSERT_TRUE(Recorder::Get().Start(Options(path_)));
  constexpr uint64_t kEvents = 300'000;
  const std::vector<uint64_t> pcs(128, 1);
  for (uint64_t i = 0; i < kEvents; ++i) Recorder::Get().Record(ApiCallEvent(), pcs);
  ASSERT_TRUE(Recorder::Get().Close(10'000));
  const pb::Trace trace = ReadTrace(path_);
  Totals totals = Count(trace);
  EXPECT_EQ(totals.api_calls + totals.lost["api_calls"], kEvents);
  EXPECT_GT(totals.lost["api_calls"], 0u) << "the test is meant to overflow";
  EXPECT_EQ(totals.lost.size(), 1u);
  EXPECT_TRUE(totals.clean_end);
}

TEST_F(FailureTest, ThreadsBeyondTheBudgetAreCountedAndToldWhatToDo) {
  ASSERT_TRUE(Recorder::Get().Start(Options(path_, 1, 256 * 1024)));
  Recorder::Get().Record(ApiCallEvent());  // takes the only ring
  std::thread([] {
    for (int i = 0; i < 500; ++i) Recorder::Get().Record(GpuFaultEvent());
  }).join();
  ASSERT_TRUE(Recorder::Get().Close(10'000));
  Totals totals = Count(ReadTrace(path_));
  EXPECT_EQ(totals.api_calls, 1u);
  EXPECT_EQ(totals.gpu_faults, 0u);
  EXPECT_EQ((totals.lost_by_reason[{"gpu_faults", "no memory left for another ring: raise UVMTRACE_BUFFER_MB"}]), 500u);
}

TEST_F(FailureTest, ASignalHandlerThatRecordsNeverTearsARecord) {
  ASSERT_TRUE(Recorder::Get().Start(Options(path_)));
  static std::atomic<uint64_t> from_handler;
  from_handler = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) {
    MigrationEvent migration;
    migration.address = 0x5555;
    Recorder::Get().Record(migration);
    from_handler.fetch_add(1);
  };
  struct sigaction old = {};
  sigaction(SIGUSR1, &action, &old);
  std::atomic<bool> done{false};
  uint64_t recorded = 0;
  std::thread target([&] {
    uint64_t tail[20];
    for (uint64_t& word : tail) word = 0x7777;
    while (!done.load(std::memory_order_relaxed)) {
      ApiCallEvent call;
      call.address = 0x7777;
      Recorder::Get().Record(call, tail);
      ++recorded;
    }
  });
  for (int i = 0; i < 3000; ++i) {
    pthread_kill(target.native_handle(), SIGUSR1);
    if (i % 10 == 0) usleep(100);
  }
  done.store(true);
  target.join();
  sigaction(SIGUSR1, &old, nullptr);
  ASSERT_TRUE(Recorder::Get().Close(10'000));
  const pb::Trace trace = ReadTrace(path_);
  Totals totals = Count(trace);
  EXPECT_EQ(totals.api_calls + totals.lost["api_calls"], recorded);
  EXPECT_EQ(totals.migrations + totals.lost["migrations"], from_handler.load());
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::ApiCalls& calls : chunk.api_calls()) {
      for (const uint64_t address : Undelta(calls.address_delta(), calls.start_delta_ns_size())) {
        ASSERT_EQ(address, 0x7777u);
      }
    }
    for (const pb::Migrations& rows : chunk.migrations()) {
      for (const uint64_t address : Undelta(rows.address_delta(), rows.start_delta_ns_size())) {
        ASSERT_EQ(address, 0x5555u);
      }
    }
  }
}

// A file size limit stands for a full disk: write fails in the same places, and the limit can be lifted again.
TEST_F(FailureTest, AFullDiskIsCountedSurvivedAndRecoveredFrom) {
  const std::string path = path_;
  const int status = InChild([&] {
    const rlimit small = {1 << 20, RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    ASSERT_TRUE(Recorder::Get().Start(Options(path)));
    const uint32_t name = Recorder::Get().InternString("defined before");
    uint64_t random = 1;
    uint64_t recorded = 0;
    const auto record = [&](int events) {
      for (int i = 0; i < events; ++i) {
        MigrationEvent migration;
        random = random * 6364136223846793005u + 1442695040888963407u;
        migration.address = random;
        migration.start_ns = ~random;
        Recorder::Get().Record(migration);
        ++recorded;
        if (i % 1000 == 0) Recorder::Get().Flush(10'000);
      }
    };
    ::testing::internal::CaptureStderr();
    record(100'000);  // about 2 MB
    // A small chunk may still fit: now not a byte does.
    Recorder::Get().Flush(10'000);
    const rlimit full = {std::filesystem::file_size(path), RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
    Recorder::Get().InternString("defined in a lost chunk");
    EXPECT_FALSE(Recorder::Get().Flush(10'000));
    EXPECT_LE(std::filesystem::file_size(path), size_t{1} << 20);
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("file size limit"), std::string::npos) << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << "said once: " << said;
    ReadTrace(path);  // whole at any time

    const rlimit large = {RLIM_INFINITY, RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &large), 0);
    record(1000);
    EXPECT_TRUE(Recorder::Get().Flush(10'000));
    EXPECT_TRUE(Recorder::Get().Close(10'000));
    const pb::Trace trace = ReadTrace(path);
    Totals totals = Count(trace);
    EXPECT_EQ(totals.migrations + totals.lost["migrations"], recorded);
    EXPECT_GT(totals.lost["migrations"], 0u);
    EXPECT_GE(totals.migrations, 1000u);
    EXPECT_TRUE(totals.clean_end);
    std::map<uint32_t, std::string> strings;
    for (const pb::Chunk& chunk : trace.chunk()) {
      for (const pb::String& string : chunk.string()) strings[string.id()] = string.value();
    }
    EXPECT_EQ(strings[name], "defined before");
    EXPECT_EQ(strings.size(), 2u) << "a definition that went with a lost chunk is written again";
  });
  EXPECT_TRUE(ExitedWell(status)) << "signal " << (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

TEST_F(FailureTest, ADiskThatIsFullFromTheStartIsReportedAndLeavesTheProcessAlone) {
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(Recorder::Get().Start(Options("/dev/full")));
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the disk is full"), std::string::npos) << said;
  EXPECT_FALSE(Recorder::Get().running());
  Recorder::Get().Record(ApiCallEvent());
  EXPECT_EQ(Recorder::Get().InternString("x"), 0u);
}

TEST_F(FailureTest, StartFailsInAMissingFolderAndCanSucceedLater) {
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(Recorder::Get().Start(Options(folder_ / "missing/trace.pb")));
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("folder does not exist"), std::string::npos);
  EXPECT_TRUE(Recorder::Get().Start(Options(path_)));
}

TEST_F(FailureTest, AForkedChildHasItsOwnFileAndLeavesTheParentsAlone) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizers cannot start threads in the child of a process whose threads allocate";
#endif
  const std::string path = path_;
  ASSERT_TRUE(Recorder::Get().Start(Options(path)));
  std::atomic<bool> done{false};
  // Threads that hold every lock of the recorder at some moment, one of them at the fork.
  std::thread busy([&] {
    for (int i = 0; !done.load(); ++i) {
      Recorder::Get().InternString("string " + std::to_string(i % 100));
      Recorder::Get().SetSourceState("calls", SourceStateKind::kActive, std::to_string(i % 3));
      Recorder::Get().CountLoss("test", "reason", 1);
    }
  });
  Recorder::Get().Record(ApiCallEvent());
  for (int i = 0; i < 5; ++i) {
    const int status = InChild([&] {
      EXPECT_FALSE(Recorder::Get().running());
      EXPECT_STREQ(Recorder::Get().path(), "");
      Recorder::Get().Record(ApiCallEvent());  // dropped: there is no session
      EXPECT_FALSE(Recorder::Get().Flush(100));
      ASSERT_TRUE(Recorder::Get().Start(Options(path)));
      EXPECT_NE(std::string(Recorder::Get().path()), path);
      EXPECT_NE(std::string(Recorder::Get().path()).find(std::to_string(getpid())), std::string::npos);
      for (int k = 0; k < 10; ++k) Recorder::Get().Record(GpuFaultEvent());
      std::thread([] { Recorder::Get().Record(GpuFaultEvent()); }).join();
      ASSERT_TRUE(Recorder::Get().Close(10'000));
      const pb::Trace trace = ReadTrace(Recorder::Get().path());
      const Totals totals = Count(trace);
      EXPECT_EQ(totals.gpu_faults, 11u);
      EXPECT_EQ(totals.api_calls, 0u);
      EXPECT_EQ(trace.chunk(0).process().pid(), static_cast<uint32_t>(getpid()));
    });
    EXPECT_TRUE(ExitedWell(status));
  }
  done.store(true);
  busy.join();
  Recorder::Get().Record(ApiCallEvent());
  ASSERT_TRUE(Recorder::Get().Close(10'000));
  const Totals totals = Count(ReadTrace(path));
  EXPECT_EQ(totals.api_calls, 2u);
  EXPECT_EQ(totals.gpu_faults, 0u);
}

TEST_F(FailureTest, AKilledProcessLosesAtMostTheLastTenthOfASecond) {
  // The child publishes the time of each event in shared memory before it records the event.
  auto* shared = static_cast<std::atomic<uint64_t>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const std::string path = path_;
  const pid_t child = fork();
  if (child == 0) {
    Recorder::Get().AbandonAfterFork();
    if (!Recorder::Get().Start(Options(path))) _exit(1);
    for (;;) {
      ApiCallEvent call;
      call.start_ns = NowNs();
      Recorder::Get().Record(call);
      shared->store(call.start_ns);
      usleep(200);
    }
  }
  usleep(700'000);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  const uint64_t last_recorded_ns = shared->load();
  ASSERT_GT(last_recorded_ns, 0u);
  const pb::Trace trace = ReadTrace(path);  // and the file is whole
  uint64_t last_written_ns = 0;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::ApiCalls& calls : chunk.api_calls()) {
      last_written_ns = Undelta(calls.start_delta_ns(), calls.start_delta_ns_size()).back();
    }
  }
  EXPECT_GT(last_written_ns + 100'000'000, last_recorded_ns);
  EXPECT_FALSE(Count(trace).clean_end);
  munmap(shared, 4096);
}

void EndFromASignalHandler(int) {
  Recorder::Get().SetSourceState("devices", SourceStateKind::kActive, "x");
  Recorder::Get().CountLoss("strings", "in the handler", 1);
  Recorder::Get().Close(500);
  _exit(7);
}

// The handler stands above the very code that holds the lock it needs.
TEST_F(FailureTest, AnExitFromASignalHandlerIsNotHeldUpByItsOwnThreadsLock) {
  for (int i = 0; i < 12; ++i) {
    const std::string path = folder_ / ("trace." + std::to_string(i));
    const pid_t child = fork();
    if (child == 0) {
      Recorder::Get().AbandonAfterFork();
      if (!Recorder::Get().Start(Options(path))) _exit(1);
      signal(SIGALRM, &EndFromASignalHandler);
      const itimerval timer{{0, 0}, {0, 2000 + i * 700}};
      setitimer(ITIMER_REAL, &timer, nullptr);
      for (uint32_t code = 0;; ++code) Recorder::Get().DefineCode(1 + code % 100'000, 2);
    }
    int status = 0;
    pid_t ended = 0;
    // Two seconds of a machine that has nothing else to do.
    for (int waited_ms = 0; waited_ms < 20'000 && ended == 0; waited_ms += 10) {
      ended = waitpid(child, &status, WNOHANG);
      if (ended == 0) usleep(10'000);
    }
    if (ended == 0) kill(child, SIGKILL);
    ASSERT_EQ(ended, child) << "round " << i << " hangs";
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
    ReadTrace(path);  // and the file is whole
  }
}

sigjmp_buf jump_out;

// Deeper on the stack than the recording that was left.
__attribute__((noinline)) void RecordDeeper(int depth, int events) {
  volatile char stack[512] = {};
  if (depth > 0) return RecordDeeper(depth - 1, events + stack[depth]);
  for (int i = 0; i < events; ++i) Recorder::Get().Record(ApiCallEvent());
}

// Garbage collectors and interpreters leave a fault's handler by siglongjmp. Here the fault is in the copy into the
// ring.
TEST_F(FailureTest, ARecordingThatAHandlerJumpedOutOfEndsNoOtherOfItsThread) {
  for (const bool deeper : {false, true}) {
    const std::string path = path_ + (deeper ? ".deeper" : "");
    const int status = InChild([&] {
      ASSERT_TRUE(Recorder::Get().Start(Options(path)));
      Recorder::Get().Record(ApiCallEvent());
      signal(SIGSEGV, [](int) { siglongjmp(jump_out, 1); });
      const void* const no_page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (sigsetjmp(jump_out, 1) == 0) {
        Recorder::Get().Record(ApiCallEvent(), {static_cast<const uint64_t*>(no_page), 4});
        FAIL() << "there was no fault";
      }
      signal(SIGSEGV, SIG_DFL);
      if (deeper) {
        RecordDeeper(20, 500);
      } else {
        for (int i = 0; i < 500; ++i) Recorder::Get().Record(ApiCallEvent());
      }
      EXPECT_TRUE(Recorder::Get().Close(10'000));
    });
    EXPECT_TRUE(ExitedWell(status));
    Totals totals = Count(ReadTrace(path));
    // From deeper down it looks at first as if the handler were still at work.
    EXPECT_EQ(totals.lost["api_calls"], deeper ? 65u : 1u);
    EXPECT_EQ(totals.api_calls + totals.lost["api_calls"], 502u);
  }
}

TEST_F(FailureTest, TheWriterTakesNoSignalOfTheHost) {
  ASSERT_TRUE(Recorder::Get().Start(Options(path_)));
  int found = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (ReadFile(task.path() / "comm") != "uvmtrace-writer\n") continue;
    const std::string status = ReadFile(task.path() / "status");
    const size_t at = status.find("SigBlk:\t");
    ASSERT_NE(at, std::string::npos);
    const uint64_t blocked = std::stoull(status.substr(at + 8, 16), nullptr, 16);
    // All but SIGKILL, SIGSTOP and the two that glibc keeps to itself.
    const uint64_t unblockable = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 3ull << 31;
    EXPECT_EQ(blocked | unblockable, UINT64_MAX);
    ++found;
  }
  EXPECT_GE(found, 1);
}

TEST_F(FailureTest, TheHostMayCloseAllFilesAndTheTraceGoesOn) {
  const std::string path = path_;
  const int status = InChild([&] {
    ASSERT_TRUE(Recorder::Get().Start(Options(path)));
    Recorder::Get().Record(ApiCallEvent());
    ASSERT_TRUE(Recorder::Get().Flush(10'000));
    for (int fd = 3; fd < 2000; ++fd) close(fd);
    Recorder::Get().Record(ApiCallEvent());
    EXPECT_TRUE(Recorder::Get().Close(10'000));
    EXPECT_EQ(Count(ReadTrace(path)).api_calls, 2u);
  });
  EXPECT_TRUE(ExitedWell(status));
}

}  // namespace
}  // namespace uvmtrace
