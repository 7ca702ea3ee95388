// Bytes that were told to have moved to and from one GPU, or the whole process, beside the driver's exact counts of
// them.
//
// A sample of the counters is taken at a known time, but read a little later: at the latest before the next sample. And
// a service is told when it begins, while its copies are counted until it ends. So two bounds hold, and nothing
// between:
//   what is told to be over at the time of a sample  <=  the sample
//   a sample                                         <=  what is told to have begun at the time of the next sample
// The first holds but for what a thread has yet to count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "analyzer/reconstruct/counter_check.h"

namespace uvmtrace::reconstruct {

class ToldBytes {
 public:
  void AddToDevice(uint64_t bytes) { to_device_ += bytes; }
  // The copies are over, and counted, at `done_ns`.
  void AddToHost(uint64_t bytes, uint64_t done_ns) {
    to_host_ += bytes;
    if (done_ns > 0) under_way_.push_back({done_ns, bytes});
  }

  uint64_t to_device() const { return to_device_; }
  uint64_t to_host() const { return to_host_; }
  // Of those, what is over by then. Times must not run backwards.
  uint64_t OverToHost(uint64_t time_ns) {
    std::erase_if(under_way_, [time_ns](const UnderWay& copy) { return copy.done_ns <= time_ns; });
    uint64_t bytes = to_host_;
    for (const UnderWay& copy : under_way_) bytes -= copy.bytes;
    return bytes;
  }

  // More is told to be over than this sample has. Returns by how much all samples of late agree that it is too much; 0:
  // they do not yet, because a thread that was kept from running counts late, but then its bytes come with the next
  // ones.
  uint64_t TooMuch(uint64_t sample_to_host, uint64_t excess) {
    if (excess == 0) {
      excess_samples_ = 0;
      return 0;
    }
    excess_ = excess_samples_ == 0 ? excess : std::min(excess_, excess);
    if (excess_samples_ == 0 || sample_to_host != last_sample_to_host) ++excess_samples_;
    return excess_samples_ >= kExcessSamples ? excess_ : 0;
  }

  // The last sample's bytes to the host; 0 before the first.
  uint64_t last_sample_to_host = 0;
  uint64_t over_at_last_sample = 0;  // what was told to be over by then
  CounterCheck to_device_check;
  CounterCheck to_host_check;

 private:
  struct UnderWay {
    uint64_t done_ns = 0;
    uint64_t bytes = 0;
  };
  uint64_t to_device_ = 0;
  uint64_t to_host_ = 0;
  std::vector<UnderWay> under_way_;
  static constexpr uint32_t kExcessSamples = 3;
  uint32_t excess_samples_ = 0;  // in a row, each with bytes that the one before did not have
  uint64_t excess_ = 0;
};

}  // namespace uvmtrace::reconstruct
