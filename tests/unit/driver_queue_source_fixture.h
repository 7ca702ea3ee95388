// The driver's queue as a source, run in a child on a scripted driver: what the tests of the source and those of its
// details share.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>

#include "driver/queue_source.h"
#include "tests/unit/driver_fake_tools.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {

// Where all events of these tests are.
inline constexpr uint64_t kAddress = 0x7f00'0000'0000;

inline void SleepMs(int milliseconds) { usleep(static_cast<useconds_t>(milliseconds) * 1000); }

// The source has a thread of its own: what it does is there by and by, and a loaded machine takes its time.
template <typename Condition>
bool WaitFor(Condition condition, int timeout_ms = 5000) {
  for (int i = 0; i < timeout_ms && !condition(); ++i) SleepMs(1);
  return condition();
}

// Entries with times of now: the source gives up a ring whose times are far from it.
inline ToolsGpuFaultEntry GpuFault() {
  ToolsGpuFaultEntry entry{};
  entry.type = 3;
  entry.access = 2;
  entry.gpu = 1;
  entry.address = kAddress;
  entry.time_ns = RawNs();
  entry.batch = 12;
  return entry;
}
inline ToolsReplayEntry Replay() { return {4, 1, 1, 0, 12, RawNs(), 0}; }
inline ToolsMigrationEntry Migration(uint64_t age_ns = 1000) {
  ToolsMigrationEntry entry{};
  entry.type = 2;
  entry.cause = 2;
  entry.destination = 1;
  entry.address = kAddress;
  entry.bytes = 4096;
  entry.begin_ns = RawNs() - age_ns;
  entry.end_ns = entry.begin_ns + age_ns / 2;
  return entry;
}

// In the namespace and not in a file: the suite has tests in two files, and GoogleTest wants one class for both.
class QueueSourceTest : public testing::Test {
 protected:
  QueueSourceTest() { device_ = FakeTools::Gpu(0); }

  QueueSourceOptions Options(QueueDetail detail = QueueDetail::kFull) {
    QueueSourceOptions options;
    options.tools = &FakeTools::kCalls;
    options.devices = &device_;
    options.device_count = 1;
    options.detail = detail;
    return options;
  }
  // `script` runs while managed memory lives.
  sources_test::TraceContents Record(const QueueSourceOptions& options, const std::function<std::string()>& script,
                                     bool expect_open = true) {
    return sources_test::RecordInChild([&]() -> std::string {
      descriptors_before_ = OpenDescriptors();
      errno = 4711;
      if (StartQueueSource(options) != expect_open) return expect_open ? "did not open" : "opened";
      if (errno != 4711) return "errno of the host changed";
      SetQueueManagedMemoryLive(true);
      const std::string failure = script();
      SetQueueManagedMemoryLive(false);
      FinishQueueSource(5000);
      return failure;
    });
  }
  // Of the source, among the high numbers.
  int OpenToolsDescriptors() const { return OpenDescriptors() - descriptors_before_; }
  static int OpenDescriptors() {
    int count = 0;
    for (int descriptor = 400; descriptor < 600; ++descriptor) count += fcntl(descriptor, F_GETFD) >= 0 ? 1 : 0;
    return count;
  }

  FakeTools driver_;
  DeviceUuid device_;
  int descriptors_before_ = 0;
};

// The same on a driver of each branch.
class QueueOfBranch : public QueueSourceTest, public testing::WithParamInterface<FakeBranch> {
 protected:
  QueueOfBranch() { driver_.branch = GetParam(); }
};

}  // namespace uvmtrace
