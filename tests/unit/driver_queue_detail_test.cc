// How much the driver's queue is asked for: light leaves migrations out, exact and sampled take them in windows. With a
// driver that answers as asked.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <deque>
#include <string>

#include "driver/queue_source.h"
#include "tests/unit/driver_fake_tools.h"
#include "tests/unit/driver_queue_source_fixture.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::TraceContents;

TEST_P(QueueOfBranch, LightAsksForNoMigrations) {
  const TraceContents trace = Record(Options(QueueDetail::kLight), [&]() -> std::string {
    if (driver_.Asks(ToolsEvent::kMigration) || driver_.Asks(ToolsEvent::kReadDuplicate)) return "asks for copies";
    for (const ToolsEvent event : {ToolsEvent::kGpuFault, ToolsEvent::kReplay, ToolsEvent::kCpuFault,
                                   ToolsEvent::kFatalFault, ToolsEvent::kThrashing, ToolsEvent::kRemoteMap}) {
      if (!driver_.Asks(event)) return "does not ask for " + std::to_string(static_cast<int>(event));
    }
    driver_.Send(GpuFault());
    driver_.HoldBack(Replay());
    driver_.HoldBack(Migration());
    return "";
  });
  EXPECT_EQ(trace.gpu_faults.size(), 1u);
  EXPECT_EQ(trace.replays.size(), 1u);
  EXPECT_TRUE(trace.migrations.empty());
}

TEST_P(QueueOfBranch, SampledRecordsWholeWindowsAndNothingBetweenThem) {
  const TraceContents trace = Record(Options(QueueDetail::kSampled), [&]() -> std::string {
    const uint64_t end_ns = RawNs() + 1'500'000'000;
    while (RawNs() < end_ns) {
      driver_.HoldBack(Migration(0));  // comes with the next flush only
      driver_.Send(GpuFault());
      usleep(200);
    }
    return driver_.Asks(ToolsEvent::kGpuFault) ? "" : "faults were switched off";
  });
  ASSERT_GE(trace.windows.size(), 4u);
  EXPECT_LE(trace.windows.size(), 9u);
  EXPECT_GT(trace.gpu_faults.size(), 1000u) << "faults are recorded all the time";
  ASSERT_FALSE(trace.migrations.empty());
  EXPECT_LT(trace.migrations.size() * 5, trace.gpu_faults.size());
  // RAW and MONOTONIC are told apart by samples; over this time they run alike.
  const int64_t offset = trace.clock_samples.front().monotonic_ns - trace.clock_samples.front().monotonic_raw_ns;
  for (const auto& migration : trace.migrations) {
    bool inside = false;
    for (const auto& window : trace.windows) {
      const int64_t at = migration.start_ns + offset;
      inside = inside || (at >= window.start_ns - 100'000 &&
                          at <= window.start_ns + static_cast<int64_t>(window.duration_ns) + 100'000);
    }
    EXPECT_TRUE(inside);
  }
  for (const auto& window : trace.windows) EXPECT_GE(window.duration_ns, 10'000'000u);
}

// A prefetch queues its copies at once; the driver tells of each when it is over, which may be long after the window.
TEST_P(QueueOfBranch, AWindowWaitsForTheCopiesThatWereQueuedInIt) {
  const TraceContents trace = Record(Options(QueueDetail::kSampled), [&]() -> std::string {
    std::deque<ToolsMigrationEntry> queued;
    const uint64_t end_ns = RawNs() + 1'200'000'000;
    while (RawNs() < end_ns) {
      queued.push_back(Migration(0));
      while (!queued.empty() && RawNs() - queued.front().begin_ns > 12'000'000) {
        ToolsMigrationEntry done = queued.front();
        queued.pop_front();
        done.end_ns = RawNs();
        if (driver_.Asks(ToolsEvent::kMigration)) driver_.Send(done);
      }
      usleep(500);
    }
    return "";
  });
  ASSERT_GE(trace.windows.size(), 4u);
  // Some 17 begin in 10 ms. A window that closed 2 ms after its end would have none of them.
  EXPECT_GE(trace.migrations.size(), 8 * trace.windows.size());
}

TEST_P(QueueOfBranch, ExactChecksWithOneWindowASecond) {
  const TraceContents trace = Record(Options(QueueDetail::kExact), [&]() -> std::string {
    if (driver_.Asks(ToolsEvent::kMigration)) return "asks for copies before the first window";
    uint64_t on = 0, off = 0;
    const uint64_t end_ns = RawNs() + 2'300'000'000;
    while (RawNs() < end_ns) {
      ++(driver_.Asks(ToolsEvent::kMigration) ? on : off);
      driver_.HoldBack(Migration(0));  // comes with the next flush only
      driver_.Send(GpuFault());
      usleep(200);
    }
    if (!driver_.Asks(ToolsEvent::kGpuFault)) return "faults were switched off";
    return on * 10 < off ? "" : "asks for copies too often: " + std::to_string(on) + " of " + std::to_string(off);
  });
  EXPECT_GE(trace.windows.size(), 2u);
  EXPECT_LE(trace.windows.size(), 3u);
  EXPECT_GT(trace.gpu_faults.size(), 1000u) << "faults are recorded all the time";
  EXPECT_FALSE(trace.migrations.empty());
  EXPECT_LT(trace.migrations.size() * 20, trace.gpu_faults.size());
  for (const auto& window : trace.windows) EXPECT_GE(window.duration_ns, 10'000'000u);
}

}  // namespace
}  // namespace uvmtrace
