// The reader of the driver's ring, against rings that are good, torn, wrapped, full, and not rings at all.
#include <gtest/gtest.h>
#include <string.h>

#include <random>
#include <vector>

#include "driver/processor_table.h"
#include "driver/queue_reader.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kNowNs = 1'000'000'000'000;
constexpr uint64_t kAddress = 0x7f00'0000'0000;

// What the reader gave.
struct Events {
  std::vector<GpuFaultEvent> gpu_faults;
  std::vector<CpuFaultEvent> cpu_faults;
  std::vector<MigrationEvent> migrations;
  std::vector<ReplayEvent> replays;
  std::vector<RegionEvent> regions;

  QueueSink sink() {
    return {this,
            [](void* to, const GpuFaultEvent& event) { static_cast<Events*>(to)->gpu_faults.push_back(event); },
            [](void* to, const CpuFaultEvent& event) { static_cast<Events*>(to)->cpu_faults.push_back(event); },
            [](void* to, const MigrationEvent& event) { static_cast<Events*>(to)->migrations.push_back(event); },
            [](void* to, const ReplayEvent& event) { static_cast<Events*>(to)->replays.push_back(event); },
            [](void* to, const RegionEvent& event) { static_cast<Events*>(to)->regions.push_back(event); }};
  }
};

