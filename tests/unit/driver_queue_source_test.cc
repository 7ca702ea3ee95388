// The driver's queue as a source, with a driver that answers, refuses, overflows, lies and goes away.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "driver/driver_sampler.h"
#include "driver/queue_source.h"
#include "driver/tools_queue.h"
#include "record/recorder.h"
#include "tests/unit/driver_fake_tools.h"
#include "tests/unit/driver_proc_root.h"
#include "tests/unit/driver_queue_source_fixture.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::RecordInChild;
using sources_test::TraceContents;

TEST_P(QueueOfBranch, IsOpenWhenTheStartReturnsAndGivesEveryEvent) {
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    FakeTools::Tracker* const queue = driver_.queue();
    if (queue == nullptr) return "no queue";
    if (queue->entries != ToolsQueue::kMostEntries) return "a smaller ring";
    if (!queue->all_processors) return "not of all processors";
    if ((fcntl(driver_.descriptor_of_queue, F_GETFD) & FD_CLOEXEC) == 0) return "survives exec";
    if (driver_.descriptor_of_queue < 400) return "takes a low descriptor";
    for (int i = 0; i < 1000; ++i) {
      driver_.Send(GpuFault());
      driver_.HoldBack(Migration());
    }
    driver_.HoldBack(Replay());
    SleepMs(100);
    for (int i = 0; i < 1000; ++i) driver_.HoldBack(Migration());
    return "";  // the rest comes with the last flush
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1000u);
  EXPECT_EQ(trace.migrations.size(), 2000u);
  EXPECT_EQ(trace.replays.size(), 1u);
  EXPECT_EQ(trace.gpu_faults[0].batch, 12u);
  EXPECT_EQ(trace.gpu_faults[0].device, 0);
  EXPECT_EQ(trace.gpu_faults[0].clock, 2);
  EXPECT_EQ(trace.gpu_faults[0].source, 2);
  EXPECT_EQ(trace.migrations[0].source, -1);
  EXPECT_EQ(trace.migrations[0].destination, 0);
  EXPECT_EQ(trace.states.at("driver_queue").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("driver_queue").reason, "1048576 entries");
  EXPECT_TRUE(trace.losses.empty());
  // The driver's clock can be laid on the trace's.
  ASSERT_GE(trace.clock_samples.size(), 2u);
  EXPECT_NE(trace.clock_samples.front().monotonic_raw_ns, 0);
}

TEST_F(QueueSourceTest, AFloodLargerThanOurOwnRingLosesNothing) {
  constexpr int kFlood = 400'000;  // 19 MiB of events; a source's ring has 4
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    for (int i = 0; i < kFlood; ++i) driver_.Send(GpuFault());
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), static_cast<size_t>(kFlood));
  EXPECT_TRUE(trace.losses.empty());
}

