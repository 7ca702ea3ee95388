// What is told about the driver when its threads are there, hidden, late, gone, or without statistics.
#include "driver/driver_sampler.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "record/recorder.h"
#include "tests/unit/driver_proc_root.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::RecordInChild;
using sources_test::TraceContents;

constexpr char kUuid[] = "GPU-00112233-4455-6677-8899-aabbccddeeff";

void SleepMs(int milliseconds) { usleep(static_cast<useconds_t>(milliseconds) * 1000); }

DriverSamplerOptions Options(const ProcRoot& root) {
  DriverSamplerOptions options;
  options.root = root.path();
  options.period_us = 2'000;
  return options;
}

// Recorded time of the threads with this name.
uint64_t SampledCpuNs(const TraceContents& trace, const std::string& name) {
  uint64_t most = 0;
  for (const auto& sample : trace.thread_samples) {
    if (trace.kernel_threads.at(sample.kernel_thread).name == name) most = std::max(most, sample.cpu_ns);
  }
  return most;
}

TEST(DriverSampler, SamplesBothThreadsWhileManagedMemoryLives) {
  ProcRoot root;
  root.AddKernelThreads();
  root.Link("proc/driver/nvidia-uvm/gpus/1", std::string(kUuid) + "/0");
  const TraceContents trace = RecordInChild([&]() -> std::string {
    NamedThread bottom_half(root, "UVM GPU1 BH");
    NamedThread tools_queue(root, "UVM Tools Event");
    NamedThread other(root, "UVM GPU1 KC");
    DriverSamplerOptions options = Options(root);
    options.other_tool_threads_cpu_ns = [] { return uint64_t{5'000'000'000}; };
    StartDriverSampler(options);
    SleepMs(100);
    SetDriverManagedMemoryLive(true);
    SleepMs(300);
    SetDriverManagedMemoryLive(false);
    SleepMs(100);
    FinishDriverSampler(2000);
    return "";
  });
  ASSERT_EQ(trace.kernel_threads.size(), 2u);
  for (const auto& [id, thread] : trace.kernel_threads) {
    EXPECT_GT(thread.tid, 0u);
    EXPECT_GT(thread.start_ticks, 0u);
    if (thread.name == "UVM GPU1 BH") {
      EXPECT_EQ(thread.role, 1);
      EXPECT_EQ(thread.device_uuid, "00112233445566778899aabbccddeeff");
    } else {
      EXPECT_EQ(thread.role, 2);
      EXPECT_EQ(thread.device_uuid, "");
    }
    uint64_t last_cpu_ns = 0;
    size_t samples = 0;
    for (const auto& sample : trace.thread_samples) {
      if (sample.kernel_thread != id) continue;
      EXPECT_GE(sample.cpu_ns, last_cpu_ns);
      last_cpu_ns = sample.cpu_ns;
      ++samples;
    }
    EXPECT_GT(last_cpu_ns, 1'000'000u);
    // Every 2 ms of the 300, fewer on a busy machine; and not in the 200 ms without managed memory.
    EXPECT_GE(samples, 30u);
    EXPECT_LE(samples, 170u);
  }
  EXPECT_EQ(trace.states.at("bh_threads").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("bh_threads").reason, "");
  EXPECT_EQ(trace.states.at("tools_event_queue").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("process_time").state, sources_test::kActive);
  ASSERT_GE(trace.process_samples.size(), 30u);
  EXPECT_GT(trace.process_samples.back().user_ns + trace.process_samples.back().system_ns, 1'000'000u);
  EXPECT_GE(trace.process_samples.back().tool_ns, 5'000'000'000u);
  EXPECT_LT(trace.process_samples.back().tool_ns, 6'000'000'000u);
  EXPECT_EQ(trace.process_samples.back().time_ns, trace.thread_samples.back().time_ns);
}

TEST(DriverSampler, T16_AContainerIsToldAndGivesNoZero) {
  ProcRoot root;
  root.AddThread(1, "bash", 0, 5, "0 0 0\n");
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    SetDriverManagedMemoryLive(true);
    SleepMs(50);
    FinishDriverSampler(2000);
    return "";
  });
  for (const char* source : {"bh_threads", "tools_event_queue"}) {
    EXPECT_EQ(trace.states.at(source).state, sources_test::kUnavailable) << source;
    EXPECT_NE(trace.states.at(source).reason.find("--pid=host"), std::string::npos) << trace.states.at(source).reason;
  }
  EXPECT_TRUE(trace.thread_samples.empty());
  EXPECT_TRUE(trace.kernel_threads.empty());
  EXPECT_GE(trace.process_samples.size(), 2u);
}

TEST(DriverSampler, WaitsForAThreadThatComesLate) {
  ProcRoot root;
  root.AddKernelThreads();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    SleepMs(30);
    Recorder::Get().Flush(1000);  // a chunk holds only the last state
    SetDriverManagedMemoryLive(true);
    SleepMs(150);
    Recorder::Get().Flush(1000);
    NamedThread bottom_half(root, "UVM GPU1 BH");
    SleepMs(400);
    FinishDriverSampler(2000);
    return "";
  });
  const auto& history = trace.history.at("bh_threads");
  ASSERT_GE(history.size(), 3u);
  EXPECT_EQ(history[0].state, sources_test::kIdle);
  EXPECT_EQ(history[1].state, sources_test::kUnavailable);
  EXPECT_NE(history[1].reason.find("no BH thread yet"), std::string::npos);
  EXPECT_EQ(history.back().state, sources_test::kActive);
  EXPECT_NE(history.back().reason.find("nvidia-uvm/gpus cannot be read"), std::string::npos) << history.back().reason;
  EXPECT_GT(SampledCpuNs(trace, "UVM GPU1 BH"), 0u);
}

