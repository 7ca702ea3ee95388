// The one thread that turns records into chunks and chunks into the file.
//
// Each pass reads the heads of the source rings, then those of the host rings, and then drains the host rings up to
// their heads before the source rings up to theirs. A fault that lies below a source's head was seen after the
// allocation it is about was recorded, so that allocation lies below a host's head, read later: it stands in the file
// before the fault.
#pragma once

#include <cstdint>

#include "record/chunk_encoder.h"
#include "record/interner.h"
#include "record/mappings.h"
#include "record/session.h"
#include "record/thread_names.h"

namespace uvmtrace {

class Writer {
 public:
  explicit Writer(Session& session) : session_(session) {}

  // The thread's main function: writes the first chunk, says in Session::start how that went, and returns after the
  // last.
  void Run();

 private:
  static constexpr uint64_t kPeriodNs = 50'000'000;
  static constexpr uint64_t kHousekeepingNs = 1'000'000'000;  // clock samples, dead threads, retries of a failed write
  // Whoever asks for a flush may be killed right afterwards: what its call stacks need must be in the file by then.
  static constexpr uint64_t kFlushLoaderWaitNs = 100'000'000;

  void Pass(bool must_write);
  void ReadHeads();
  void DrainRings(RingKind kind);
  void OnRecord(EventType type, const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words);
  void OnNamedAnnotation(const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words);
  void AddEvent(EventType type, const void* event, size_t event_bytes, uint32_t stack);
  // UVMTRACE_MAX_MB: events end a while before the limit, the samples of counters and threads shortly before it, and
  // the last chunk always fits.
  bool HasRoomFor(EventType type);
  void CollectLosses();
  void SampleClocks();
  bool HasNewDefinitions();

  // Encodes and writes what has been gathered. Waits so long for another thread that is at the loader. False if it
  // could not be written: its events are then counted as lost.
  bool WriteChunk(bool is_last, uint64_t loader_wait_ns);
  void AppendDefinitions(bool everything);
  void AppendEnd();
  void OnChunkFailed(const ChunkEncoder::RowCounts& rows, const char* reason);

  Session& session_;
  ChunkEncoder encoder_;
  StackInterner stacks_;
  Mappings mappings_;
  ThreadNames threads_;
  WireBuffer chunk_;

  ThreadRing* rings_ = nullptr;  // the list as it was when the heads were read
  uint64_t now_ns_ = 0;
  uint64_t next_housekeeping_ns_ = 0;
  uint64_t retry_ns_ = 0;  // no write before, except one that is asked for
  uint64_t sequence_ = 0;
  uint64_t restart_at_bytes_ = 0;
  bool everything_ = true;  // the next chunk repeats all definitions
  bool has_program_counters_ = false;
  bool warned_ = false;
  bool limit_told_ = false;
  bool definitions_missing_ = false;  // of the chunk that is being written: their lock could not be had
  uint64_t lost_at_limit_[kEventTypeCount] = {};
  bool host_has_ended_ = false;
  uint32_t strings_appended_ = 0;
  uint32_t stacks_appended_ = 0;
  size_t new_stack_bytes_ = 0;
  ChunkEncoder::RowCounts rows_written_;
};

// Starts it in a thread that blocks all signals. Returns whether there is a thread now.
bool StartWriterThread(Session& session);

}  // namespace uvmtrace