// The driver's side of a ring: puts as enqueue_event does, leaving one entry free.
class QueueReaderTest : public testing::Test {
 protected:
  explicit QueueReaderTest(uint32_t entries = 64) : entries_(entries), ring_(entries * kToolsEntryBytes) {
    ProcessorTable table;
    table.device[1] = 0;
    table.device[9] = 1;
    reader_.Attach(ring_.data(), entries_, &control_, kNowNs - 1'000'000'000);
    reader_.SetProcessors(table);
  }

  template <typename Entry>
  bool Put(const Entry& entry) {
    static_assert(sizeof entry <= kToolsEntryBytes);
    if (((entries_ + control_.get_behind - control_.put_behind) & (entries_ - 1)) == 1) {
      ++control_.dropped[reinterpret_cast<const uint8_t*>(&entry)[0]];
      return false;
    }
    uint8_t* const at = ring_.data() + control_.put_behind * kToolsEntryBytes;
    memset(at, 0, kToolsEntryBytes);
    memcpy(at, &entry, sizeof entry);
    control_.put_behind = control_.put_ahead = (control_.put_behind + 1) & (entries_ - 1);
    return true;
  }
  uint32_t Drain(uint32_t limit = UINT32_MAX) { return reader_.Drain(kNowNs, limit, events_.sink()); }

  uint32_t entries_;
  std::vector<uint8_t> ring_;
  ToolsControl control_;
  QueueReader reader_;
  Events events_;
};

ToolsMigrationEntry Migration() {
  ToolsMigrationEntry entry{};
  entry.type = 2;
  entry.cause = 3;
  entry.source = 0;
  entry.destination = 1;
  entry.address = kAddress;
  entry.bytes = 65536;
  entry.begin_ns = kNowNs - 2000;
  entry.end_ns = kNowNs - 1000;
  return entry;
}

ToolsGpuFaultEntry GpuFault() {
  ToolsGpuFaultEntry entry{};
  entry.type = 3;
  entry.fault_type = 2;
  entry.access = 1;
  entry.gpu = 1;
  entry.gpc = 5;
  entry.client = 41;
  entry.address = kAddress;
  entry.time_ns = kNowNs - 3000;
  entry.batch = 4'000'000'000;
  entry.client_type = 1;
  return entry;
}

TEST_F(QueueReaderTest, EachTypeBecomesItsEvent) {
  Put(GpuFault());
  Put(Migration());
  Put(ToolsReplayEntry{4, 1, 1, 0, 77, kNowNs - 500, 0});
  Put(ToolsCpuFaultEntry{1, 2, {}, kAddress + 4096, kNowNs - 400, 1234, 1235, 0x55'0000});
  Put(ToolsFatalFaultEntry{6, 8, 2, 1, 2, {}, 0xdead'beef, kNowNs - 300});
  Put(ToolsMaskEntry{10, {}, 0b11, kAddress, 4096, kNowNs - 200});
  Put(ToolsThrottlingEntry{11, 0, {}, kAddress, kNowNs - 190});
  Put(ToolsThrottlingEntry{11, 1, {}, kAddress, kNowNs - 180});
  Put(ToolsThrottlingEntry{12, 0, {}, kAddress, kNowNs - 90});
  Put(ToolsRemoteMapEntry{13, 1, 0, 3, {}, kAddress, 2u << 20, kNowNs - 50, 0});
  EXPECT_EQ(Drain(), 10u);
  reader_.Finish(events_.sink());
  EXPECT_EQ(reader_.insane(), nullptr);

  ASSERT_EQ(events_.gpu_faults.size(), 1u);
  const GpuFaultEvent& fault = events_.gpu_faults[0];
  EXPECT_EQ(fault.start_ns, kNowNs - 3000);
  EXPECT_EQ(fault.end_ns, 0u);
  EXPECT_EQ(fault.address, kAddress);
  EXPECT_EQ(fault.batch, 4'000'000'000);
  EXPECT_EQ(fault.device, 0);
  EXPECT_EQ(fault.access, 1);
  EXPECT_EQ(fault.fault_type, 2);
  EXPECT_EQ(fault.client_type, 1);
  EXPECT_EQ(fault.gpc, 5);
  EXPECT_EQ(fault.client, 41);
  EXPECT_EQ(fault.groups, 0u);
  EXPECT_EQ(fault.clock, TimeBase::kMonotonicRaw);
  EXPECT_EQ(fault.source, EventSource::kDriverQueue);

  ASSERT_EQ(events_.migrations.size(), 1u);
  EXPECT_EQ(events_.migrations[0].source_device, -1);
  EXPECT_EQ(events_.migrations[0].destination_device, 0);
  EXPECT_EQ(events_.migrations[0].bytes, 65536u);
  EXPECT_EQ(events_.migrations[0].cause, 3);
  EXPECT_EQ(events_.migrations[0].start_ns, kNowNs - 2000);
  EXPECT_EQ(events_.migrations[0].end_ns, kNowNs - 1000);
  EXPECT_EQ(reader_.host_to_device_bytes(), 65536u);
  EXPECT_EQ(reader_.device_to_host_bytes(), 0u);

  ASSERT_EQ(events_.replays.size(), 1u);
  EXPECT_EQ(events_.replays[0].batch, 77u);
  EXPECT_EQ(events_.replays[0].device, 0);
  ASSERT_EQ(events_.cpu_faults.size(), 1u);
  EXPECT_EQ(events_.cpu_faults[0].tid, 1235u);
  EXPECT_EQ(events_.cpu_faults[0].pc, 0x55'0000u);
  EXPECT_EQ(events_.cpu_faults[0].access, 2);

  ASSERT_EQ(events_.regions.size(), 5u);
  EXPECT_EQ(events_.regions[0].kind, RegionKind::kFatalFault);
  EXPECT_EQ(events_.regions[0].cause, 2);
  EXPECT_EQ(events_.regions[1].kind, RegionKind::kThrashing);
  EXPECT_EQ(events_.regions[1].source_device, 0);
  EXPECT_EQ(events_.regions[1].destination_device, -1);
  EXPECT_EQ(events_.regions[2].kind, RegionKind::kThrottling);
  EXPECT_EQ(events_.regions[2].source_device, -1);
  EXPECT_EQ(events_.regions[2].start_ns, kNowNs - 190);
  EXPECT_EQ(events_.regions[2].end_ns, kNowNs - 90);
  EXPECT_EQ(events_.regions[3].kind, RegionKind::kRemoteMap);
  EXPECT_EQ(events_.regions[3].source_device, 0);
  EXPECT_EQ(events_.regions[3].destination_device, -1);
  EXPECT_EQ(events_.regions[3].cause, 3);
  EXPECT_EQ(events_.regions[4].kind, RegionKind::kThrottling) << "one that never ended";
  EXPECT_EQ(events_.regions[4].end_ns, 0u);
}

TEST_F(QueueReaderTest, AnEndThatWasNotNoticedIsNotKnown) {
  ToolsMigrationEntry entry = Migration();
  entry.end_ns = 0;
  Put(entry);
  entry.end_ns = entry.begin_ns - 1;
  Put(entry);
  Drain();
  ASSERT_EQ(events_.migrations.size(), 2u);
  EXPECT_EQ(events_.migrations[0].end_ns, 0u);
  EXPECT_EQ(events_.migrations[1].end_ns, 0u);
}

TEST_F(QueueReaderTest, WrapsAsOftenAsItLikes) {
  ToolsMigrationEntry entry = Migration();
  uint64_t put = 0;
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 50; ++i) {
      entry.address = kAddress + put * 4096;
      ASSERT_TRUE(Put(entry));
      ++put;
    }
    EXPECT_EQ(Drain(7), 7u);
    Drain();
  }
  ASSERT_EQ(events_.migrations.size(), put);
  for (uint64_t i = 0; i < put; ++i) ASSERT_EQ(events_.migrations[i].address, kAddress + i * 4096);
  EXPECT_EQ(control_.get_behind, control_.put_behind);
  EXPECT_EQ(control_.get_ahead, control_.put_behind);
}

TEST_F(QueueReaderTest, WhatTheDriverDroppedIsCountedByType) {
  int dropped = 0;
  for (int i = 0; i < 200; ++i) dropped += Put(Migration()) ? 0 : 1;
  ASSERT_EQ(dropped, 200 - 63);
  for (int i = 0; i < 3; ++i) Put(GpuFault());
  EXPECT_EQ(Drain(), 63u);
  EXPECT_EQ(reader_.dropped(2), 137u);
  EXPECT_EQ(reader_.dropped(3), 3u);
  EXPECT_EQ(reader_.insane(), nullptr);
  EXPECT_STREQ(QueueReader::EventText(2), "migration");
  EXPECT_TRUE(Put(Migration())) << "there is room again";
}

TEST_F(QueueReaderTest, PagesOfOneReadDuplicationAreOneRegion) {
  for (uint64_t page = 0; page < 16; ++page) {
    Put(ToolsMaskEntry{7, {}, 0b11, kAddress + page * 4096, 4096, kNowNs - 100});
  }
  Put(ToolsMaskEntry{7, {}, 0b11, kAddress + 100 * 4096, 4096, kNowNs - 100});  // a gap
  Put(ToolsMaskEntry{7, {}, 0b11, kAddress + 101 * 4096, 4096, kNowNs - 90});   // another instant
  Put(ToolsInvalidateEntry{8, 1, {}, kAddress, 4096, kNowNs - 80});
  Put(ToolsInvalidateEntry{8, 1, {}, kAddress + 4096, 4096, kNowNs - 80});
  Drain();
  EXPECT_EQ(events_.regions.size(), 3u) << "the last may still grow";
  Drain();  // nothing came: it does not
  ASSERT_EQ(events_.regions.size(), 4u);
  EXPECT_EQ(events_.regions[0].kind, RegionKind::kReadDuplicate);
  EXPECT_EQ(events_.regions[0].bytes, 16u * 4096);
  EXPECT_EQ(events_.regions[0].source_device, -1);
  EXPECT_EQ(events_.regions[0].destination_device, 0);
  EXPECT_EQ(events_.regions[3].kind, RegionKind::kReadDuplicateInvalidate);
  EXPECT_EQ(events_.regions[3].bytes, 8192u);
  EXPECT_EQ(events_.regions[3].destination_device, 0);
}

TEST_F(QueueReaderTest, AnotherProcessorIsAskedForOnce) {
  ToolsGpuFaultEntry fault = GpuFault();
  fault.gpu = 17;
  Put(GpuFault());
  Put(fault);
  Put(fault);
  EXPECT_EQ(Drain(), 1u);
  EXPECT_TRUE(reader_.stranger());
  EXPECT_EQ(Drain(), 0u) << "waits for the table";
  ProcessorTable table;
  table.device[1] = 0;
  table.device[17] = 2;
  reader_.SetProcessors(table);
  EXPECT_EQ(Drain(), 2u);
  ASSERT_EQ(events_.gpu_faults.size(), 3u);
  EXPECT_EQ(events_.gpu_faults[2].device, 2);

  fault.gpu = 25;  // of which CUDA knows nothing
  Put(fault);
  Put(fault);
  EXPECT_EQ(Drain(), 0u);
  reader_.SetProcessors(table);
  EXPECT_EQ(Drain(), 2u);
  EXPECT_FALSE(reader_.stranger());
  EXPECT_EQ(events_.gpu_faults[4].device, -2);
}

// The first replay finds an idle GPU and ties the two clocks; the second waits there for the copies of its batch.
TEST_F(QueueReaderTest, AReplayIsWhereTheGpuReachedIt) {
  constexpr uint64_t kGpuNs = 5'000'000'000;
  Put(ToolsReplayEntry{4, 1, 1, 0, 77, kNowNs - 900'000, kGpuNs});
  Put(ToolsReplayEntry{4, 1, 1, 0, 78, kNowNs - 600'000, kGpuNs + 500'000});
  Put(ToolsReplayEntry{4, 1, 1, 0, 79, kNowNs - 100'000, kGpuNs + 3'600'000'000'000});  // nonsense is left alone
  EXPECT_EQ(Drain(), 3u);
  ASSERT_EQ(events_.replays.size(), 3u);
  EXPECT_NEAR(static_cast<double>(events_.replays[0].time_ns), static_cast<double>(kNowNs - 900'000), 10'000.0);
  EXPECT_NEAR(static_cast<double>(events_.replays[1].time_ns), static_cast<double>(kNowNs - 400'000), 10'000.0);
  EXPECT_EQ(events_.replays[2].time_ns, kNowNs - 100'000);
}

// Replays are told to everybody.
TEST_F(QueueReaderTest, ReplaysOfAnotherProcessesGpuAreNotOurs) {
  Put(ToolsReplayEntry{4, 33, 1, 0, 77, kNowNs - 500, 0});
  Drain();
  reader_.SetProcessors(ProcessorTable());
  EXPECT_EQ(Drain(), 1u);
  EXPECT_TRUE(events_.replays.empty());
}

TEST_F(QueueReaderTest, SomeBadEntriesAreCountedAndLeftOut) {
  for (int i = 0; i < 40; ++i) Put(Migration());
  ToolsMigrationEntry future = Migration();
  future.begin_ns = kNowNs + 5'000'000'000;
  Put(future);
  ToolsMigrationEntry huge = Migration();
  huge.bytes = uint64_t{1} << 50;
  Put(huge);
  Drain();
  EXPECT_EQ(events_.migrations.size(), 40u);
  EXPECT_EQ(reader_.flawed(QueueReader::kTime), 1u);
  EXPECT_EQ(reader_.flawed(QueueReader::kSize), 1u);
  EXPECT_EQ(reader_.insane(), nullptr);
  EXPECT_EQ(reader_.host_to_device_bytes(), 40u * 65536);
}

class HostileEntry : public QueueReaderTest, public testing::WithParamInterface<int> {};

ToolsMigrationEntry HostileMigration(int which) {
  ToolsMigrationEntry entry = Migration();
  switch (which) {
    case 0:
      entry.type = 0;
      break;
    case 1:
      entry.type = 15;
      break;
    case 2:
      entry.type = 255;
      break;
    case 3:
      entry.begin_ns = 0;
      break;
    case 4:
      entry.begin_ns = kNowNs * 2;
      break;
    case 5:
      entry.end_ns = kNowNs * 2;
      break;
    case 6:
      entry.bytes = 0;
      break;
    case 7:
      entry.bytes = UINT64_MAX;
      break;
    case 8:
      entry.address = UINT64_MAX - 4095;
      break;
    case 9:
      entry.cause = 200;
      break;
    case 10:
      memset(&entry, 0xFF, sizeof entry);
      break;
    default:
      memset(&entry, 'A', sizeof entry);
  }
  return entry;
}

TEST_P(HostileEntry, IsNoEventAndAFewOfThemAreNoQueue) {
  for (int i = 0; i < 3; ++i) Put(HostileMigration(GetParam()));
  // Entries without a type or a time are waited for, each for a while.
  for (uint64_t now_ns = kNowNs; now_ns < kNowNs + 1'000'000'000; now_ns += 60'000'000) {
    reader_.Drain(now_ns, UINT32_MAX, events_.sink());
  }
  EXPECT_TRUE(events_.migrations.empty());
  EXPECT_TRUE(events_.regions.empty());
  EXPECT_NE(reader_.insane(), nullptr);
  Put(Migration());
  EXPECT_EQ(Drain(), 0u) << "a ring that is none is not read on";
}
INSTANTIATE_TEST_SUITE_P(Each, HostileEntry, testing::Range(0, 12));

TEST_F(QueueReaderTest, AnIndexBeyondTheRingIsNoQueue) {
  control_.put_behind = control_.put_ahead = entries_;
  EXPECT_EQ(Drain(), 0u);
  EXPECT_STREQ(reader_.insane(), "the driver's index lies beyond the ring");
}

TEST_F(QueueReaderTest, AnIndexOfOursThatSomebodyWroteIsNoQueue) {
  Put(Migration());
  Drain();
  control_.get_behind = 33;
  Put(Migration());
  EXPECT_EQ(Drain(), 0u);
  EXPECT_STREQ(reader_.insane(), "the reader's index was overwritten");
}

TEST_F(QueueReaderTest, CountsOfDroppedEventsCannotRunBackwardsOrHaveNoType) {
  control_.dropped[2] = 5;
  Drain();
  EXPECT_EQ(reader_.insane(), nullptr);
  control_.dropped[2] = 4;
  Drain();
  EXPECT_NE(reader_.insane(), nullptr);

  ToolsControl control;
  QueueReader other;
  other.Attach(ring_.data(), entries_, &control, 0);
  control.dropped[40] = 1;
  other.Drain(kNowNs, 10, events_.sink());
  EXPECT_NE(other.insane(), nullptr);
}

TEST_F(QueueReaderTest, ARingThatIsUsedAlreadyIsRefused) {
  control_.put_behind = 3;
  QueueReader other;
  other.Attach(ring_.data(), entries_, &control_, 0);
  EXPECT_NE(other.insane(), nullptr);
}

// ARM may show the driver's index before the entry, or before a part of it.
TEST_F(QueueReaderTest, AnEntryThatIsNotThereYetIsReadWhenItIs) {
  for (int lap = 0; lap < 3; ++lap) {
    for (int i = 0; i < 40; ++i) {
      const uint32_t place = control_.put_behind;
      Put(GpuFault());
      uint8_t* const at = ring_.data() + place * kToolsEntryBytes;
      std::vector<uint8_t> whole(at, at + kToolsEntryBytes);
      // What stands there is zero: what was read before is gone from the ring. So whatever part comes first, the
      // reader does not take it for the entry.
      memset(at, 0, kToolsEntryBytes);
      EXPECT_EQ(Drain(), 0u);
      memcpy(at, whole.data(), 8);
      EXPECT_EQ(Drain(), 0u) << "the time is missing";
      memcpy(at, whole.data(), kToolsEntryBytes);
      EXPECT_EQ(Drain(), 1u);
      for (size_t byte = 0; byte < kToolsEntryBytes; ++byte) ASSERT_EQ(at[byte], 0) << byte;
    }
  }
  EXPECT_EQ(events_.gpu_faults.size(), 120u);
  EXPECT_EQ(reader_.insane(), nullptr);
  for (int flaw = 0; flaw < QueueReader::kFlawCount; ++flaw) EXPECT_EQ(reader_.flawed(flaw), 0u) << flaw;
}

// A ring whose place is taken again shows the old entry until the new one is visible.
TEST_F(QueueReaderTest, AnEntryOfTheLapBeforeIsNotReadTwice) {
  for (int i = 0; i < 63; ++i) Put(GpuFault());
  EXPECT_EQ(Drain(), 63u);
  control_.put_behind = control_.put_ahead = (control_.put_behind + 5) & 63;  // the index is visible, no entry is
  EXPECT_EQ(Drain(), 0u);
  EXPECT_EQ(reader_.Waiting(), 5u);
  EXPECT_EQ(events_.gpu_faults.size(), 63u);
  // Entries that never come are counted, each once.
  for (uint64_t now_ns = kNowNs; now_ns < kNowNs + 250'000'000; now_ns += 50'000'000) {
    reader_.Drain(now_ns, UINT32_MAX, events_.sink());
  }
  EXPECT_GE(reader_.flawed(QueueReader::kEmpty), 1u);
  EXPECT_EQ(events_.gpu_faults.size(), 63u);
}

TEST_F(QueueReaderTest, NoBytesMakeItReadOutsideOfTheRing) {
  std::mt19937_64 random(4711);
  for (int round = 0; round < 2000; ++round) {
    ToolsControl control;
    QueueReader reader;
    std::vector<uint8_t> ring(8 * kToolsEntryBytes);  // exactly: a sanitizer sees one byte more
    reader.Attach(ring.data(), 8, &control, 0);
    for (int step = 0; step < 8; ++step) {
      for (uint8_t& byte : ring) byte = static_cast<uint8_t>(random());
      for (size_t i = 0; i < 8; ++i) ring[i * kToolsEntryBytes] = static_cast<uint8_t>(random() % 16);
      control.put_behind = static_cast<uint32_t>(random() % (step == 7 ? 1u << 31 : 8));
      reader.Drain(UINT64_MAX / 2, UINT32_MAX, events_.sink());
      if (reader.stranger()) reader.SetProcessors(ProcessorTable());
    }
    reader.Finish(events_.sink());
  }
}

TEST_F(QueueReaderTest, MoreThrottlingThanThereIsRoomForIsToldWithoutAnEnd) {
  for (uint64_t page = 0; page < 300; ++page) {
    Put(ToolsThrottlingEntry{11, 1, {}, kAddress + page * 4096, kNowNs - 1000});
    if (page % 50 == 0) Drain();
  }
  Drain();
  EXPECT_EQ(events_.regions.size(), 300u - 256);
  reader_.Finish(events_.sink());
  EXPECT_EQ(events_.regions.size(), 300u);
}

// GPU times of the copies of one block, which was noticed late.
TEST_F(QueueReaderTest, CopiesAreLaidWhereTheGpuRanThem) {
  constexpr uint64_t kGpuOffset = 777'000'000'000;  // GPU time = CPU time + this
  ToolsMigrationEntry entry = Migration();
  // A copy that was queued just before it ran and noticed at once, as in fault service.
  entry.begin_ns = kNowNs - 900'000;
  entry.begin_gpu_ns = entry.begin_ns + 2'000 + kGpuOffset;
  entry.end_gpu_ns = entry.begin_gpu_ns + 10'000;
  entry.end_ns = entry.end_gpu_ns - kGpuOffset + 2'000;
  Put(entry);
  // Two copies of a prefetch, queued long before and noticed long after.
  entry.begin_ns = kNowNs - 800'000;
  entry.end_ns = kNowNs - 1'000;
  entry.begin_gpu_ns = kNowNs - 500'000 + kGpuOffset;
  entry.end_gpu_ns = entry.begin_gpu_ns + 40'000;
  Put(entry);
  entry.begin_gpu_ns = entry.end_gpu_ns;
  entry.end_gpu_ns += 30'000;
  Put(entry);
  Drain();
  ASSERT_EQ(events_.migrations.size(), 3u);
  EXPECT_NEAR(static_cast<double>(events_.migrations[1].start_ns), kNowNs - 500'000, 3'000);
  EXPECT_NEAR(static_cast<double>(events_.migrations[1].end_ns), kNowNs - 460'000, 3'000);
  EXPECT_EQ(events_.migrations[2].start_ns, events_.migrations[1].end_ns);
  EXPECT_EQ(events_.migrations[2].end_ns - events_.migrations[2].start_ns, 30'000u);
}

}  // namespace
}  // namespace uvmtrace
