// From records to chunks, and from chunks to the file: the mirror of the analyzer's chunk reader.
//
// Events gather in columns, names and stacks are interned, and one write(2) appends a chunk of at most about 256 KiB. A
// chunk holds the definitions that are new, or all of them every 64 MiB and after a write that failed. What cannot be
// written is counted as lost, and the count goes into the next chunk that can. One thread uses an object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "record/chunk_encoder.h"
#include "record/interner.h"
#include "record/mappings.h"
#include "record/session.h"
#include "record/thread_names.h"

namespace uvmtrace {

class ChunkWriter {
 public:
  explicit ChunkWriter(Session& session) : session_(session) {}

  // Has memory for what is told when there is none left.
  void Prepare() { encoder_.Prepare(EventType::kAllocationFailure); }

  // The time of what follows, CLOCK_MONOTONIC.
  void SetTime(uint64_t now_ns) { now_ns_ = now_ns; }

  // A record of a ring. Writes a chunk when enough has gathered.
  void Add(EventType type, const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words);
  void AddClockSample();
  void NameThread(uint32_t tid, std::string_view name);
  void AskThreadNamesAgain();
  // Counts what was left out because of UVMTRACE_MAX_MB.
  void CountLosses();

  // Encodes and writes what has gathered. Waits at most `loader_wait_ns` for another thread that is at the loader.
  // False if it could not be written: its events are then counted as lost.
  bool Write(bool is_last, uint64_t loader_wait_ns);
  // Writes if there is a reason to, and not soon after a write that failed unless it was asked for.
  void WriteIfDue(bool asked);

 private:
  static constexpr uint64_t kRetryNs = 1'000'000'000;
  // Whoever asks for a flush may be killed right afterwards: what its call stacks need must be in the file by then.
  static constexpr uint64_t kFlushLoaderWaitNs = 100'000'000;

  void OnNamedAnnotation(const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words);
  void AddEvent(EventType type, const void* event, size_t event_bytes, uint32_t stack);
  // UVMTRACE_MAX_MB: events end a while before the limit, the samples of counters and threads shortly before it, and
  // the last chunk always fits.
  bool HasRoomFor(EventType type);
  bool HasNewDefinitions();
  void AppendDefinitions(bool everything);
  void AppendEnd();
  void OnChunkFailed(const ChunkEncoder::RowCounts& rows, const char* reason);

  Session& session_;
  ChunkEncoder encoder_;
  StackInterner stacks_;
  Mappings mappings_;
  ThreadNames threads_;
  WireBuffer chunk_;

  uint64_t now_ns_ = 0;
  uint64_t retry_ns_ = 0;  // no write before, except one that is asked for
  uint64_t sequence_ = 0;
  uint64_t restart_at_bytes_ = 0;
  bool everything_ = true;  // the next chunk repeats all definitions
  bool has_program_counters_ = false;
  bool warned_ = false;
  bool limit_told_ = false;
  bool definitions_missing_ = false;  // of the chunk that is being written: their lock could not be had
  uint64_t lost_at_limit_[kEventTypeCount] = {};
  uint32_t strings_appended_ = 0;
  uint32_t stacks_appended_ = 0;
  size_t new_stack_bytes_ = 0;
  ChunkEncoder::RowCounts rows_written_;
};

}  // namespace uvmtrace