TEST(DriverSampler, AShortProgramGetsItsThreadAtTheEnd) {
  ProcRoot root;
  root.AddKernelThreads();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    SetDriverManagedMemoryLive(true);
    SleepMs(20);
    NamedThread bottom_half(root, "UVM GPU1 BH");
    SleepMs(5);
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at("bh_threads").state, sources_test::kActive);
  EXPECT_GT(SampledCpuNs(trace, "UVM GPU1 BH"), 0u);
}

TEST(DriverSampler, AThreadThatEndedIsLookedForAgain) {
  ProcRoot root;
  root.AddKernelThreads();
  const TraceContents trace = RecordInChild([&]() -> std::string {
    auto first = std::make_unique<NamedThread>(root, "UVM GPU1 BH");
    StartDriverSampler(Options(root));
    SetDriverManagedMemoryLive(true);
    SleepMs(60);
    first->Stop();
    SleepMs(60);
    NamedThread second(root, "UVM GPU1 BH");
    SleepMs(400);
    FinishDriverSampler(2000);
    return "";
  });
  ASSERT_EQ(trace.kernel_threads.size(), 2u);
  std::map<uint32_t, int> samples;
  for (const auto& sample : trace.thread_samples) ++samples[sample.kernel_thread];
  EXPECT_EQ(samples.size(), 2u);
  bool stopped = false;
  for (const auto& state : trace.history.at("bh_threads")) stopped = stopped || state.state == sources_test::kStopped;
  EXPECT_TRUE(stopped);
  EXPECT_EQ(trace.states.at("bh_threads").state, sources_test::kActive);
}

TEST(DriverSampler, ALaterThreadWithTheSameTidIsAnother) {
  ProcRoot root;
  root.AddKernelThreads();
  root.AddThread(77, "UVM GPU1 BH", 3, 1000, "30000000 5 9\n");
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    SetDriverManagedMemoryLive(true);
    SleepMs(60);
    root.Remove("proc/77");
    SetDriverManagedMemoryLive(false);
    SleepMs(20);
    root.AddThread(77, "UVM GPU1 BH", 0, 2000, "1 0 1\n");
    SetDriverManagedMemoryLive(true);
    SleepMs(60);
    FinishDriverSampler(2000);
    return "";
  });
  ASSERT_EQ(trace.kernel_threads.size(), 2u);
  for (const auto& [id, thread] : trace.kernel_threads) {
    EXPECT_EQ(thread.tid, 77u);
    const uint64_t expected = thread.start_ticks == 1000 ? 30'000'000u : 1u;
    int samples = 0;
    for (const auto& sample : trace.thread_samples) {
      if (sample.kernel_thread != id) continue;
      EXPECT_EQ(sample.cpu_ns, expected);
      ++samples;
    }
    EXPECT_GT(samples, 0);
  }
}

