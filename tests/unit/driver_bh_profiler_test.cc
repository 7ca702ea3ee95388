// Samples of a thread's kernel stacks, as the trace has them; and every way in which they can be refused.
//
// The thread is one of the test's own that works in the kernel, shown as a driver's. Where the machine does not permit
// perf_event_open, or hides the kernel's addresses, those tests are skipped.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "driver/bh_profiler.h"
#include "driver/driver_sampler.h"
#include "record/recorder.h"
#include "tests/unit/driver_proc_root.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::RecordInChild;
using sources_test::TraceContents;

constexpr char kSource[] = "bh_samples";

void SleepMs(int milliseconds) { usleep(static_cast<useconds_t>(milliseconds) * 1000); }

bool PerfIsPermitted() {
  perf_event_attr attributes = BottomHalfAttributes();
  const int descriptor = kKernelPerf.open(&attributes, 0);
  if (descriptor >= 0) close(descriptor);
  int error = 0;
  return descriptor >= 0 && KernelSymbols::Peek("/proc/kallsyms", &error) == KernelSymbols::Access::kReadable;
}
#define UVMTRACE_NEED_PERF() \
  if (!PerfIsPermitted()) GTEST_SKIP() << "perf_event_open or /proc/kallsyms is not permitted here"

// A thread with the name of a driver's, which makes random bytes in the kernel: in slices of `slice_us`, with as much
// sleep between them.
class WorkingThread {
 public:
  WorkingThread(const ProcRoot& root, const std::string& name, int slice_us = 0)
      : thread_([this, name, slice_us] { Work(name, slice_us); }) {
    while (tid_ == 0) std::this_thread::yield();
    root.Link("proc/" + std::to_string(tid_), "/proc/" + std::to_string(getpid()) + "/task/" + std::to_string(tid_));
  }
  ~WorkingThread() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void Pause(bool pause) { pause_ = pause; }
  uint32_t tid() const { return static_cast<uint32_t>(tid_); }
  // Its CPU time at its end.
  uint64_t cpu_ns() const { return cpu_ns_; }

 private:
  static uint64_t CpuNs() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  }

  void Work(const std::string& name, int slice_us) {
    prctl(PR_SET_NAME, name.c_str());
    tid_ = static_cast<int>(syscall(SYS_gettid));
    const int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    std::vector<char> bytes(slice_us == 0 ? 1 << 20 : 8192);
    while (!stop_) {
      const uint64_t begin_ns = CpuNs();
      do {
        if (pause_ || read(random, bytes.data(), bytes.size()) < 0) SleepMs(1);
      } while (slice_us != 0 && CpuNs() - begin_ns < static_cast<uint64_t>(slice_us) * 1000);
      if (slice_us != 0) usleep(static_cast<useconds_t>(slice_us));
    }
    close(random);
    cpu_ns_ = CpuNs();
  }

  std::atomic<bool> stop_{false};
  std::atomic<bool> pause_{false};
  std::atomic<int> tid_{0};
  std::atomic<uint64_t> cpu_ns_{0};
  std::thread thread_;  // last: it uses the others
};

class BottomHalfProfilerTest : public testing::Test {
 protected:
  void SetUp() override {
    root_.AddKernelThreads();
    root_.Link("proc/kallsyms", "/proc/kallsyms");
  }

  DriverSamplerOptions Options(const PerfCalls* perf = &kKernelPerf) const {
    DriverSamplerOptions options;
    options.root = root_.path();
    options.period_us = 5'000;
    options.perf = perf;
    return options;
  }

  void Start(const DriverSamplerOptions& options) const {
    StartDriverSampler(options);
    SetDriverManagedMemoryLive(true);
  }

  // Records with one thread for a while, under a kernel that answers as `perf` does.
  TraceContents RecordThread(const PerfCalls* perf, int milliseconds = 60) const {
    return RecordInChild([&]() -> std::string {
      WorkingThread bottom_half(root_, "UVM GPU1 BH");
      Start(Options(perf));
      SleepMs(milliseconds);
      FinishDriverSampler(2000);
      return "";
    });
  }

  ProcRoot root_;
};

