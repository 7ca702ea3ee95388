// See chunk_writer.h.
#include "record/chunk_writer.h"

#include <errno.h>
#include <string.h>

#include <algorithm>

#include "record/chunk_format.h"
#include "record/crc32c.h"
#include "record/diagnostics.h"
#include "record/os/clocks.h"
#include "record/os/loader_work.h"

namespace uvmtrace {
namespace {

constexpr const char* kLimitReason = "the trace has reached UVMTRACE_MAX_MB";
constexpr const char* kInterruptedReason = "an interrupted thread holds their lock";
constexpr const char* kNoChunkMemoryReason = "no memory to encode a chunk";

const char* WriteErrorReason(int error) {
  switch (error) {
    case ENOSPC:
      return "the disk is full";
    case EDQUOT:
      return "the disk quota is used up";
    case EFBIG:
      return "the file has reached the file size limit (ulimit -f)";
    case EIO:
      return "the disk reports an I/O error";
    case EBADF:
      return "the trace file was closed or removed by the program";
    default:
      return "the trace file cannot be written";
  }
}

}  // namespace

bool ChunkWriter::HasRoomFor(EventType type) {
  const uint64_t limit = session_.max_file_bytes;
  if (limit == 0) return true;
  constexpr uint64_t kEndBytes = 64 * 1024;
  const bool is_sample = type == EventType::kThreadSample || type == EventType::kProcessSample ||
                         type == EventType::kClockSample || type == EventType::kCounterSample ||
                         type == EventType::kToolSample;
  const uint64_t kept_free = is_sample ? kEndBytes : std::max(limit / 8, 2 * kEndBytes);
  if (session_.file.bytes_written() + encoder_.DataBytes() + new_stack_bytes_ + kept_free < limit) return true;
  if (!limit_told_ && !is_sample) {
    limit_told_ = session_.definitions.SetSourceState(
        "trace_file", SourceStateKind::kStopped,
        "the file has reached UVMTRACE_MAX_MB: events are counted as lost from here on, counters go on", now_ns_);
  }
  return false;
}

void ChunkWriter::Add(EventType type, const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words) {
  if (!HasRoomFor(type)) [[unlikely]] {
    ++lost_at_limit_[static_cast<int>(type)];
    return;
  }
  uint32_t stack = 0;
  if (type == EventType::kApiCall) {
    uint32_t tid;
    memcpy(&tid, static_cast<const uint8_t*>(event) + offsetof(ApiCallEvent, tid), sizeof(tid));
    if (!threads_.See(tid, now_ns_)) {
      session_.losses.Count("threads", "no memory left for another thread's name", 1);
    }
    if (tail_words != 0) {
      const uint32_t known = stacks_.count();
      const uint8_t python_frames = static_cast<const uint8_t*>(event)[offsetof(ApiCallEvent, python_frames)];
      stack = stacks_.Intern({tail, tail_words}, python_frames);
      if (stack == 0) session_.losses.Count("stacks", "no memory left for another call stack", 1);
      if (stack > known) new_stack_bytes_ += tail_words * sizeof(uint64_t);
      has_program_counters_ = true;
    }
  } else if (type == EventType::kCpuFault) {
    has_program_counters_ = true;
  } else if (type == EventType::kAnnotation && tail_words != 0) {
    return OnNamedAnnotation(event, event_bytes, tail, tail_words);
  }
  AddEvent(type, event, event_bytes, stack);
}

void ChunkWriter::OnNamedAnnotation(const void* event, size_t event_bytes, const uint64_t* tail, size_t tail_words) {
  AnnotationEvent named;
  if (event_bytes != sizeof(named)) return;
  memcpy(&named, event, sizeof(named));
  const size_t most = tail_words * sizeof(uint64_t);
  named.name =
      session_.strings.Intern({reinterpret_cast<const char*>(tail), named.name_bytes < most ? named.name_bytes : most});
  if (named.name == 0) session_.losses.Count("strings", "no memory left for another name", 1);
  AddEvent(EventType::kAnnotation, &named, sizeof(named), 0);
}

void ChunkWriter::AddEvent(EventType type, const void* event, size_t event_bytes, uint32_t stack) {
  if (!encoder_.Add(type, event, event_bytes, stack)) {
    session_.losses.Count(LossSource(type), kNoChunkMemoryReason, 1);
  }
  if (encoder_.DataBytes() + new_stack_bytes_ >= kTargetChunkBytes - 8 * 1024) Write(false, 0);
}

void ChunkWriter::AddClockSample() {
  const ClockReading clocks = ReadClocks();
  ClockSampleEvent sample;
  sample.monotonic_ns = clocks.monotonic_ns;
  sample.realtime_ns = clocks.realtime_ns;
  sample.monotonic_raw_ns = clocks.monotonic_raw_ns;
  AddEvent(EventType::kClockSample, &sample, sizeof(sample), 0);
}

void ChunkWriter::NameThread(uint32_t tid, std::string_view name) {
  if (!threads_.SeeNamed(tid, name, now_ns_)) {
    session_.losses.Count("threads", "no memory left for another thread's name", 1);
  }
}

void ChunkWriter::AskThreadNamesAgain() { threads_.AskAgain(now_ns_); }

void ChunkWriter::CountLosses() {
  for (int type = 1; type < kEventTypeCount; ++type) {
    session_.losses.Count(LossSource(static_cast<EventType>(type)), kLimitReason, lost_at_limit_[type]);
    lost_at_limit_[type] = 0;
  }
}

bool ChunkWriter::HasNewDefinitions() {
  return session_.definitions.HasNew() || session_.strings.count() != strings_appended_ || mappings_.HasNew() ||
         threads_.HasNew() || stacks_.count() != stacks_appended_ || session_.losses.HasPending();
}

void ChunkWriter::AppendDefinitions(bool everything) {
  definitions_missing_ = !session_.definitions.Append(chunk_, everything);
  const uint32_t strings = session_.strings.count();
  for (uint32_t id = everything ? 1 : strings_appended_ + 1; id <= strings; ++id) {
    const size_t body = chunk_.BeginMessage(chunk_field::kString);
    chunk_.Unsigned(1, id);
    chunk_.String(2, session_.strings.Get(id));
    chunk_.EndMessage(body);
  }
  strings_appended_ = strings;
  mappings_.Append(chunk_, everything);
  const uint32_t stacks = stacks_.count();
  for (uint32_t id = everything ? 1 : stacks_appended_ + 1; id <= stacks; ++id) {
    const size_t body = chunk_.BeginMessage(chunk_field::kStack);
    chunk_.Unsigned(1, id);
    const size_t pcs = chunk_.BeginMessage(2);
    for (const uint64_t pc : stacks_.Get(id)) chunk_.AppendVarint(pc);
    chunk_.EndMessage(pcs);
    if (const std::span<const uint64_t> python = stacks_.GetPython(id); !python.empty()) {
      const size_t codes = chunk_.BeginMessage(3);
      for (const uint64_t frame : python) chunk_.AppendVarint(PythonFrameCode(frame));
      chunk_.EndMessage(codes);
      const size_t lines = chunk_.BeginMessage(4);
      for (const uint64_t frame : python) chunk_.AppendVarint(PythonFrameLine(frame));
      chunk_.EndMessage(lines);
    }
    chunk_.EndMessage(body);
  }
  stacks_appended_ = stacks;
  new_stack_bytes_ = 0;
  threads_.Append(chunk_, everything);
  session_.losses.Append(chunk_);
}

void ChunkWriter::AppendEnd() {
  const auto rows = [this](EventType type) { return rows_written_.of[static_cast<int>(type)]; };
  const size_t body = chunk_.BeginMessage(chunk_field::kEnd);
  chunk_.Unsigned(1, 1);
  chunk_.Unsigned(2, sequence_);
  chunk_.Unsigned(3, rows(EventType::kApiCall));
  chunk_.Unsigned(4, rows(EventType::kGpuFault));
  chunk_.Unsigned(5, rows(EventType::kCpuFault));
  chunk_.Unsigned(6, rows(EventType::kMigration));
  chunk_.Unsigned(7, rows(EventType::kRegion));
  chunk_.Unsigned(8, rows(EventType::kKernel));
  chunk_.Unsigned(9, session_.file.bytes_written());
  chunk_.Unsigned(10, rows(EventType::kReplay));
  chunk_.EndMessage(body);
}

void ChunkWriter::OnChunkFailed(const ChunkEncoder::RowCounts& rows, const char* reason) {
  for (int type = 1; type < kEventTypeCount; ++type) {
    session_.losses.Count(LossSource(static_cast<EventType>(type)), reason, rows.of[type]);
  }
  // Its definitions went with it.
  everything_ = true;
  retry_ns_ = now_ns_ + kRetryNs;
  session_.writing_fails.store(true, std::memory_order_relaxed);
}

bool ChunkWriter::Write(bool is_last, uint64_t loader_wait_ns) {
  now_ns_ = NowNs();
  if (has_program_counters_ || everything_) {
    uint32_t lost = 0;
    has_program_counters_ = !mappings_.Update(now_ns_, loader_wait_ns, &lost);
    if (lost != 0) session_.losses.Count("mappings", "no memory left for another mapping", lost);
  }
  const bool everything = everything_ || session_.file.bytes_written() >= restart_at_bytes_;
  const ChunkEncoder::RowCounts rows = encoder_.rows();

  constexpr uint8_t kFrame[kChunkFrameBytes] = {};
  chunk_.Clear();
  chunk_.AppendRaw(kFrame, sizeof(kFrame));
  chunk_.Unsigned(chunk_field::kWrittenNs, now_ns_);
  chunk_.Unsigned(chunk_field::kDefinitionsRestart, everything);
  if (is_last) AppendEnd();
  AppendDefinitions(everything);
  if (definitions_missing_ && is_last) session_.losses.Count("definitions", kInterruptedReason, 1);
  encoder_.AppendAndClear(chunk_);
  if (chunk_.failed() || chunk_.size() > INT32_MAX) {
    OnChunkFailed(rows, kNoChunkMemoryReason);
    return false;
  }
  PutChunkFrame(chunk_.data(), chunk_.size(), session_.run_id, sequence_);
  PutFixed32(chunk_.data() + kCrcOffset, Crc32c(chunk_.data() + kCheckedOffset, chunk_.size() - kCheckedOffset));

  const int error = session_.file.Write(chunk_.data(), chunk_.size());
  if (error != 0) {
    const char* reason = WriteErrorReason(error);
    if (!warned_) {
      Log(LogLevel::kWarn, "cannot write to the trace %s: %s. What is lost until it can be written again is counted.",
          session_.file.path(), reason);
      warned_ = true;
    }
    OnChunkFailed(rows, reason);
    return false;
  }
  session_.losses.Commit();
  session_.writing_fails.store(false, std::memory_order_relaxed);
  retry_ns_ = 0;
  for (int type = 0; type < kEventTypeCount; ++type) rows_written_.of[type] += rows.of[type];
  ++sequence_;
  if (everything) restart_at_bytes_ = session_.file.bytes_written() + kDefinitionsRestartBytes;
  everything_ = everything && definitions_missing_;
  return true;
}

void ChunkWriter::WriteIfDue(bool asked) {
  // After a failed write the columns go on filling, and are tried when full, when asked for, or a second later.
  if (!asked && now_ns_ < retry_ns_) return;
  // Clock samples alone are no reason for a chunk: an idle program's trace does not grow.
  const uint64_t rows = encoder_.rows().Total() - encoder_.rows().of[static_cast<int>(EventType::kClockSample)];
  // Program counters whose mappings could not be looked for are.
  if (rows != 0 || HasNewDefinitions() || has_program_counters_ || (everything_ && retry_ns_ != 0)) {
    Write(false, asked ? kFlushLoaderWaitNs : 0);
  }
}

}  // namespace uvmtrace
