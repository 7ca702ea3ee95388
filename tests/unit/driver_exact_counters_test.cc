// The driver's own counters: with a driver that answers, refuses, lies, and is not there.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "driver/driver_sampler.h"
#include "driver/exact_counters.h"
#include "record/recorder.h"
#include "tests/unit/driver_fake_tools.h"
#include "tests/unit/driver_proc_root.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::RecordInChild;
using sources_test::TraceContents;

void SleepMs(int milliseconds) { usleep(static_cast<useconds_t>(milliseconds) * 1000); }

// The driver, as a test scripts it. The functions of ToolsCalls carry no pointer, so there is one.
struct FakeDriver {
  FakeBranch branch = FakeBranch::k565;
  int open_error = 0;
  std::vector<int> va_spaces = {7};
  int accepted = 7;       // this descriptor is of the address space
  int also_accepted = 7;  // and this one
  int init_error = 0;
  uint32_t init_status = 0x1f;
  uint32_t enable_status = 0;
  uint64_t first_bytes = 0;

  int opened = 0;
  int tracker_descriptor = -1;
  FakeTrackerCommon tracker = {};
  uint64_t flags = 0;
  std::atomic<uint64_t>* page = nullptr;  // as the kernel writes it
};
FakeDriver* g_driver = nullptr;

int FakeOpen() {
  if (g_driver->open_error != 0) {
    errno = g_driver->open_error;
    return -1;
  }
  ++g_driver->opened;
  return memfd_create("tools", MFD_CLOEXEC);
}

size_t FakeVaSpaces(int* descriptors, size_t capacity) {
  size_t count = 0;
  for (const int descriptor : g_driver->va_spaces) {
    if (count < capacity) descriptors[count++] = descriptor;
  }
  return count;
}

int FakeControl(int descriptor, unsigned long number, void* data) {
  if (number == kToolsInitEventTracker) {
    errno = g_driver->init_error;
    if (g_driver->init_error != 0) return -1;
    AnswerTracker(g_driver->branch, data, [&](const FakeTrackerCommon& tracker, uint32_t) {
      const int va_space = static_cast<int>(tracker.va_space_descriptor);
      if (va_space != g_driver->accepted && va_space != g_driver->also_accepted) return g_driver->init_status;
      g_driver->tracker = tracker;
      g_driver->tracker_descriptor = descriptor;
      g_driver->page = reinterpret_cast<std::atomic<uint64_t>*>(tracker.control);
      g_driver->page[kHostToDeviceBytesIndex] = g_driver->first_bytes;
      return 0u;
    });
    return 0;
  }
  if (number == kToolsEnableCounters && descriptor == g_driver->tracker_descriptor) {
    auto* counters = static_cast<ToolsFlags*>(data);
    g_driver->flags = counters->flags;
    counters->status = g_driver->enable_status;
    return 0;
  }
  errno = EINVAL;
  return -1;
}

constexpr ToolsCalls kFakeTools = {&FakeOpen, &FakeVaSpaces, &FakeControl, nullptr};

class ExactCountersTest : public testing::TestWithParam<FakeBranch> {
 protected:
  void SetUp() override {
    g_driver = &driver_;
    driver_.branch = GetParam();
  }
  void TearDown() override { g_driver = nullptr; }

  // Runs the sampler with `driver_`, and `script` while managed memory lives.
  TraceContents Record(const std::function<std::string()>& script) {
    return RecordInChild([&]() -> std::string {
      DriverSamplerOptions options;
      options.root = root_.path();
      options.period_us = 1000;
      options.tools = &kFakeTools;
      errno = 4711;
      StartDriverSampler(options);
      if (errno != 4711) return "errno of the host changed";
      SetDriverManagedMemoryLive(true);
      const std::string failure = script();
      SetDriverManagedMemoryLive(false);
      FinishDriverSampler(2000);
      return failure;
    });
  }

  ProcRoot root_;
  FakeDriver driver_;
};

