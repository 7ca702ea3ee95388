// What was lost and why, until a chunk that says so is in the file.
//
// A count leaves the table only when the chunk that carries it was written, so a full disk delays the news of a loss
// and never swallows it. Any thread counts, the writer appends.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "record/os/futex.h"
#include "record/wire.h"

namespace uvmtrace {

class LossTable {
 public:
  void Count(std::string_view source, std::string_view reason, uint64_t count);

  bool HasPending();
  // Appends every pending count as Chunk.loss; Commit takes them off the table once the chunk is in the file.
  void Append(WireBuffer& out);
  void Commit();
  uint64_t Pending();

 private:
  // The last row takes what finds no other.
  static constexpr int kRows = 128;

  struct Row {
    char source[32];
    char reason[160];
    uint8_t source_bytes;
    uint8_t reason_bytes;
    uint64_t pending;
    uint64_t appended;
  };

  void TakeUncounted();
  void AppendUncounted(WireBuffer& out);

  std::atomic<uint64_t> uncounted_{0};  // while the lock could not be had
  ShortLock lock_;
  int used_ = 0;
  Row rows_[kRows] = {};
};

}  // namespace uvmtrace
