// Memory that CUDA did not allocate: which of the process's mappings the faults and migrations hit.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "driver/memory_areas.h"
#include "tests/unit/driver_fake_tools.h"
#include "tests/unit/driver_proc_root.h"
#include "tests/unit/driver_queue_source_fixture.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace {
namespace {

using sources_test::TraceContents;

constexpr const char* kMaps =
    "555555400000-555555600000 r-xp 00000000 08:01 4711                       /usr/bin/serve\n"
    "555556000000-555560000000 rw-p 00000000 00:00 0                          [heap]\n"
    "7f0000000000-7f0040000000 rw-s 7f0000000000 00:05 99                     /dev/nvidia-uvm\n"
    "7f1000000000-7f1080000000 rw-p 00000000 00:00 0 \n"
    "7f2000000000-7f2000200000 r--s 00000000 08:01 12                         /data/with a blank/weights.bin\n"
    "7f3000000000-7f3000400000 rw-s 00000000 00:01 13                         /dev/shm/torch_1\n"
    "7ffffff00000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n";

ToolsGpuFaultEntry FaultAt(uint64_t address) {
  ToolsGpuFaultEntry entry = GpuFault();
  entry.address = address;
  return entry;
}

class MemoryAreasTest : public QueueSourceTest {
 protected:
  QueueSourceOptions SystemMemory() {
    QueueSourceOptions options = Options();
    options.system_memory = true;
    options.root = root_.path();
    return options;
  }
  static const sources_test::MemoryArea* AreaAt(const TraceContents& trace, uint64_t start) {
    const sources_test::MemoryArea* found = nullptr;
    for (const sources_test::MemoryArea& area : trace.memory_areas) {
      if (area.start == start) found = &area;
    }
    return found;
  }