uint64_t Weight(const TraceContents& trace, uint32_t kernel_thread) {
  uint64_t sum = 0;
  for (const auto& sample : trace.bottom_half_samples) {
    if (sample.kernel_thread == kernel_thread) sum += sample.weight_ns;
  }
  return sum;
}

bool HasFrame(const std::vector<std::string>& stack, const std::string& part) {
  return std::any_of(stack.begin(), stack.end(),
                     [&](const std::string& frame) { return frame.find(part) != std::string::npos; });
}

TEST_F(BottomHalfProfilerTest, TheStacksOfAWorkingThreadAreNamedAndWeighted) {
  UVMTRACE_NEED_PERF();
  uint64_t begin_ns = 0;
  uint64_t* const worked_ns =
      static_cast<uint64_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  begin_ns = NowNs();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    WorkingThread bottom_half(root_, "UVM GPU1 BH");
    Start(Options());
    SleepMs(600);
    bottom_half.Stop();
    *worked_ns = bottom_half.cpu_ns();
    FinishDriverSampler(2000);
    return "";
  });
  const uint64_t end_ns = NowNs();
  bool active = false;
  for (const auto& state : trace.history.at(kSource)) {
    active = active || (state.state == sources_test::kActive && state.reason.empty());
  }
  EXPECT_TRUE(active);
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kStopped);
  EXPECT_TRUE(trace.losses.empty());
  ASSERT_EQ(trace.kernel_threads.size(), 1u);
  // What the thread did before it was found is missing, and what it did in user mode, which is little.
  const uint64_t weight_ns = Weight(trace, trace.kernel_threads.begin()->first);
  EXPECT_GT(weight_ns, *worked_ns / 2);
  EXPECT_LT(weight_ns, *worked_ns + *worked_ns / 10);
  uint64_t in_read_ns = 0;
  std::set<std::vector<std::string>> distinct;
  for (const auto& sample : trace.bottom_half_samples) {
    EXPECT_EQ(sample.weight_ns, kBottomHalfPeriodNs);
    EXPECT_GT(static_cast<uint64_t>(sample.time_ns), begin_ns);
    EXPECT_LT(static_cast<uint64_t>(sample.time_ns), end_ns);
    const auto& stack = trace.kernel_stacks.at(sample.kernel_stack);
    for (const std::string& frame : stack) EXPECT_EQ(frame.find("ffffffff"), std::string::npos) << frame;
    if (HasFrame(stack, "urandom_read") || HasFrame(stack, "vfs_read")) in_read_ns += sample.weight_ns;
  }
  EXPECT_GT(in_read_ns, weight_ns / 2);
  for (const auto& [id, stack] : trace.kernel_stacks) {
    EXPECT_TRUE(distinct.insert(stack).second) << "the same stack twice, beginning with " << stack.front();
  }
  munmap(worked_ns, 4096);
}

// The bottom half works for less than a period at a time: what is left of a period must not be forgotten.
TEST_F(BottomHalfProfilerTest, ShortSlicesOfWorkAddUp) {
  UVMTRACE_NEED_PERF();
  uint64_t* const worked_ns =
      static_cast<uint64_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const TraceContents trace = RecordInChild([&]() -> std::string {
    WorkingThread bottom_half(root_, "UVM GPU1 BH", 150);
    Start(Options());
    SleepMs(1000);
    bottom_half.Stop();
    *worked_ns = bottom_half.cpu_ns();
    FinishDriverSampler(2000);
    return "";
  });
  ASSERT_EQ(trace.kernel_threads.size(), 1u);
  const uint64_t weight_ns = Weight(trace, trace.kernel_threads.begin()->first);
  EXPECT_GT(weight_ns, *worked_ns / 2);
  EXPECT_LT(weight_ns, *worked_ns + *worked_ns / 10);
  munmap(worked_ns, 4096);
}

TEST_F(BottomHalfProfilerTest, EachGpuHasItsOwnAndOthersAreNotSampled) {
  UVMTRACE_NEED_PERF();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    WorkingThread first(root_, "UVM GPU1 BH");
    WorkingThread second(root_, "UVM GPU2 BH");
    WorkingThread queue(root_, "UVM Tools Event");
    Start(Options());
    SleepMs(500);
    FinishDriverSampler(2000);
    return "";
  });
  ASSERT_EQ(trace.kernel_threads.size(), 3u);
  for (const auto& [id, thread] : trace.kernel_threads) {
    if (thread.role == 1) {
      EXPECT_GT(Weight(trace, id), 20'000'000u) << thread.name;
    } else {
      EXPECT_EQ(Weight(trace, id), 0u) << thread.name;
    }
  }
}