TEST_P(QueueOfBranch, AFullQueueIsALossWithTheDriversCounts) {
  driver_.most_entries = ToolsQueue::kFewestEntries;
  int sent = 0;
  const TraceContents trace = RecordInChild([&]() -> std::string {
    if (!StartQueueSource(Options())) return "did not open";
    // Before the thread looks: it sleeps without managed memory.
    SleepMs(150);
    for (; sent < 30'000; ++sent) driver_.Send(GpuFault());
    for (int i = 0; i < 7; ++i) driver_.Send(Migration());
    FinishQueueSource(5000);
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), ToolsQueue::kFewestEntries - 1);
  ASSERT_EQ(trace.losses.count("driver_queue: GPU fault dropped by the driver: its queue was full"), 1u);
  EXPECT_EQ(trace.losses.at("driver_queue: GPU fault dropped by the driver: its queue was full"),
            30'000u - (ToolsQueue::kFewestEntries - 1));
  EXPECT_EQ(trace.losses.at("driver_queue: migration dropped by the driver: its queue was full"), 7u);
  EXPECT_NE(trace.states.at("driver_queue").reason.find("no memory for 1048576"), std::string::npos);
}

TEST_P(QueueOfBranch, WithLittleAddressSpaceTheRingIsSmaller) {
  const TraceContents trace = RecordInChild([&]() -> std::string {
    // Room for what is there, the recorder, a thread's stack and some MiB.
    long pages = 0;
    FILE* const statm = fopen("/proc/self/statm", "r");
    if (statm == nullptr || fscanf(statm, "%ld", &pages) != 1) return "statm";
    fclose(statm);
    const rlim_t bytes = static_cast<rlim_t>(pages) * 4096 + (rlim_t{40} << 20);
    const rlimit limit = {bytes, bytes};
    setrlimit(RLIMIT_AS, &limit);
    if (!StartQueueSource(Options())) return "did not open";
    if (driver_.queue()->entries != ToolsQueue::kMostEntries / 4) return "another size";
    SetQueueManagedMemoryLive(true);
    driver_.Send(GpuFault());
    FinishQueueSource(5000);
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
}

struct Refusal {
  unsigned long number;
  FakeTools::Answer answer;
  const char* expected;
};
class QueueRefusal : public QueueSourceTest, public testing::WithParamInterface<Refusal> {};

TEST_P(QueueRefusal, IsToldAndLeavesNothingBehind) {
  driver_.refusals[GetParam().number] = GetParam().answer;
  for (const FakeBranch branch : kFakeBranches) {
    driver_.branch = branch;
    const TraceContents trace = Record(
        Options(), [&]() -> std::string { return OpenToolsDescriptors() == 0 ? "" : "a descriptor stays open"; },
        false);
    EXPECT_EQ(trace.states.at("driver_queue").state, sources_test::kUnavailable);
    const std::string& reason = trace.states.at("driver_queue").reason;
    EXPECT_NE(reason.find(GetParam().expected), std::string::npos) << reason;
    // Nobody is told to install the driver that he has.
    EXPECT_NE(reason.find(FakeVersion(branch)), std::string::npos) << reason;
    EXPECT_NE(reason.find("report this line"), std::string::npos) << reason;
    EXPECT_EQ(reason.find("use a"), std::string::npos) << reason;
  }
}
INSTANTIATE_TEST_SUITE_P(
    Each, QueueRefusal,
    testing::Values(Refusal{kToolsInitEventTracker, {ENOTTY, 0}, "an event queue (Inappropriate"},
                    Refusal{kToolsInitEventTracker, {0, 0x1f}, "an event queue (no error, status 0x1f)"},
                    Refusal{kToolsInitEventTracker, {0, 0x51}, "an event queue"},
                    Refusal{kToolsSetNotificationThreshold, {EINVAL, 0}, "a threshold"},
                    Refusal{kToolsSetNotificationThreshold, {0, 3}, "a threshold"},
                    Refusal{kToolsEnableEvents, {EINVAL, 0}, "events into its queue"},
                    Refusal{kToolsEnableEvents, {0, 0x56}, "events into its queue"},
                    Refusal{kToolsGetProcessorTable, {EINVAL, 0}, "table of its processors"},
                    Refusal{kToolsGetProcessorTable, {0, 0x57}, "table of its processors (no error, status 0x57)"},
                    Refusal{kToolsFlushEvents, {EINVAL, 0}, "to flush"},
                    Refusal{kToolsFlushEvents, {0, 0x1f}, "to flush"}));

TEST_F(QueueSourceTest, ARefusalOfAnUnknownDriverSaysWhichAreKnown) {
  struct Case {
    const char* version;
    const char* expected;
  };
  driver_.refusals[kToolsInitEventTracker] = {0, 0x1f};
  for (const Case& one :
       {Case{"470.256.02", "the driver is 470.256.02, and uvmtrace needs 515 or later"},
        Case{"610.10", "the driver is 610.10, and this uvmtrace knows drivers up to 595: use a later"},
        Case{"595.45.04", "report this line as a fault of uvmtrace"}}) {
    driver_.version = one.version;
    const TraceContents trace = Record(
        Options(), [] { return std::string(); }, false);
    const std::string& reason = trace.states.at("driver_queue").reason;
    EXPECT_NE(reason.find(one.expected), std::string::npos) << reason;
  }
}

TEST_P(QueueOfBranch, WithoutADeviceOrAnAddressSpaceTheCureIsTold) {
  driver_.open_error = EACCES;
  TraceContents trace = Record(
      Options(), [] { return std::string(); }, false);
  EXPECT_NE(trace.states.at("driver_queue").reason.find("read and write access"), std::string::npos);
  driver_.open_error = 0;
  driver_.va_spaces.clear();
  trace = Record(
      Options(), [] { return std::string(); }, false);
  EXPECT_NE(trace.states.at("driver_queue").reason.find("no descriptor of /dev/nvidia-uvm"), std::string::npos);
}

TEST_P(QueueOfBranch, ATableOfStrangersIsNoTable) {
  driver_.processors[1].bytes[0] = 0x11;
  driver_.processors[2].bytes[0] = 0x22;
  const TraceContents trace = Record(
      Options(), [] { return std::string(); }, false);
  EXPECT_NE(trace.states.at("driver_queue").reason.find("none of CUDA's devices"), std::string::npos);
}

TEST_P(QueueOfBranch, AGpuThatComesLaterIsKnownByItsFirstFault) {
  DeviceUuid devices[2] = {FakeTools::Gpu(0), FakeTools::Gpu(1)};
  driver_.processors[1] = DeviceUuid();  // no context yet, on either
  QueueSourceOptions options = Options();
  options.devices = devices;
  options.device_count = 2;
  const TraceContents trace = Record(options, [&]() -> std::string {
    driver_.processors[1] = FakeTools::Gpu(0);
    driver_.processors[2] = FakeTools::Gpu(1);
    ToolsGpuFaultEntry fault = GpuFault();
    driver_.Send(fault);
    fault.gpu = 2;
    driver_.Send(fault);
    return "";
  });
  ASSERT_EQ(trace.gpu_faults.size(), 2u);
  EXPECT_EQ(trace.gpu_faults[0].device, 0);
  EXPECT_EQ(trace.gpu_faults[1].device, 1);
}

std::atomic<int> g_given_up{0};

TEST_P(QueueOfBranch, ARingThatIsNoneIsGivenUp) {
  QueueSourceOptions options = Options();
  options.given_up = [](const char*) { ++g_given_up; };
  const TraceContents trace = Record(options, [&]() -> std::string {
    driver_.Send(GpuFault());
    SleepMs(50);
    for (int i = 0; i < 10; ++i) {
      ToolsMigrationEntry entry = Migration();
      entry.begin_ns = 17;
      driver_.Send(entry);
    }
    for (int i = 0; i < 5; ++i) driver_.Send(GpuFault());
    if (!WaitFor([] { return g_given_up == 1; })) return "not given up";
    if (OpenToolsDescriptors() != 0) return "a descriptor stays open";
    SleepMs(50);
    return g_given_up == 1 ? "" : "given up twice";
  });
  const sources_test::State& state = trace.states.at("driver_queue");
  EXPECT_EQ(state.state, sources_test::kStopped);
  EXPECT_NE(state.reason.find("a time that is not near now"), std::string::npos) << state.reason;
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_GE(trace.losses.at("driver_queue: entry with a time that is not near now"), 3u);
  EXPECT_GE(trace.losses.at("driver_queue: entries left in a queue that was given up"), 5u);
}

TEST_P(QueueOfBranch, AQueueThatIsDeafIsGivenUp) {
  ProcRoot root;
  QueueSourceOptions options = Options();
  options.given_up = [](const char*) { ++g_given_up; };
  const TraceContents trace = RecordInChild([&]() -> std::string {
    g_given_up = 0;
    if (!StartQueueSource(options)) return "did not open";
    DriverSamplerOptions sampler;
    sampler.root = root.path();
    sampler.tools = &FakeTools::kCalls;
    StartDriverSampler(sampler);
    SetQueueManagedMemoryLive(true);
    SetDriverManagedMemoryLive(true);
    SleepMs(100);
    for (int i = 0; i < 300 && g_given_up == 0; ++i) {
      driver_.CountBytes(uint64_t{1} << 20);
      SleepMs(10);
    }
    FinishQueueSource(5000);
    FinishDriverSampler(5000);
    return g_given_up == 1 ? "" : "not given up";
  });
  EXPECT_NE(trace.states.at("driver_queue").reason.find("no migration comes"), std::string::npos);
}

TEST_P(QueueOfBranch, AProgramThatClosesTheDescriptorKeepsItsOwnAndTheQueueIsOpenedAgain) {
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    driver_.Send(GpuFault());
    SleepMs(30);
    const int number = driver_.descriptor_of_queue;
    const int own = memfd_create("own", 0);
    if (dup2(own, number) != number) return "dup2";
    driver_.trackers.clear();  // the last descriptor is gone: the driver lets go
    if (!WaitFor([&] { return driver_.queue() != nullptr; })) return "not opened again";
    SleepMs(30);
    driver_.Send(GpuFault());
    FinishQueueSource(5000);
    struct stat first;
    struct stat second;
    if (fstat(own, &first) != 0 || fstat(number, &second) != 0) return "the program's file was closed";
    return first.st_ino == second.st_ino ? "" : "another file";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 2u);
  EXPECT_EQ(trace.states.at("driver_queue").state, sources_test::kActive);
  EXPECT_EQ(
      trace.losses.at("driver_queue: the program closed the queue's descriptor: events until it was opened again"), 1u);
}

TEST_P(QueueOfBranch, AProgramThatClosesItAgainAndAgainIsLeftAlone) {
  QueueSourceOptions options = Options();
  options.given_up = [](const char*) { ++g_given_up; };
  const TraceContents trace = Record(options, [&]() -> std::string {
    g_given_up = 0;
    for (int i = 0; i < 2000 && g_given_up == 0; ++i) {
      close_range(400, 600, 0);
      SleepMs(1);
    }
    return g_given_up == 1 ? "" : "not given up";
  });
  EXPECT_NE(trace.states.at("driver_queue").reason.find("closed"), std::string::npos);
}

TEST_P(QueueOfBranch, AForkedChildHasNeitherTheRingNorTheDescriptors) {
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    SleepMs(20);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Recorder::Get().AbandonAfterFork();
      AbandonQueueSourceAfterFork();
      unsigned char resident = 0;
      const bool mapped = mincore(driver_.queue()->control, 4096, &resident) == 0;
      const bool open = OpenDescriptors() != 0;  // the recorder's are closed as well
      FinishQueueSource(100);
      _exit((mapped ? 1 : 0) + (open ? 2 : 0));
    }
    int status = 0;
    waitpid(child, &status, 0);
    driver_.Send(GpuFault());
    return status == 0 ? "" : "wait status " + std::to_string(status);
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.states.at("driver_queue").state, sources_test::kActive);
}

TEST_P(QueueOfBranch, ASecondAddressSpaceIsFoundAndItsReplaysAreNotDoubled) {
  driver_.other_kinds.push_back(memfd_create("another_kind", MFD_CLOEXEC));
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    SleepMs(20);
    SetQueueManagedMemoryLive(false);
    SleepMs(20);
    driver_.va_spaces.push_back(memfd_create("second", MFD_CLOEXEC));
    const int same = dup(driver_.va_spaces[0]);  // not a third
    driver_.other_kinds.push_back(same);
    SetQueueManagedMemoryLive(true);
    if (!WaitFor([&] { return driver_.queue(1) != nullptr; })) return "not found";
    SleepMs(50);
    if (driver_.queue(2) != nullptr) return "one address space is read twice";
    driver_.Send(GpuFault(), 0);
    driver_.Send(GpuFault(), 1);
    driver_.Send(Replay(), 0);
    SleepMs(50);
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 2u);
  EXPECT_EQ(trace.replays.size(), 1u);
  EXPECT_NE(trace.states.at("driver_queue").reason.find("2 address spaces"), std::string::npos);
}

