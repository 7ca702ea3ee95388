// The driver's fault batches, put together from pieces that arrive in any order, and what each cell waited in them.
//
// A batch lasts from the first of its faults (the driver began to process it) to its last replay (the GPU may try
// again). The driver's queue numbers batches for each GPU, and faults and replays carry the number. CUPTI gives every
// fault of a batch the same end, its replay. The workers hand over one piece for each run of faults of one batch;
// pieces and replays wait here until no more can be expected, then the batch's time is shared out to its cells by their
// faults. The GPU serves one batch after the other: time in which an earlier one still lasted is given to that one
// alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "analyzer/accounts/cells.h"
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

// Faults of one batch on one cell.
struct BatchShare {
  CellKey cell;
  uint32_t faults = 0;
};

// Of one GPU and one source.
class ServiceBatches {
 public:
  // So many batches wait for late pieces.
  static constexpr size_t kOpenBatches = 16384;
  static constexpr uint64_t kEndToleranceNs = 16;  // of CUPTI's conversion; a batch lasts some microseconds

  // By number, from the driver's queue. Times are of one clock, whichever it is.
  void AddFaults(uint32_t number, uint64_t first, uint64_t entries, const BatchShare* shares, size_t share_count,
                 Cells* cells);
  void AddReplay(uint32_t number, uint64_t time);
  // By end, from CUPTI.
  void AddFaultsUntil(uint64_t start, uint64_t end, uint64_t records, const BatchShare* shares, size_t share_count,
                      Cells* cells);

  // After the last piece: closes all that is open.
  void Finish(Cells* cells);

  // Whether it is known of any batch when it ended.
  bool AnyEnd() const;

  // Everything so far, open batches included.
  BatchStatistics Summarize() const {
    ServiceBatches copy = *this;
    Cells ignored;
    copy.Finish(&ignored);
    return copy.closed_;
  }

 private:
  struct Batch {
    uint64_t first = 0;
    uint64_t last = 0;  // replay, or CUPTI's end; 0: none seen
    uint64_t entries = 0;
    uint32_t number = 0;
    uint32_t replays = 0;
    bool by_end = false;
    std::vector<BatchShare> shares;  // a cell may be in it twice
    size_t sort_at = 0;
  };

  void AddShares(Batch* batch, const BatchShare* shares, size_t count);
  void CloseOlderHalf(Cells* cells);
  void Close(const Batch& batch, Cells* cells);

  std::unordered_map<uint32_t, uint32_t> by_number_;  // -> index into open_
  std::vector<Batch> open_;
  struct Replay {
    uint64_t last = 0;
    uint32_t count = 0;
  };
  std::unordered_map<uint32_t, Replay> early_replays_;  // before any fault of their batch was seen
  uint64_t served_until_ = 0;
  uint32_t last_number_ = 0;
  uint32_t last_index_ = ~uint32_t{0};
  BatchStatistics closed_;
};

}  // namespace uvmtrace::analyzer