TEST_F(BottomHalfProfilerTest, AThreadThatEndsLeavesItsSamplesAndAnotherOneComes) {
  UVMTRACE_NEED_PERF();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    auto first = std::make_unique<WorkingThread>(root_, "UVM GPU1 BH");
    Start(Options());
    SleepMs(50);  // less than what a ring may wait
    first->Stop();
    SleepMs(100);
    WorkingThread second(root_, "UVM GPU1 BH");
    SleepMs(400);
    FinishDriverSampler(2000);
    return "";
  });
  ASSERT_EQ(trace.kernel_threads.size(), 2u);
  for (const auto& [id, thread] : trace.kernel_threads) EXPECT_GT(Weight(trace, id), 5'000'000u) << id;
  bool stopped = false;
  for (const auto& state : trace.history.at(kSource)) stopped = stopped || state.state == sources_test::kStopped;
  EXPECT_TRUE(stopped);
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kActive);
  EXPECT_TRUE(trace.losses.empty());
}

TEST_F(BottomHalfProfilerTest, AThreadThatSleepsCostsNothing) {
  UVMTRACE_NEED_PERF();
  RecordInChild([&]() -> std::string {
    WorkingThread bottom_half(root_, "UVM GPU1 BH");
    Start(Options());
    SleepMs(300);
    bottom_half.Pause(true);
    // On a busy machine the samples of the time before the pause are still being read.
    uint64_t before_ns = 0;
    uint64_t used_ns = UINT64_MAX;
    for (int attempt = 0; attempt < 20 && used_ns >= 1'000'000; ++attempt) {
      SleepMs(300);
      before_ns = BottomHalfProfilerCpuNs();
      SleepMs(300);
      used_ns = BottomHalfProfilerCpuNs() - before_ns;
    }
    FinishDriverSampler(2000);
    if (before_ns == 0) return "the profiler's thread never said what it used";
    // Sleeping takes the thread some microseconds of CPU, and so a sample now and then.
    return used_ns < 1'000'000 ? "" : "used " + std::to_string(used_ns) + " ns while the thread slept";
  });
}

TEST_F(BottomHalfProfilerTest, NoDescriptorIsLeftInTheProgram) {
  UVMTRACE_NEED_PERF();
  RecordInChild([&]() -> std::string {
    auto perf_descriptors = [] {
      int count = 0;
      for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code error;
        count += std::filesystem::read_symlink(entry.path(), error).string().find("perf_event") != std::string::npos;
      }
      return count;
    };
    perf_event_attr attributes = BottomHalfAttributes();
    const int own = kKernelPerf.open(&attributes, 0);
    if (perf_descriptors() != 1) return "the test does not know a descriptor of perf when it sees one";
    close(own);
    WorkingThread bottom_half(root_, "UVM GPU1 BH");
    Start(Options());
    SleepMs(100);
    const int left = perf_descriptors();
    FinishDriverSampler(2000);
    return left == 0 ? "" : std::to_string(left) + " descriptors";
  });
}

TEST_F(BottomHalfProfilerTest, T14_AForkedChildHasNoProfilerAndTheParentKeepsIts) {
  UVMTRACE_NEED_PERF();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    WorkingThread bottom_half(root_, "UVM GPU1 BH");
    Start(Options());
    SleepMs(150);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Recorder::Get().AbandonAfterFork();
      AbandonDriverSamplerAfterFork();
      FinishDriverSampler(100);
      // A session of the child's own.
      const std::string path = "/tmp/uvmtrace_bh_child_" + std::to_string(getpid()) + ".pb";
      RecorderOptions options{};
      options.path = path.c_str();
      options.run_id = 1;
      options.buffer_bytes = size_t{8} << 20;
      if (!Recorder::Get().Start(options)) _exit(2);
      Start(Options());
      SleepMs(100);
      FinishDriverSampler(1000);
      Recorder::Get().Close(1000);
      unlink(path.c_str());
      _exit(BottomHalfProfilerCpuNs() > 0 ? 0 : 3);
    }
    int status = 0;
    waitpid(child, &status, 0);
    SleepMs(150);
    FinishDriverSampler(2000);
    return status == 0 ? "" : "wait status " + std::to_string(status);
  });
  int64_t first_ns = INT64_MAX;
  int64_t last_ns = 0;
  for (const auto& sample : trace.bottom_half_samples) {
    first_ns = std::min(first_ns, sample.time_ns);
    last_ns = std::max(last_ns, sample.time_ns);
  }
  EXPECT_GT(last_ns - first_ns, 250'000'000);
}