TEST(DriverSampler, WithoutSchedstatTicksAreUsedAndSaidToBe) {
  for (const char* schedstat : {"", "0 0 0\n"}) {
    ProcRoot root;
    root.AddKernelThreads();
    root.AddThread(77, "UVM GPU1 BH", 3, 1000, schedstat);
    const TraceContents trace = RecordInChild([&]() -> std::string {
      StartDriverSampler(Options(root));
      SetDriverManagedMemoryLive(true);
      SleepMs(60);
      FinishDriverSampler(2000);
      return "";
    });
    EXPECT_EQ(SampledCpuNs(trace, "UVM GPU1 BH"), 3 * 1'000'000'000u / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
    EXPECT_EQ(trace.states.at("bh_threads").state, sources_test::kActive);
    EXPECT_NE(trace.states.at("bh_threads").reason.find("schedstat"), std::string::npos);
  }
}

TEST(DriverSampler, GoesOnWhenTheProgramClosesItsFiles) {
  ProcRoot root;
  root.AddKernelThreads();
  root.AddThread(77, "UVM GPU1 BH", 3, 1000, "30000000 5 9\n");
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    SetDriverManagedMemoryLive(true);
    int closed = 0;
    for (int round = 0; round < 20; ++round) {
      SleepMs(10);
      for (int fd = 3; fd < 1024; ++fd) {
        char link[64];
        char target[512];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(link, target, sizeof target - 1);
        if (length > 0 && std::string(target, static_cast<size_t>(length)).ends_with("/schedstat")) {
          syscall(SYS_close, fd);  // past ThreadSanitizer, for which this is a race: it is one
          ++closed;
        }
      }
    }
    SleepMs(20);
    FinishDriverSampler(2000);
    return closed >= 5 ? "" : "closed only " + std::to_string(closed);
  });
  EXPECT_EQ(trace.kernel_threads.size(), 1u);
  EXPECT_GE(trace.thread_samples.size(), 20u);
  EXPECT_EQ(trace.states.at("bh_threads").state, sources_test::kActive);
}

TEST(DriverSampler, ParametersAreRecordedAndUnreadableOnesNamed) {
  ProcRoot root;
  root.Write("sys/module/nvidia_uvm/parameters/uvm_perf_prefetch_threshold", "51\n");
  root.Write("sys/module/nvidia_uvm/parameters/uvm_channel_gpfifo_loc", "(null)\n");
  root.Write("sys/module/nvidia_uvm/parameters/empty", "\n");
  root.Write("sys/module/nvidia_uvm/parameters/secret/x", "");  // a folder: cannot be read as a file, even by root
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.parameters.size(), 3u);
  EXPECT_EQ(trace.parameters.at("uvm_perf_prefetch_threshold"), "51");
  EXPECT_EQ(trace.parameters.at("uvm_channel_gpfifo_loc"), "(null)");
  EXPECT_EQ(trace.parameters.at("empty"), "");
  EXPECT_EQ(trace.states.at("module_parameters").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("module_parameters").reason, "not readable: secret (Is a directory)");
}

TEST(DriverSampler, AMissingDriverIsTold) {
  ProcRoot root;
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at("module_parameters").state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at("module_parameters").reason.find("No such file"), std::string::npos);
}

TEST(DriverSampler, T14_AForkedChildHasNoSampler) {
  ProcRoot root;
  root.AddKernelThreads();
  root.AddThread(77, "UVM GPU1 BH", 3, 1000, "30000000 5 9\n");
  RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(root));
    SetDriverManagedMemoryLive(true);
    SleepMs(30);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Recorder::Get().AbandonAfterFork();
      AbandonDriverSamplerAfterFork();
      SetDriverManagedMemoryLive(true);
      FinishDriverSampler(100);
      int threads = 0;
      DIR* tasks = opendir("/proc/self/task");
      while (const dirent* entry = readdir(tasks)) threads += entry->d_name[0] != '.';
      closedir(tasks);
      _exit(threads == 1 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    FinishDriverSampler(2000);
    return status == 0 ? "" : "wait status " + std::to_string(status);
  });
}

}  // namespace
}  // namespace uvmtrace
