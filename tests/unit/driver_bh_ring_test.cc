// The ring of samples as the kernel writes it, and as a hostile one would.
#include <gtest/gtest.h>
#include <string.h>

#include <random>
#include <vector>

#include "driver/bh_profiler_ring.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kKernel = static_cast<uint64_t>(PERF_CONTEXT_KERNEL);
constexpr uint64_t kUser = static_cast<uint64_t>(PERF_CONTEXT_USER);

struct Seen {
  uint64_t time_ns;
  uint64_t period_ns;
  uint32_t tid;
  std::vector<uint64_t> frames;
};

// A ring into which a test writes as the kernel does.
class Ring {
 public:
  explicit Ring(size_t bytes, uint64_t start = 0) : data_(bytes), head_(start), tail_(start) {}

  void Put(const void* bytes, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      data_[(head_ + i) % data_.size()] = static_cast<const uint8_t*>(bytes)[i];
    }
    head_ += size;
  }

  void PutRecord(uint32_t type, const std::vector<uint64_t>& words) {
    PutHeader(type, static_cast<uint16_t>(sizeof(perf_event_header) + words.size() * 8));
    Put(words.data(), words.size() * 8);
  }
  void PutHeader(uint32_t type, uint16_t size) {
    perf_event_header header{};
    header.type = type;
    header.size = size;
    Put(&header, sizeof header);
  }
  void PutSample(uint32_t tid, uint64_t time_ns, const std::vector<uint64_t>& chain) {
    std::vector<uint64_t> words = {uint64_t{tid} << 32 | 2, time_ns, 977'021, chain.size()};
    words.insert(words.end(), chain.begin(), chain.end());
    PutRecord(PERF_RECORD_SAMPLE, words);
  }

  std::vector<Seen> Read() {
    std::vector<Seen> seen;
    PerfRing(data_.data(), data_.size()).Read(tail_, head_, &counts, [&](const PerfSample& sample) {
      seen.push_back({sample.time_ns, sample.period_ns, sample.tid, {sample.frames.begin(), sample.frames.end()}});
    });
    tail_ = head_;
    return seen;
  }

  PerfRingCounts counts;

 private:
  std::vector<uint8_t> data_;
  uint64_t head_;
  uint64_t tail_;
};

TEST(PerfRing, ASampleIsRead) {
  Ring ring(4096);
  ring.PutSample(77, 123'456, {kKernel, 0xffffffffc0300010, 0xffffffff81000020});
  const std::vector<Seen> seen = ring.Read();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].tid, 77u);
  EXPECT_EQ(seen[0].time_ns, 123'456u);
  EXPECT_EQ(seen[0].period_ns, 977'021u);
  EXPECT_EQ(seen[0].frames, (std::vector<uint64_t>{0xffffffffc0300010, 0xffffffff81000020}));
  EXPECT_EQ(ring.counts.samples, 1u);
  EXPECT_TRUE(ring.Read().empty());
  EXPECT_EQ(ring.counts.malformed, 0u);
}

TEST(PerfRing, RecordsGoRoundTheEndAtEveryPlace) {
  for (uint64_t start = 4096 - 128; start <= 4096; start += 8) {
    Ring ring(4096, start);
    ring.PutSample(1, 10, {kKernel, 11, 12, 13});
    ring.PutRecord(PERF_RECORD_LOST, {5, 3});
    ring.PutSample(2, 20, {kKernel, 21});
    const std::vector<Seen> seen = ring.Read();
    ASSERT_EQ(seen.size(), 2u) << start;
    EXPECT_EQ(seen[0].frames, (std::vector<uint64_t>{11, 12, 13})) << start;
    EXPECT_EQ(seen[1].time_ns, 20u) << start;
    EXPECT_EQ(ring.counts.lost, 3u) << start;
  }
}

TEST(PerfRing, PositionsMayGoRoundTheEndOf64Bits) {
  Ring ring(4096, UINT64_MAX - 39);
  ring.PutSample(1, 10, {kKernel, 11, 12, 13});
  ring.PutSample(2, 20, {kKernel, 21});
  EXPECT_EQ(ring.Read().size(), 2u);
}

TEST(PerfRing, OnlyFramesOfTheKernelAreKept) {
  Ring ring(4096);
  ring.PutSample(1, 10, {7, kKernel, 11, kUser, 0x400000, 0x400010, kKernel, 12});
  ring.PutSample(1, 20, {kUser, 0x400000});
  ring.PutSample(1, 30, {});
  const std::vector<Seen> seen = ring.Read();
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0].frames, (std::vector<uint64_t>{11, 12}));
  EXPECT_TRUE(seen[1].frames.empty());
  EXPECT_TRUE(seen[2].frames.empty());
}