TEST_F(BottomHalfProfilerTest, UnderTheSimulatorTheStacksAreNotTheDrivers) {
  const TraceContents trace = RecordThread(nullptr);
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kUnavailable);
  EXPECT_EQ(trace.states.at(kSource).reason, "simulated: the thread's stacks are not the driver's");
  EXPECT_TRUE(trace.bottom_half_samples.empty());
}

TEST_F(BottomHalfProfilerTest, NotWantedMeansNotTried) {
  static bool tried = false;
  static const PerfCalls kPerf = {[](perf_event_attr*, uint32_t) {
    tried = true;
    return -1;
  }};
  const TraceContents trace = RecordInChild([&]() -> std::string {
    WorkingThread bottom_half(root_, "UVM GPU1 BH");
    DriverSamplerOptions options = Options(&kPerf);
    options.bottom_half_stacks_off = "UVMTRACE_BH_STACKS=0";
    Start(options);
    SleepMs(60);
    FinishDriverSampler(2000);
    return tried ? "tried" : "";
  });
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kDisabled);
  EXPECT_EQ(trace.states.at(kSource).reason, "UVMTRACE_BH_STACKS=0");
}

TEST_F(BottomHalfProfilerTest, WithoutAThreadTheStateSaysWhereToLook) {
  const TraceContents trace = RecordInChild([&]() -> std::string {
    Start(Options());
    SleepMs(20);
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at(kSource).reason.find("bh_threads"), std::string::npos);
}

template <int kError>
const PerfCalls kRefuse = {[](perf_event_attr*, uint32_t) {
  errno = kError;
  return -1;
}};

struct Refusal {
  const PerfCalls* perf;
  const char* status;    // of /proc/self/status
  const char* paranoid;  // null: no such file
  const char* expected;  // in the reason
};

TEST_F(BottomHalfProfilerTest, EachRefusalSaysWhatWouldPermitIt) {
  const char* const plain = "Name:\tx\nCapEff:\t0000000000000000\nSeccomp:\t0\n";
  const char* const capable = "Name:\tx\nCapEff:\t0000004000000000\nSeccomp:\t0\n";
  const char* const filtered = "Name:\tx\nCapEff:\t0000000000000000\nSeccomp:\t2\n";
  const Refusal refusals[] = {
      {&kRefuse<EACCES>, plain, "2\n", "perf_event_paranoid is 2: run as root, or with CAP_PERFMON"},
      {&kRefuse<EACCES>, plain, nullptr, "perf_event_paranoid is unknown"},
      {&kRefuse<EACCES>, capable, "2\n", "user namespace"},
      {&kRefuse<EPERM>, filtered, "2\n", "seccomp"},
      {&kRefuse<EPERM>, plain, "2\n", "locked down"},
      {&kRefuse<ENOSYS>, plain, "2\n", "CONFIG_PERF_EVENTS"},
      {&kRefuse<ENOSYS>, filtered, "2\n", "seccomp filter hides"},
      {&kRefuse<EINVAL>, plain, "2\n", "Linux 4.1"},
      {&kRefuse<EMFILE>, plain, "2\n", "ulimit -n"},
      {&kRefuse<EIO>, plain, "2\n", "Input/output error"},
  };
  std::set<std::string> reasons;
  for (const Refusal& refusal : refusals) {
    root_.Write("proc/self/status", refusal.status);
    root_.Remove("proc/sys/kernel/perf_event_paranoid");
    if (refusal.paranoid != nullptr) root_.Write("proc/sys/kernel/perf_event_paranoid", refusal.paranoid);
    const TraceContents trace = RecordThread(refusal.perf);
    const auto& state = trace.states.at(kSource);
    EXPECT_EQ(state.state, sources_test::kUnavailable) << refusal.expected;
    EXPECT_NE(state.reason.find(refusal.expected), std::string::npos) << state.reason;
    EXPECT_TRUE(state.reason.starts_with("UVM GPU1 BH: perf_event_open: ")) << state.reason;
    EXPECT_TRUE(reasons.insert(state.reason).second) << state.reason;
    EXPECT_TRUE(trace.bottom_half_samples.empty());
  }
}

TEST_F(BottomHalfProfilerTest, OneThreadRefusedDoesNotHideTheOther) {
  UVMTRACE_NEED_PERF();
  static int calls = 0;
  static const PerfCalls kSecondRefused = {[](perf_event_attr* attributes, uint32_t tid) {
    if (++calls == 1) return kKernelPerf.open(attributes, tid);
    errno = EACCES;
    return -1;
  }};
  const TraceContents trace = RecordInChild([&]() -> std::string {
    WorkingThread first(root_, "UVM GPU1 BH");
    WorkingThread second(root_, "UVM GPU2 BH");
    Start(Options(&kSecondRefused));
    SleepMs(100);
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kActive);
  EXPECT_NE(trace.states.at(kSource).reason.find("perf_event_open"), std::string::npos);
}

TEST_F(BottomHalfProfilerTest, HiddenSymbolsAreToldBeforeAnythingIsSampled) {
  UVMTRACE_NEED_PERF();
  root_.Remove("proc/kallsyms");
  for (const bool exists : {true, false}) {
    if (exists) root_.Write("proc/kallsyms", "0000000000000000 T _stext\n0000000000000000 T _text\n");
    if (!exists) root_.Remove("proc/kallsyms");
    for (const char* restriction : {"1\n", "2\n"}) {
      root_.Write("proc/sys/kernel/kptr_restrict", restriction);
      const TraceContents trace = RecordThread(&kKernelPerf);
      const auto& state = trace.states.at(kSource);
      EXPECT_EQ(state.state, sources_test::kUnavailable);
      const char* expected = !exists                 ? "CONFIG_KALLSYMS"
                             : restriction[0] == '1' ? "CAP_SYSLOG"
                                                     : "sysctl kernel.kptr_restrict=1";
      EXPECT_NE(state.reason.find(expected), std::string::npos) << state.reason;
      EXPECT_TRUE(trace.bottom_half_samples.empty());
    }
  }
}

TEST_F(BottomHalfProfilerTest, AThreadThatIsGoneIsNoRefusal) {
  const TraceContents trace = RecordThread(&kRefuse<ESRCH>);
  EXPECT_EQ(trace.states.at(kSource).reason.find("perf_event_open"), std::string::npos);
}

// What stands for the ring is a file of zeros that says that something is in it.
TEST_F(BottomHalfProfilerTest, ARingThatMakesNoSenseIsCountedAsALoss) {
  static const PerfCalls kNonsense = {[](perf_event_attr*, uint32_t) {
    const int descriptor = memfd_create("ring", MFD_CLOEXEC);
    if (ftruncate(descriptor, 1 << 20) != 0) return -1;
    const uint64_t head = 4096;
    if (pwrite(descriptor, &head, sizeof head, offsetof(perf_event_mmap_page, data_head)) < 0) return -1;
    return descriptor;
  }};
  root_.Remove("proc/kallsyms");
  root_.Write("proc/kallsyms", "ffffffff81000000 T _stext\n");
  const TraceContents trace = RecordThread(&kNonsense);
  EXPECT_EQ(trace.losses.at("bh_samples: the ring held a record that makes no sense"), 1u);
}

TEST_F(BottomHalfProfilerTest, ARingThatCannotBeMappedIsTold) {
  static const PerfCalls kPipe = {[](perf_event_attr*, uint32_t) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    close(ends[1]);
    return ends[0];
  }};
  const TraceContents trace = RecordThread(&kPipe);
  EXPECT_EQ(trace.states.at(kSource).state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at(kSource).reason.find("cannot be mapped"), std::string::npos);
}

}  // namespace
}  // namespace uvmtrace
