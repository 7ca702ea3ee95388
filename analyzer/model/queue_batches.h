// The driver's fault batches as its own queue tells them: every fault carries the number of its batch, every replay
// too.
//
// A batch lasts from the first of its faults (the driver began to process it) to its last replay (the GPU may try
// again). Batch numbers count up for each GPU and wrap, and replays are delivered late, so the last kOpenBatches
// numbers stay open, each in the slot that its number chooses; one that needs an occupied slot closes what is there.
// Replays of batches without any fault of ours are other programs' on the same GPU. Times are of one clock, whichever
// it is.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/model/histogram.h"
#include "analyzer/model/interval_union.h"

namespace uvmtrace::analyzer {

struct BatchStatistics {
  // Sizes by powers of two: bucket i has batches of up to 2^i entries. The driver's limit is 256 unless it is told
  // otherwise.
  static constexpr size_t kSizeBuckets = 17;

  uint64_t batches = 0;
  uint64_t entries = 0;
  uint64_t replays = 0;         // of batches with faults of this process
  uint64_t without_replay = 0;  // batches
  std::array<uint64_t, kSizeBuckets> size_buckets{};
  Histogram sizes;
  Histogram service_ns;
  IntervalUnion service;

  void Merge(const BatchStatistics& other) {
    batches += other.batches;
    entries += other.entries;
    replays += other.replays;
    without_replay += other.without_replay;
    for (size_t i = 0; i < kSizeBuckets; ++i) size_buckets[i] += other.size_buckets[i];
    sizes.Merge(other.sizes);
    service_ns.Merge(other.service_ns);
    // Unions of different processes and GPUs are added up by whoever wants that.
  }
};

class QueueBatches {
 public:
  static constexpr size_t kOpenBatches = 4096;

  void AddFault(uint32_t number, uint64_t time) {
    Batch& batch = SlotOf(number);
    if (batch.entries == 0) {
      batch.number = number;
      batch.first = time;
    } else if (batch.number != number) {
      Close(batch, &closed_);
      batch = {};
      batch.number = number;
      batch.first = time;
    }
    ++batch.entries;
    batch.first = std::min(batch.first, time);
  }

  void AddReplay(uint32_t number, uint64_t time) {
    if (slots_.empty()) return;
    Batch& batch = slots_[number % kOpenBatches];
    if (batch.entries == 0 || batch.number != number) return;
    ++batch.replays;
    batch.last_replay = std::max(batch.last_replay, time);
  }

  // Everything so far, open batches included.
  BatchStatistics Summarize() const {
    BatchStatistics all = closed_;
    std::vector<const Batch*> open;
    for (const Batch& batch : slots_) {
      if (batch.entries > 0) open.push_back(&batch);
    }
    std::sort(open.begin(), open.end(), [](const Batch* a, const Batch* b) { return a->first < b->first; });
    for (const Batch* batch : open) Close(*batch, &all);
    return all;
  }

 private:
  struct Batch {
    uint32_t number = 0;
    uint32_t replays = 0;
    uint64_t entries = 0;  // 0: the slot is free
    uint64_t first = 0;
    uint64_t last_replay = 0;
  };

  Batch& SlotOf(uint32_t number) {
    if (slots_.empty()) slots_.resize(kOpenBatches);
    return slots_[number % kOpenBatches];
  }

  static void Close(const Batch& batch, BatchStatistics* statistics) {
    ++statistics->batches;
    statistics->entries += batch.entries;
    statistics->replays += batch.replays;
    statistics->sizes.Add(batch.entries);
    size_t bucket = 0;
    while (bucket + 1 < BatchStatistics::kSizeBuckets && (uint64_t{1} << bucket) < batch.entries) ++bucket;
    ++statistics->size_buckets[bucket];
    if (batch.replays == 0) {
      ++statistics->without_replay;
    } else if (batch.last_replay >= batch.first) {
      statistics->service_ns.Add(batch.last_replay - batch.first);
      statistics->service.Add(batch.first, batch.last_replay);
    }
  }

  std::vector<Batch> slots_;
  BatchStatistics closed_;
};

}  // namespace uvmtrace::analyzer
