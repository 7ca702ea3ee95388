// Holds reconstructed migrations against those that were recorded in windows: the same pages, the same way, at about
// the same time. The driver's counters check amounts at every sample; this checks which pages they were.
#pragma once

#include <cstdint>
#include <vector>

#include "analyzer/reconstruct/rows.h"

namespace uvmtrace::reconstruct {

class WindowCheck {
 public:
  void Add(const Migration& recorded) { recorded_.push_back(recorded); }
  // `told` in the order of time.
  void Finish(const std::vector<Migration>& told);

  uint64_t bytes() const { return bytes_; }
  uint64_t agreed_bytes() const { return agreed_bytes_; }

 private:
  std::vector<Migration> recorded_;
  uint64_t bytes_ = 0;
  uint64_t agreed_bytes_ = 0;
};

}  // namespace uvmtrace::reconstruct