TEST_P(ExactCountersTest, TheCountersAreOpenWhenTheStartReturnsAndTheirLastValueIsRecorded) {
  const TraceContents trace = Record([&]() -> std::string {
    // No byte that moves from here on may be missed: without waiting for the sampler's thread.
    if (driver_.page == nullptr) return "not open yet";
    if (driver_.flags != 0x387) return "other counters";
    if (driver_.tracker.queue != 0 || driver_.tracker.queue_entries != 0) return "no counters tracker";
    if (driver_.tracker.all_processors != 1) return "one processor only";
    if (driver_.tracker.control % 4096 != 0) return "not a page";
    if (driver_.tracker_descriptor < 400)
      return "takes a low descriptor: " + std::to_string(driver_.tracker_descriptor);
    if ((fcntl(driver_.tracker_descriptor, F_GETFD) & FD_CLOEXEC) == 0) return "survives exec";
    SleepMs(50);
    for (uint64_t i = 1; i <= 5; ++i) {
      driver_.page[kHostToDeviceBytesIndex] = i << 20;
      driver_.page[kGpuFaultsIndex] = i * 3;
      SleepMs(30);
    }
    driver_.page[kDeviceToHostBytesIndex] = 4096;
    driver_.page[kCpuFaultsIndex] = 1;
    return "";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kActive);
  EXPECT_EQ(trace.states.at("exact_counters").reason, "");
  ASSERT_GE(trace.counter_samples.size(), 4u);
  EXPECT_LE(trace.counter_samples.size(), 10u) << "a row where nothing changed";
  EXPECT_EQ(trace.counter_samples.front().host_to_device_bytes, 0u);
  const auto& last = trace.counter_samples.back();
  EXPECT_EQ(last.host_to_device_bytes, 5u << 20);
  EXPECT_EQ(last.device_to_host_bytes, 4096u);
  EXPECT_EQ(last.cpu_faults, 1u);
  EXPECT_EQ(last.gpu_faults, 15u);
  for (size_t i = 1; i < trace.counter_samples.size(); ++i) {
    EXPECT_GT(trace.counter_samples[i].time_ns, trace.counter_samples[i - 1].time_ns);
  }
}

TEST_P(ExactCountersTest, AnUnchangedCounterHasARowAtTheStartAndOneAtTheEnd) {
  const TraceContents trace = Record([] {
    SleepMs(60);
    return std::string();
  });
  EXPECT_EQ(trace.counter_samples.size(), 2u);
}

TEST_P(ExactCountersTest, EachDescriptorOfTheDriverIsTriedWithATrackerOfItsOwn) {
  driver_.va_spaces = {5, 6, 7};
  const TraceContents trace =
      Record([&]() -> std::string { return driver_.opened == 3 ? "" : "opened " + std::to_string(driver_.opened); });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kActive);
}

// Such a duplicate is that of another source of ours. Two trackers would count every byte twice.
TEST_P(ExactCountersTest, ADuplicateOfADescriptorIsTheSameAddressSpace) {
  const int va_space = memfd_create("va_space", MFD_CLOEXEC);
  const int duplicate = dup(va_space);
  driver_.va_spaces = {va_space, duplicate};
  driver_.accepted = va_space;
  driver_.also_accepted = duplicate;
  const TraceContents trace = Record([&]() -> std::string {
    SleepMs(20);
    return driver_.opened == 1 ? "" : "opened " + std::to_string(driver_.opened) + " trackers";
  });
  EXPECT_EQ(trace.states.at("exact_counters").reason, "");
  close(duplicate);
  close(va_space);
}

TEST_P(ExactCountersTest, WhatCannotBeHadIsToldWithItsCure) {
  struct Case {
    const char* name;
    FakeDriver driver;
    const char* expected;
  };
  std::vector<Case> cases(7);
  cases[0] = {"no device", {}, "nvidia-modprobe"};
  cases[0].driver.open_error = ENOENT;
  cases[1] = {"forbidden", {}, "read and write access"};
  cases[1].driver.open_error = EACCES;
  cases[2] = {"no address space", {}, "no descriptor of /dev/nvidia-uvm"};
  cases[2].driver.va_spaces = {};
  cases[3] = {"refused by status", {}, "status 0x1f"};
  cases[3].driver.va_spaces = {5, 6};
  cases[4] = {"refused by errno", {}, "Inappropriate ioctl"};
  cases[4].driver.va_spaces = {5};
  cases[4].driver.init_error = ENOTTY;
  cases[5] = {"counters refused", {}, "status 0x3a"};
  cases[5].driver.enable_status = 0x3a;
  cases[6] = {"no counters", {}, "cannot be counters"};
  cases[6].driver.first_bytes = 0x7f1122334455'6677;
  for (const Case& one : cases) {
    driver_ = one.driver;
    driver_.branch = GetParam();
    const TraceContents trace = Record([&]() -> std::string {
      SleepMs(20);
      for (int descriptor = 400; descriptor < 500; ++descriptor) {
        char link[64];
        char target[64] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        if (readlink(link, target, sizeof target - 1) > 0 && strstr(target, "memfd:tools") != nullptr) {
          return "a descriptor stays open";
        }
      }
      return "";
    });
    const sources_test::State& state = trace.states.at("exact_counters");
    EXPECT_EQ(state.state, sources_test::kUnavailable) << one.name;
    EXPECT_NE(state.reason.find(one.expected), std::string::npos) << one.name << ": " << state.reason;
    EXPECT_TRUE(trace.counter_samples.empty()) << one.name;
    EXPECT_GE(trace.process_samples.size(), 2u) << "nothing else changes";
  }
}

