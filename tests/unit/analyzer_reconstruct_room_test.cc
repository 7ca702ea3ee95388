// How many blocks were evicted follows from the driver's counters, whatever moment their samples were taken at.
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "analyzer/reconstruct/reconstructor.h"

namespace uvmtrace::reconstruct {
namespace {

constexpr uint64_t kBlock = uvm_model::kBlockBytes;
constexpr uint64_t kBase = uint64_t{0x7f} << 32;
constexpr uint64_t kMs = 1'000'000;

// A GPU with room for some blocks, that walks through more of them in a circle. One service for each block and turn,
// one millisecond each: the victim leaves in its first third, the block comes in its second.
class Walk {
 public:
  explicit Walk(uint64_t blocks) : blocks_(blocks) {
    Call allocate;
    allocate.address = kBase;
    allocate.bytes = blocks * kBlock;
    reconstructor_.Add(allocate);
  }

  // `room` blocks from now on.
  void Turn(uint64_t services, uint64_t room) {
    for (uint64_t i = 0; i < services; ++i) {
      const uint64_t block = served_++ % blocks_;
      const uint64_t start_ns = served_ * kMs;
      for (uint64_t page = 0; page < uvm_model::kPagesPerBlock; ++page) {
        GpuFault fault;
        fault.time_ns = start_ns;
        fault.address = kBase + block * kBlock + page * uvm_model::kPageBytes;
        fault.batch = static_cast<uint32_t>(served_);
        fault.write = true;
        if (!resident_.contains(block)) reconstructor_.Add(fault);
      }
      if (resident_.contains(block)) continue;
      Replay replay;
      replay.time_ns = start_ns + 800'000;
      replay.batch = static_cast<uint32_t>(served_);
      reconstructor_.Add(replay);
      while (resident_.size() >= room) {
        const auto oldest = std::min_element(resident_.begin(), resident_.end(),
                                             [](const auto& a, const auto& b) { return a.second < b.second; });
        on_host_[oldest->first] = true;
        resident_.erase(oldest);
        to_host_ += kBlock;
        ++evictions_;
      }
      half_way_ = {to_device_, to_host_};
      if (on_host_[block]) to_device_ += kBlock;
      on_host_[block] = false;
      resident_[block] = served_;
    }
  }

  // When the victim of the last service had left, and its block had not come.
  void SampleHalfWay() { Sample(served_ * kMs + 400'000, half_way_.first, half_way_.second); }
  void SampleQuiet() { Sample(served_ * kMs + 900'000, to_device_, to_host_); }
  // A thread was kept from running between taking the time and reading.
  void SampleOfEarlierTime(uint64_t ms) { Sample(served_ * kMs + 900'000 - ms * kMs, to_device_, to_host_); }

  void Expect() {
    reconstructor_.Finish();
    EXPECT_EQ(reconstructor_.ExplainedShare(), 1);
    EXPECT_EQ(told_to_host_, to_host_);
    EXPECT_EQ(told_to_device_, to_device_);
    EXPECT_EQ(reconstructor_.statistics().evicted_blocks, evictions_);
    EXPECT_LT(reconstructor_.statistics().runs, 6u);
  }

 private:
  void Sample(uint64_t time_ns, uint64_t to_device, uint64_t to_host) {
    CounterSample sample;
    sample.time_ns = time_ns;
    sample.to_device_bytes = to_device;
    sample.to_host_bytes = to_host;
    reconstructor_.Add(sample);
  }

  uint64_t blocks_;
  uint64_t served_ = 0;
  uint64_t to_device_ = 0;
  uint64_t to_host_ = 0;
  uint64_t evictions_ = 0;
  std::pair<uint64_t, uint64_t> half_way_;
  std::map<uint64_t, uint64_t> resident_;  // block to when it came
  std::map<uint64_t, bool> on_host_;
  uint64_t told_to_host_ = 0;
  uint64_t told_to_device_ = 0;
  Reconstructor reconstructor_{
      {}, [this](const Migration& row) { (row.destination == kCpu ? told_to_host_ : told_to_device_) += row.bytes; }};
};

TEST(RoomTest, ASampleBetweenTheVictimAndTheBlockThatComesBack) {
  Walk walk(6);
  walk.Turn(7, 4);
  walk.SampleHalfWay();
  walk.Turn(5, 4);
  walk.SampleQuiet();
  walk.Turn(12, 4);
  walk.SampleQuiet();
  walk.Expect();
}

TEST(RoomTest, OnlySamplesBetweenAndOneAtTheEnd) {
  Walk walk(10);
  for (int i = 0; i < 40; ++i) {
    walk.Turn(1, 7);
    walk.SampleHalfWay();
  }
  walk.SampleQuiet();
  walk.Expect();
}

TEST(RoomTest, ASampleThatWasReadLate) {
  Walk walk(8);
  walk.Turn(6, 5);
  walk.SampleQuiet();
  walk.Turn(9, 5);
  walk.SampleOfEarlierTime(8);
  walk.Turn(9, 5);
  walk.SampleQuiet();
  walk.Expect();
}

TEST(RoomTest, OneSampleAtTheEnd) {
  Walk walk(8);
  walk.Turn(24, 3);
  walk.SampleQuiet();
  walk.Expect();
}

TEST(RoomTest, OtherMemoryGrowsOnTheWay) {
  Walk walk(12);
  walk.Turn(12, 10);
  walk.SampleQuiet();
  walk.Turn(24, 10);
  walk.SampleQuiet();
  walk.Turn(1, 6);
  walk.SampleQuiet();
  walk.Turn(23, 6);
  walk.SampleQuiet();
  walk.Expect();
}

TEST(RoomTest, OtherMemoryIsGivenBackOnTheWay) {
  Walk walk(12);
  for (int i = 0; i < 36; ++i) {
    walk.Turn(1, 6);
    walk.SampleQuiet();
  }
  for (int i = 0; i < 36; ++i) {
    walk.Turn(1, 9);
    walk.SampleQuiet();
  }
  walk.Expect();
}

TEST(RoomTest, NothingIsEvictedWhereAllFits) {
  Walk walk(8);
  for (int i = 0; i < 16; ++i) {
    walk.Turn(1, 8);
    walk.SampleHalfWay();
  }
  walk.SampleQuiet();
  walk.Expect();
}

}  // namespace
}  // namespace uvmtrace::reconstruct