// Seen with PyTorch on an H100: the address space that was opened first belongs to no GPU. Replays come to its queue
// alone, and name a GPU that only the second one knows.
TEST_P(QueueOfBranch, ReplaysAreReadWhereTheFirstAddressSpaceHasNoGpu) {
  driver_.va_spaces.push_back(memfd_create("second", MFD_CLOEXEC));
  driver_.without_gpus = 0;
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    if (!WaitFor([&] { return driver_.queue(1) != nullptr; })) return "not found";
    driver_.Send(GpuFault(), 1);
    driver_.Send(Replay(), 0);
    SleepMs(50);
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.replays.size(), 1u);
}

// The same where the GPU's address space comes later than the first replay.
TEST_P(QueueOfBranch, ReplaysAreReadOnceAnAddressSpaceNamesTheirGpu) {
  driver_.without_gpus = 0;
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    driver_.Send(Replay(), 0);
    SleepMs(20);
    SetQueueManagedMemoryLive(false);
    SleepMs(20);
    driver_.va_spaces.push_back(memfd_create("second", MFD_CLOEXEC));
    SetQueueManagedMemoryLive(true);
    if (!WaitFor([&] { return driver_.queue(1) != nullptr; })) return "not found";
    SleepMs(20);
    driver_.Send(GpuFault(), 1);
    driver_.Send(Replay(), 0);
    SleepMs(50);
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.replays.size(), 1u);
}