TEST_P(ExactCountersTest, AValueThatRunsBackwardsEndsTheCounters) {
  const TraceContents trace = Record([&]() -> std::string {
    driver_.page[kHostToDeviceBytesIndex] = 1 << 20;
    SleepMs(50);
    driver_.page[kHostToDeviceBytesIndex] = 5;
    SleepMs(50);
    return "";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kStopped);
  EXPECT_NE(trace.states.at("exact_counters").reason.find("backwards"), std::string::npos);
  ASSERT_FALSE(trace.counter_samples.empty());
  EXPECT_EQ(trace.counter_samples.back().host_to_device_bytes, 1u << 20);
}

TEST_P(ExactCountersTest, AProgramThatClosesTheDescriptorIsToldAndKeepsItsOwn) {
  const TraceContents trace = Record([&]() -> std::string {
    SleepMs(20);
    // As closefrom does; then a file of the program's has the number.
    const int number = driver_.tracker_descriptor;
    const int own = memfd_create("own", 0);
    if (dup2(own, number) != number) return "dup2";
    driver_.page[kHostToDeviceBytesIndex] = 1 << 20;
    SleepMs(50);
    FinishDriverSampler(2000);
    struct stat first;
    struct stat second;
    if (fstat(own, &first) != 0 || fstat(number, &second) != 0) return "the program's file was closed";
    return first.st_ino == second.st_ino ? "" : "another file";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kStopped);
  EXPECT_NE(trace.states.at("exact_counters").reason.find("closed"), std::string::npos);
}

TEST_P(ExactCountersTest, AForkedChildHasNeitherThePageNorTheDescriptor) {
  const TraceContents trace = Record([&]() -> std::string {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Recorder::Get().AbandonAfterFork();
      AbandonDriverSamplerAfterFork();
      unsigned char resident = 0;
      const bool mapped = mincore(driver_.page, 4096, &resident) == 0;
      const bool open = fcntl(driver_.tracker_descriptor, F_GETFD) >= 0;
      FinishDriverSampler(100);
      _exit((mapped ? 1 : 0) + (open ? 2 : 0));
    }
    int status = 0;
    waitpid(child, &status, 0);
    driver_.page[kHostToDeviceBytesIndex] = 77;
    return status == 0 ? "" : "wait status " + std::to_string(status);
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kActive);
  EXPECT_EQ(trace.counter_samples.back().host_to_device_bytes, 77u);
}

// Scripted by driver_fake_tools.h: several devices and address spaces.
class ExactCountersOfDevices : public testing::TestWithParam<FakeBranch> {
 protected:
  ExactCountersOfDevices() { tools_.branch = GetParam(); }

  template <size_t kCount>
  DriverSamplerOptions Options(const DeviceUuid (&devices)[kCount]) const {
    DriverSamplerOptions options;
    options.root = root_.path();
    options.period_us = 1000;
    options.tools = &FakeTools::kCalls;
    options.devices = devices;
    options.device_count = kCount;
    return options;
  }

  FakeTools tools_;
  ProcRoot root_;
};

TEST_P(ExactCountersOfDevices, EachDeviceHasItsOwnAndAllAddressSpacesAddUp) {
  DeviceUuid devices[2] = {FakeTools::Gpu(0), FakeTools::Gpu(1)};
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(devices));
    if (tools_.trackers.size() != 3) return std::to_string(tools_.trackers.size()) + " trackers";
    SetDriverManagedMemoryLive(true);
    tools_.trackers[0].counters[kHostToDeviceBytesIndex] += 300;
    tools_.trackers[1].counters[kHostToDeviceBytesIndex] += 100;
    tools_.trackers[2].counters[kHostToDeviceBytesIndex] += 200;
    SleepMs(30);
    SetDriverManagedMemoryLive(false);
    SleepMs(30);
    tools_.va_spaces.push_back(memfd_create("second", MFD_CLOEXEC));
    SetDriverManagedMemoryLive(true);
    for (int i = 0; i < 2000 && tools_.trackers.size() < 6; ++i) SleepMs(1);
    if (tools_.trackers.size() != 6) return "the second address space is not counted";
    tools_.trackers[3].counters[kHostToDeviceBytesIndex] += 7000;
    tools_.trackers[5].counters[kHostToDeviceBytesIndex] += 7000;
    FinishDriverSampler(2000);
    return "";
  });
  uint64_t last[3] = {};
  for (const auto& sample : trace.counter_samples) last[sample.processor] = sample.host_to_device_bytes;
  EXPECT_EQ(last[0], 7300u);
  EXPECT_EQ(last[1], 100u);
  EXPECT_EQ(last[2], 7200u);
  EXPECT_EQ(trace.states.at("exact_counters").reason, "of 2 address spaces together");
}