TEST(PerfRing, DeepStacksAreCut) {
  Ring ring(8192);
  std::vector<uint64_t> chain = {kKernel};
  for (uint64_t i = 1; i <= 400; ++i) chain.push_back(i);
  ring.PutSample(1, 10, chain);
  ring.PutSample(1, 20, {kKernel, 5});
  const std::vector<Seen> seen = ring.Read();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].frames.size(), kMaxKernelFrames);
  EXPECT_EQ(seen[0].frames.back(), kMaxKernelFrames);
  EXPECT_EQ(seen[1].frames, (std::vector<uint64_t>{5}));
}

TEST(PerfRing, LossesAndPausesAreCountedAndUnknownTypesPassed) {
  Ring ring(4096);
  ring.PutRecord(PERF_RECORD_LOST, {1, 10});
  ring.PutRecord(PERF_RECORD_THROTTLE, {1, 2, 3});
  ring.PutRecord(PERF_RECORD_UNTHROTTLE, {1, 2, 3});
  ring.PutRecord(4711, {1, 2, 3, 4});
  ring.PutRecord(0, {});
  ring.PutRecord(PERF_RECORD_LOST, {1, 32});
  ring.PutSample(1, 10, {kKernel, 11});
  EXPECT_EQ(ring.Read().size(), 1u);
  EXPECT_EQ(ring.counts.lost, 42u);
  EXPECT_EQ(ring.counts.throttled, 1u);
  EXPECT_EQ(ring.counts.malformed, 0u);
}

TEST(PerfRing, LengthsThatMakeNoSenseEndTheReading) {
  for (const uint16_t size : {0, 1, 7, 9, 12, 4000, 65535}) {
    Ring ring(4096);
    ring.PutSample(1, 10, {kKernel, 11});
    ring.PutHeader(PERF_RECORD_SAMPLE, size);
    ring.PutSample(1, 20, {kKernel, 12});
    EXPECT_EQ(ring.Read().size(), 1u) << size;
    EXPECT_EQ(ring.counts.malformed, 1u) << size;
    // What comes later is read.
    ring.PutSample(1, 30, {kKernel, 13});
    EXPECT_EQ(ring.Read().size(), 1u) << size;
  }
}

TEST(PerfRing, ATornHeaderIsNotRead) {
  Ring ring(4096);
  ring.PutSample(1, 10, {kKernel, 11});
  ring.Put("\x09\0\0", 4);
  EXPECT_EQ(ring.Read().size(), 1u);
  EXPECT_EQ(ring.counts.malformed, 1u);
}

TEST(PerfRing, SamplesThatSayMoreThanTheyHoldAreLeftOut) {
  Ring ring(4096);
  ring.PutRecord(PERF_RECORD_SAMPLE, {});
  ring.PutRecord(PERF_RECORD_SAMPLE, {1, 2, 3});
  ring.PutRecord(PERF_RECORD_SAMPLE, {1, 2, 3, 2, kKernel});
  ring.PutRecord(PERF_RECORD_SAMPLE, {1, 2, 3, UINT64_MAX});
  ring.PutRecord(PERF_RECORD_SAMPLE, {1, 2, 3, uint64_t{1} << 61});
  ring.PutRecord(PERF_RECORD_LOST, {1});
  ring.PutSample(1, 10, {kKernel, 11});
  EXPECT_EQ(ring.Read().size(), 1u);
  EXPECT_EQ(ring.counts.malformed, 6u);
  EXPECT_EQ(ring.counts.lost, 0u);
}

TEST(PerfRing, AHeadThatIsFurtherThanTheRingIsLongIsRefused) {
  std::vector<uint8_t> data(4096);
  PerfRingCounts counts;
  int samples = 0;
  PerfRing(data.data(), data.size()).Read(0, 4096 + 8, &counts, [&](const PerfSample&) { ++samples; });
  PerfRing(data.data(), data.size()).Read(100, 50, &counts, [&](const PerfSample&) { ++samples; });
  EXPECT_EQ(samples, 0);
  EXPECT_EQ(counts.malformed, 2u);
}

TEST(PerfRing, AnyBytesAreSurvived) {
  std::mt19937_64 random(4711);
  uint64_t samples = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<uint8_t> data(1024);
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random() % 64 == 0 ? random() : 0);
    // Plausible headers, so that some are read.
    for (size_t at = 0; at + 8 <= data.size(); at += 8 * (1 + random() % 20)) {
      const uint32_t type = random() % 2 == 0 ? uint32_t{PERF_RECORD_SAMPLE} : static_cast<uint32_t>(random() % 12);
      const uint16_t size = static_cast<uint16_t>(8 * (random() % 24));
      memcpy(&data[at], &type, sizeof type);
      memcpy(&data[at + 6], &size, sizeof size);
    }
    const uint64_t tail = random() % 2 == 0 ? random() : 1024 * (random() % 4);
    PerfRingCounts counts;
    PerfRing(data.data(), data.size()).Read(tail, tail + random() % 1025, &counts, [&](const PerfSample& sample) {
      ASSERT_LE(sample.frames.size(), kMaxKernelFrames);
      ++samples;
    });
  }
  EXPECT_GT(samples, 100u);
}

}  // namespace
}  // namespace uvmtrace