  ProcRoot root_;
};

TEST_F(MemoryAreasTest, AnEventsMappingIsRecordedAndOthersAreNot) {
  root_.Write("proc/self/maps", kMaps);
  const TraceContents trace = Record(SystemMemory(), [&]() -> std::string {
    driver_.Send(FaultAt(0x5555'5a00'0000));
    driver_.Send(FaultAt(0x7f00'0000'1000));
    driver_.Send(FaultAt(0x7f20'0010'0000));
    driver_.Send(FaultAt(0x7f30'0020'0000));
    driver_.Send(FaultAt(0x7fff'ffff'e000));
    ToolsMigrationEntry migration = Migration();
    migration.address = 0x7f10'7fff'f000;
    driver_.Send(migration);
    return "";
  });
  ASSERT_EQ(trace.memory_areas.size(), 5u);
  EXPECT_EQ(AreaAt(trace, 0x5555'5600'0000)->kind, 1);
  EXPECT_EQ(AreaAt(trace, 0x5555'5600'0000)->end, 0x5555'6000'0000u);
  EXPECT_EQ(AreaAt(trace, 0x7fff'fff0'0000)->kind, 2);
  EXPECT_EQ(AreaAt(trace, 0x7f20'0000'0000)->kind, 3);
  EXPECT_EQ(AreaAt(trace, 0x7f20'0000'0000)->name, "/data/with a blank/weights.bin");
  EXPECT_EQ(AreaAt(trace, 0x7f10'0000'0000)->kind, 4);
  EXPECT_EQ(AreaAt(trace, 0x7f10'0000'0000)->name, "");
  EXPECT_EQ(AreaAt(trace, 0x7f30'0000'0000)->kind, 5);
  EXPECT_EQ(trace.states.at("memory_areas").state, sources_test::kActive);
  EXPECT_TRUE(trace.losses.empty());
}

TEST_F(MemoryAreasTest, AMappingThatGrowsOrGivesWayIsRecordedAgain) {
  root_.Write("proc/self/maps", kMaps);
  const TraceContents trace = Record(SystemMemory(), [&]() -> std::string {
    driver_.Send(FaultAt(0x5555'5a00'0000));
    driver_.Send(FaultAt(0x7f20'0010'0000));
    SleepMs(400);
    root_.Write("proc/self/maps",
                "555556000000-555568000000 rw-p 00000000 00:00 0                          [heap]\n"
                "7f2000000000-7f2000200000 rw-p 00000000 00:00 0\n");
    for (int i = 0; i < 3; ++i) {
      driver_.Send(FaultAt(0x5555'6700'0000));
      driver_.Send(FaultAt(0x7f20'0010'0000));
      SleepMs(300);
    }
    return "";
  });
  ASSERT_EQ(trace.memory_areas.size(), 4u);
  EXPECT_EQ(AreaAt(trace, 0x5555'5600'0000)->end, 0x5555'6800'0000u);
  EXPECT_EQ(AreaAt(trace, 0x7f20'0000'0000)->kind, 4);
  EXPECT_GT(trace.memory_areas[2].seen_ns, trace.memory_areas[1].seen_ns);
}

// Grace: the GPU's memory is a NUMA node without processors.
TEST_F(MemoryAreasTest, WhereTheGpuIsANodeItIsToldWhereThePagesAre) {
  root_.Write("proc/self/maps", kMaps);
  root_.Write("sys/devices/system/node/node0/cpulist", "0-71\n");
  root_.Write("sys/devices/system/node/node1/cpulist", "\n");
  root_.Write("sys/devices/system/node/possible", "0-1\n");
  root_.Write("proc/self/numa_maps",
              "555555400000 default file=/usr/bin/serve mapped=32 N0=32 kernelpagesize_kB=64\n"
              "555556000000 default heap anon=2000 dirty=2000 N0=1000 N1=1000 kernelpagesize_kB=64\n"
              "7f1000000000 default anon=32768 dirty=32768 N1=32768 kernelpagesize_kB=64\n");
  const TraceContents trace = Record(SystemMemory(), [&]() -> std::string {
    driver_.Send(FaultAt(0x5555'5a00'0000));
    driver_.Send(FaultAt(0x7f10'0000'0000));
    driver_.Send(FaultAt(0x7f20'0010'0000));
    return "";
  });
  using Nodes = std::map<uint32_t, uint64_t>;
  ASSERT_EQ(trace.memory_areas.size(), 3u);
  EXPECT_EQ(AreaAt(trace, 0x5555'5600'0000)->node_bytes, (Nodes{{0, 65'536'000}, {1, 65'536'000}}));
  EXPECT_EQ(AreaAt(trace, 0x7f10'0000'0000)->node_bytes, (Nodes{{1, uint64_t{2} << 30}}));
  EXPECT_EQ(AreaAt(trace, 0x7f20'0000'0000)->node_bytes, Nodes{}) << "the file says nothing of it";
}

// More blocks than there are places to remember them.
TEST_F(MemoryAreasTest, NothingThatWasHitIsForgotten) {
  std::string maps;
  for (uint64_t i = 0; i < 300; ++i) {
    char line[100];
    snprintf(line, sizeof line, "%lx-%lx rw-p 00000000 00:00 0 \n", 0x7000'0000'0000 + i * (16ul << 30),
             0x7000'0000'0000 + i * (16ul << 30) + (8ul << 30));
    maps += line;
  }
  root_.Write("proc/self/maps", maps);
  const TraceContents trace = Record(SystemMemory(), [&]() -> std::string {
    for (uint64_t i = 0; i < 300; ++i) {
      for (uint64_t block = 0; block < 100; ++block) {
        driver_.Send(FaultAt(0x7000'0000'0000 + i * (16ul << 30) + (block * 37 << 21)));
      }
    }
    return "";
  });
  EXPECT_EQ(trace.memory_areas.size(), 300u);
}

TEST_F(MemoryAreasTest, WithoutSystemMemoryTheMapsAreNotRead) {
  root_.Write("proc/self/maps", kMaps);
  QueueSourceOptions options = SystemMemory();
  options.system_memory = false;
  const TraceContents trace = Record(options, [&]() -> std::string {
    driver_.Send(FaultAt(0x5555'5a00'0000));
    return "";
  });
  EXPECT_TRUE(trace.memory_areas.empty());
  EXPECT_EQ(trace.states.count("memory_areas"), 0u);
}

TEST_F(MemoryAreasTest, MapsThatCannotBeReadAreALoss) {
  const TraceContents trace = Record(SystemMemory(), [&]() -> std::string {
    driver_.Send(FaultAt(0x5555'5a00'0000));
    return "";
  });
  EXPECT_TRUE(trace.memory_areas.empty());
  EXPECT_EQ(trace.losses.begin()->first.rfind("memory_areas: ", 0), 0u);
}

TEST(MemoryAreas, NoLineMakesItReadBeyondIt) {
  MemoryAreaDefinition area{};
  for (const char* line : {"", " ", "-", "12-", "-12", "zz-12 r", "20-10 rw-p 0 0 0", "1-fffffffffffffffff rw-p",
                           "10-20", "10-20 rw-p", "10-20 rw-p 0 00:00 0"}) {
    if (!MemoryAreas::ParseLine(line, &area)) continue;
    EXPECT_LT(area.start, area.end) << line;
  }
  EXPECT_TRUE(MemoryAreas::ParseLine("10-20 rw-p 0 00:00 0", &area));
  EXPECT_EQ(area.kind, MemoryAreaKind::kAnonymous);
}

}  // namespace
}  // namespace uvmtrace
