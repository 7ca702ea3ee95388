// Holds reconstructed migrations against those that were recorded in windows: the same pages, the same way, at about
// the same time. The driver's counters check amounts at every sample; this checks which pages they were.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "analyzer/reconstruct/rows.h"

namespace uvmtrace::reconstruct {

class WindowCheck {
 public:
  void Add(const RecordedMigration& recorded) { recorded_.push_back(recorded); }
  // `told` in the order of time.
  void Finish(const std::vector<Migration>& told);

  uint64_t bytes() const { return bytes_; }
  uint64_t agreed_bytes() const { return agreed_bytes_; }
  // When the first copy began that was not told; 0: all were.
  uint64_t since_ns() const { return since_ns_; }

 private:
  std::vector<RecordedMigration> recorded_;
  uint64_t bytes_ = 0;
  uint64_t agreed_bytes_ = 0;
  uint64_t since_ns_ = 0;
};

}  // namespace uvmtrace::reconstruct