TEST_P(ExactCountersOfDevices, TheOnlyDeviceHasTheProcesssWithoutATrackerOfItsOwn) {
  DeviceUuid devices[1] = {FakeTools::Gpu(0)};
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(devices));
    if (tools_.trackers.size() != 1) return std::to_string(tools_.trackers.size()) + " trackers";
    tools_.trackers[0].counters[kHostToDeviceBytesIndex] += 300;
    tools_.trackers[0].counters[kCpuFaultsIndex] += 4;
    FinishDriverSampler(2000);
    return "";
  });
  uint64_t bytes[2] = {}, cpu_faults[2] = {1, 1};
  for (const auto& sample : trace.counter_samples) {
    ASSERT_LT(sample.processor, 2u);
    bytes[sample.processor] = sample.host_to_device_bytes;
    cpu_faults[sample.processor] = sample.cpu_faults;
  }
  EXPECT_EQ(bytes[0], 300u);
  EXPECT_EQ(bytes[1], 300u);
  EXPECT_EQ(cpu_faults[0], 4u);
  EXPECT_EQ(cpu_faults[1], 0u) << "no device has faults of the CPU";
}

TEST_P(ExactCountersOfDevices, ADeviceThatTheDriverRefusesCostsNotTheOthers) {
  tools_.refused_processor = FakeTools::Gpu(0);
  DeviceUuid devices[2] = {FakeTools::Gpu(0), FakeTools::Gpu(1)};
  const TraceContents trace = RecordInChild([&]() -> std::string {
    StartDriverSampler(Options(devices));
    FinishDriverSampler(2000);
    return tools_.trackers.size() == 2 ? "" : std::to_string(tools_.trackers.size()) + " trackers";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kActive);
  EXPECT_NE(trace.states.at("exact_counters").reason.find("not of GPU 0"), std::string::npos);
  for (const auto& sample : trace.counter_samples)
    EXPECT_NE(sample.processor, 1u) << "a row of zeroes that was not read";
}

TEST_P(ExactCountersTest, UnderTheSimulatorThereAreNone) {
  const TraceContents trace = RecordInChild([&]() -> std::string {
    DriverSamplerOptions options;
    options.root = root_.path();
    StartDriverSampler(options);
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kUnavailable);
  EXPECT_EQ(trace.states.at("exact_counters").reason, "the simulator has no driver counters");
}

TEST_P(ExactCountersTest, NotWantedIsDisabledAndOpensNothing) {
  const TraceContents trace = RecordInChild([&]() -> std::string {
    DriverSamplerOptions options;
    options.root = root_.path();
    options.tools = &kFakeTools;
    options.exact_counters_off = "UVMTRACE_DETAIL=calls";
    StartDriverSampler(options);
    FinishDriverSampler(2000);
    return driver_.opened == 0 ? "" : "opened";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kDisabled);
  EXPECT_EQ(trace.states.at("exact_counters").reason, "UVMTRACE_DETAIL=calls");
}

// The kernel's own answer, on a machine without the driver and on one with it: this process has no address space there.
TEST_P(ExactCountersTest, TheRealDeviceIsAbsentOrRefuses) {
  const TraceContents trace = RecordInChild([]() -> std::string {
    StartDriverSampler({});
    FinishDriverSampler(2000);
    return "";
  });
  EXPECT_EQ(trace.states.at("exact_counters").state, sources_test::kUnavailable);
  EXPECT_NE(trace.states.at("exact_counters").reason, "");
  EXPECT_TRUE(trace.counter_samples.empty());
}

INSTANTIATE_TEST_SUITE_P(EachBranch, ExactCountersTest, testing::ValuesIn(kFakeBranches), FakeBranchName);
INSTANTIATE_TEST_SUITE_P(EachBranch, ExactCountersOfDevices, testing::ValuesIn(kFakeBranches), FakeBranchName);

}  // namespace
}  // namespace uvmtrace
