// What the driver's queue is read with, part by part: the GPU's clock, the windows of sampled migrations, the table of
// processors, and the memory that is left for a ring.
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <random>
#include <vector>

#include "driver/gpu_clock.h"
#include "driver/memory_left.h"
#include "driver/migration_windows.h"
#include "driver/processor_table.h"
#include "tests/unit/driver_proc_root.h"

namespace uvmtrace {
namespace {

TEST(GpuClock, NeverLeavesTheIntervalThatTheDriverTold) {
  std::mt19937_64 random(7);
  GpuClock clock;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t queued = 1'000'000'000 + random() % 1'000'000'000;
    const uint64_t noticed = random() % 10 == 0 ? 0 : queued + random() % 1'000'000;
    const uint64_t begin = random() % 5 == 0 ? random() : random() % 3'000'000'000;
    const uint64_t end = begin + random() % 1'000'000;
    clock.Add(queued, noticed, begin, end);
    uint64_t start_ns = queued;
    uint64_t end_ns = noticed;
    clock.Refine(begin, end, &start_ns, &end_ns);
    ASSERT_GE(start_ns, queued);
    if (noticed != 0) {
      ASSERT_LE(start_ns, noticed);
      ASSERT_LE(end_ns, noticed);
    }
    ASSERT_TRUE(end_ns == 0 || end_ns >= start_ns);
  }
}

TEST(GpuClock, FollowsAClockThatDriftsAndOneThatIsSetAnew) {
  GpuClock clock;
  double offset = 5e9;
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t queued = 1'000'000'000 + static_cast<uint64_t>(step) * 100'000;
    offset += 100'000 * 50e-6;  // 50 ppm
    if (step == 10'000) offset -= 3e9;
    const uint64_t begin = queued + 3'000 + static_cast<uint64_t>(offset);
    uint64_t start_ns = queued;
    uint64_t end_ns = queued + 60'000;
    clock.Add(queued, end_ns, begin, begin + 20'000);
    clock.Refine(begin, begin + 20'000, &start_ns, &end_ns);
    // The old offset goes by and by; a clock that was set is followed at once.
    ASSERT_NEAR(static_cast<double>(start_ns - queued), 3'000, 8'000) << step;
  }
}

TEST(MigrationWindows, MakeTheirShareOfTheTimeAndDoNotStandStillInTheirPeriod) {
  MigrationWindows windows;
  const MigrationWindowPlan plan;
  windows.Start(plan, 1'000, 42);
  uint64_t now_ns = 1'000;
  uint64_t open_ns = 0;
  uint64_t opened_ns = 0;
  int count = 0;
  std::vector<int> tenths(10);
  while (now_ns < 1'000'000'000'000) {
    now_ns = std::max(now_ns, windows.due_ns());
    windows.Turn(now_ns);
    if (windows.open()) {
      opened_ns = now_ns;
      ++tenths[(now_ns - 1'000) % plan.period_ns * 10 / plan.period_ns];
    } else {
      open_ns += now_ns - opened_ns;
      ++count;
    }
  }
  EXPECT_NEAR(static_cast<double>(open_ns) / 1e12, 0.05, 0.001);
  EXPECT_NEAR(count, 5000, 2);
  for (int i = 0; i < 9; ++i) EXPECT_GT(tenths[i], 350) << i;
}

TEST(MigrationWindows, ALateThreadSkipsWindowsAndKeepsTheirLength) {
  MigrationWindows windows;
  windows.Start(MigrationWindowPlan(), 0, 1);
  windows.Turn(5'000'000'000);
  EXPECT_EQ(windows.due_ns(), 5'010'000'000u);
  windows.Turn(5'300'000'000);
  EXPECT_GE(windows.due_ns(), 5'300'000'000u);
  EXPECT_LT(windows.due_ns(), 5'500'000'000u);
}

// The driver's answer to a request for its table.
DeviceUuid g_table[33];
int g_table_result = 0;
int AnswerTable(int, unsigned long number, void* data) {
  if (number != kToolsGetProcessorTable || g_table_result != 0) return -1;
  memcpy(reinterpret_cast<void*>(static_cast<ToolsProcessorTable*>(data)->table), g_table, sizeof g_table);
  return 0;
}

TEST(ProcessorTable, DevicesAreMatchedByTheirUuid) {
  const ToolsCalls calls = {nullptr, nullptr, &AnswerTable, nullptr};
  DeviceUuid devices[3];
  for (int i = 0; i < 3; ++i) devices[i].bytes[0] = static_cast<uint8_t>(10 + i);
  for (DeviceUuid& one : g_table) one = DeviceUuid();
  g_table[0].bytes[0] = 1;  // the CPU has one as well
  g_table[1] = devices[2];
  g_table[3] = devices[0];
  g_table_result = 0;
  ProcessorTable table;
  int gpus = 0;
  EXPECT_TRUE(ReadProcessorTable(calls, 5, devices, 3, &table, &gpus).ok());
  EXPECT_EQ(gpus, 2);
  EXPECT_EQ(table.device[0], -1);
  EXPECT_EQ(table.device[1], 2);
  EXPECT_EQ(table.device[2], -2);
  EXPECT_EQ(table.device[3], 0);

  g_table[2].bytes[0] = 99;  // one GPU and one device are left: a slice of it
  EXPECT_TRUE(ReadProcessorTable(calls, 5, devices, 3, &table, &gpus).ok());
  EXPECT_EQ(gpus, 3);
  EXPECT_EQ(table.device[2], 1);
  g_table[4].bytes[0] = 98;  // two GPUs are left: no guess
  EXPECT_TRUE(ReadProcessorTable(calls, 5, devices, 3, &table, &gpus).ok());
  EXPECT_EQ(gpus, 4);
  EXPECT_EQ(table.device[2], -2);
  EXPECT_EQ(table.device[4], -2);

  g_table_result = -1;
  table.device[1] = 55;
  EXPECT_FALSE(ReadProcessorTable(calls, 5, devices, 3, &table, &gpus).ok());
  EXPECT_EQ(table.device[1], 55);
}

TEST(MemoryLeft, TheTightestLimitCounts) {
  ProcRoot root;
  EXPECT_EQ(MemoryLeftBytes(root.path()), UINT64_MAX) << "nothing is told";
  root.Write("proc/meminfo", "MemTotal:       65000000 kB\nMemFree:  1 kB\nMemAvailable:    1000000 kB\n");
  EXPECT_EQ(MemoryLeftBytes(root.path()), 1'024'000'000u);
  root.Write("proc/self/cgroup", "0::/a.slice/b.scope\n");
  root.Write("sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n");
  root.Write("sys/fs/cgroup/a.slice/b.scope/memory.current", "5000\n");
  EXPECT_EQ(MemoryLeftBytes(root.path()), 1'024'000'000u);
  root.Write("sys/fs/cgroup/a.slice/memory.max", "900000\n");  // of the group above
  root.Write("sys/fs/cgroup/a.slice/memory.current", "500000\n");
  EXPECT_EQ(MemoryLeftBytes(root.path()), 400'000u);
  root.Write("sys/fs/cgroup/memory.max", "100000\n");  // a container's own group
  root.Write("sys/fs/cgroup/memory.current", "100001\n");
  EXPECT_EQ(MemoryLeftBytes(root.path()), 0u);
}

TEST(MemoryLeft, TheFirstVersionOfControlGroups) {
  ProcRoot root;
  root.Write("proc/self/cgroup", "9:name=systemd:/\n8:pids,memory:/docker/1\n1:cpu:/\n");
  root.Write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "3000\n");
  root.Write("sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(MemoryLeftBytes(root.path()), 2000u);
}

}  // namespace
}  // namespace uvmtrace