TEST_P(QueueOfBranch, WithoutManagedMemoryItSleeps) {
  TraceContents trace = RecordInChild([&]() -> std::string {
    if (!StartQueueSource(Options())) return "did not open";
    SleepMs(300);
    const int flushes = driver_.flushes;
    const uint64_t before_ns = QueueThreadCpuNs();
    SleepMs(700);
    if (driver_.flushes != flushes) return "flushes for nothing";
    if (QueueThreadCpuNs() - before_ns > 5'000'000) return "uses CPU time";
    FinishQueueSource(5000);
    return "";
  });
  EXPECT_TRUE(trace.losses.empty());
}

// A descriptor that poll calls ready for ever must not make the thread go round and round.
TEST_P(QueueOfBranch, APollThatLiesCostsNoCpu) {
  driver_.tools_are_files = true;
  const TraceContents trace = Record(Options(), [&]() -> std::string {
    SleepMs(500);
    driver_.Send(GpuFault());
    SleepMs(100);
    return QueueThreadCpuNs() < 50'000'000 ? "" : "busy for " + std::to_string(QueueThreadCpuNs());
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
}

// The kernel's own answer, on a machine without the driver and on one with it: this process has no address space there.
TEST_F(QueueSourceTest, TheRealDeviceIsAbsentOrRefuses) {
  QueueSourceOptions options;
  const TraceContents trace = Record(
      options, [] { return std::string(); }, false);
  EXPECT_EQ(trace.states.at("driver_queue").state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at("driver_queue").reason, "");
}

// For the tests of driver_queue_detail_test.cc as well.
INSTANTIATE_TEST_SUITE_P(EachBranch, QueueOfBranch, testing::ValuesIn(kFakeBranches), FakeBranchName);

}  // namespace
}  // namespace uvmtrace
