// Writes a trace as long as asked for that has what a recorded one has: the same program, run again and again.
//
//   uvmtrace_repeat_trace RECORDED FILE EVENTS
//
// Each repetition has the rows of the recorded trace later in time, with batch numbers and the driver's counters going
// on. So the shares of the kinds of events, the length of batches, the sizes of migrations, the order of addresses and
// the delays of delivery are those of the recorded trace. Samples of threads and of the tool itself stand there once.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <protozero/pbf_reader.hpp>
#include <string>
#include <vector>

#include "analyzer/read/chunk_reader.h"
#include "analyzer/read/columns.h"
#include "bench/analyzer/trace_writer.h"

namespace uvmtrace::analyzer_bench {
namespace {

using analyzer::Coding;
using analyzer::ColumnBatch;
using analyzer::ColumnLayout;
using analyzer::EventKind;

constexpr uint32_t kWrittenField = 5;
constexpr uint32_t kRestartField = 6;
constexpr uint32_t kEndField = 7;

struct Message {
  EventKind kind;
  ColumnBatch batch;
};
struct RecordedChunk {
  std::string definitions;
  std::string end;
  std::vector<Message> messages;
};

class Repeater {
 public:
  bool Read(const char* path);
  void Write(std::FILE* file, uint64_t events);

 private:
  void AddField(protozero::pbf_reader* reader, RecordedChunk* chunk);
  void Measure(const Message& message);
  void Encode(const Message& message, uint64_t repetition, std::string* chunk) const;
  uint64_t Shifted(const Message& message, size_t column, size_t row, uint64_t repetition) const;

  std::vector<RecordedChunk> chunks_;
  uint64_t events_ = 0;
  uint64_t first_ns_ = ~uint64_t{0};
  uint64_t last_ns_ = 0;
  uint64_t batches_ = 0;
  std::map<std::pair<uint64_t, size_t>, uint64_t> counted_;  // by processor and column
};

bool IsEvent(EventKind kind) {
  return kind == EventKind::kGpuFaults || kind == EventKind::kReplays || kind == EventKind::kCpuFaults ||
         kind == EventKind::kMigrations || kind == EventKind::kRegionEvents;
}

// Cumulative, and nothing that the cost of reading events depends on.
bool IsOnce(EventKind kind) {
  return kind == EventKind::kThreadSamples || kind == EventKind::kProcessSamples || kind == EventKind::kToolSamples ||
         kind == EventKind::kLinkSamples || kind == EventKind::kAllocationFailures;
}

bool Repeater::Read(const char* path) {
  analyzer::ChunkReader reader;
  if (const analyzer::Status status = reader.Open(path); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return false;
  }
  analyzer::ChunkFrame frame;
  while (reader.Next(&frame)) {
    RecordedChunk& chunk = chunks_.emplace_back();
    protozero::pbf_reader fields(frame.fields.data(), frame.fields.size());
    while (fields.next()) AddField(&fields, &chunk);
  }
  return events_ > 0;
}

void Repeater::AddField(protozero::pbf_reader* reader, RecordedChunk* chunk) {
  const uint32_t field = reader->tag();
  if (const auto kind = analyzer::KindOfField(field)) {
    const auto view = reader->get_view();
    Message& message = chunk->messages.emplace_back();
    message.kind = *kind;
    analyzer::CheckColumns(*kind, {view.data(), view.size()});
    analyzer::DecodeColumns(*kind, {view.data(), view.size()}, &message.batch);
    Measure(message);
    return;
  }
  if (reader->wire_type() == protozero::pbf_wire_type::varint) {
    const uint64_t value = reader->get_uint64();
    if (field != kWrittenField && field != kRestartField) Number(&chunk->definitions, field, value);
    return;
  }
  if (reader->wire_type() != protozero::pbf_wire_type::length_delimited) return reader->skip();
  const auto view = reader->get_view();
  Blob(field == kEndField ? &chunk->end : &chunk->definitions, field, {view.data(), view.size()});
}

void Repeater::Measure(const Message& message) {
  const ColumnBatch& batch = message.batch;
  if (IsEvent(message.kind)) events_ += batch.rows;
  for (size_t row = 0; row < batch.rows; ++row) {
    if (message.kind == EventKind::kClockSamples) {
      first_ns_ = std::min(first_ns_, batch[analyzer::clock_samples::kMonotonic][row]);
      last_ns_ = std::max(last_ns_, batch[analyzer::clock_samples::kMonotonic][row]);
    } else if (message.kind == EventKind::kGpuFaults) {
      batches_ = std::max(batches_, batch[analyzer::gpu_faults::kBatch][row] + 1);
    } else if (message.kind == EventKind::kCounterSamples) {
      for (size_t column = 1; column < analyzer::counter_samples::kProcessor; ++column) {
        uint64_t& sum = counted_[{batch[analyzer::counter_samples::kProcessor][row], column}];
        sum = std::max(sum, batch[column][row]);
      }
    }
  }
}

uint64_t Repeater::Shifted(const Message& message, size_t column, size_t row, uint64_t repetition) const {
  const uint64_t value = message.batch[column][row];
  const bool is_clock = message.kind == EventKind::kClockSamples;
  if (column == 0 || is_clock) return is_clock && value == 0 ? 0 : value + repetition * (last_ns_ - first_ns_ + 1);
  if ((message.kind == EventKind::kGpuFaults && column == analyzer::gpu_faults::kBatch) ||
      (message.kind == EventKind::kReplays && column == analyzer::replays::kBatch)) {
    return static_cast<uint32_t>(value + repetition * batches_);
  }
  if (message.kind == EventKind::kCounterSamples && column < analyzer::counter_samples::kProcessor)
    return value + repetition * counted_.at({message.batch[analyzer::counter_samples::kProcessor][row], column});
  return value;
}

void Repeater::Encode(const Message& message, uint64_t repetition, std::string* chunk) const {
  const ColumnLayout& layout = analyzer::LayoutOf(message.kind);
  std::string fields;
  if (layout.has_clock) {
    Number(&fields, 1, static_cast<uint64_t>(message.batch.clock));
    Number(&fields, 2, message.batch.source);
  }
  for (size_t column = 0; column < layout.columns; ++column) {
    std::string packed;
    uint64_t previous = 0;
    for (size_t row = 0; row < message.batch.rows; ++row) {
      const uint64_t value = Shifted(message, column, row, repetition);
      const uint64_t coded = layout.coding[column] == Coding::kDelta    ? ZigZag(static_cast<int64_t>(value - previous))
                             : layout.coding[column] == Coding::kSigned ? ZigZag(static_cast<int64_t>(value))
                                                                        : value;
      Varint(&packed, coded);
      previous = value;
    }
    Blob(&fields, layout.first_field + static_cast<uint32_t>(column), packed);
  }
  Blob(chunk, layout.chunk_field, fields);
}

void Repeater::Write(std::FILE* file, uint64_t events) {
  Writer writer(file);
  std::string end;
  for (uint64_t repetition = 0, written = 0; written < events; ++repetition, written += events_) {
    for (const RecordedChunk& recorded : chunks_) {
      std::string chunk;
      if (repetition == 0) chunk = recorded.definitions;
      for (const Message& message : recorded.messages) {
        if (repetition == 0 || !IsOnce(message.kind)) Encode(message, repetition, &chunk);
      }
      if (!recorded.end.empty()) end = recorded.end;
      if (!chunk.empty()) writer.Chunk(chunk);
    }
  }
  if (!end.empty()) writer.Chunk(end);
}

int Main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: uvmtrace_repeat_trace RECORDED FILE EVENTS\n");
    return 2;
  }
  Repeater repeater;
  if (!repeater.Read(argv[1])) return 1;
  std::FILE* const file = std::fopen(argv[2], "wb");
  if (file == nullptr) {
    std::perror(argv[2]);
    return 1;
  }
  repeater.Write(file, static_cast<uint64_t>(std::strtod(argv[3], nullptr)));
  return std::fclose(file) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace uvmtrace::analyzer_bench

int main(int argc, char** argv) { return uvmtrace::analyzer_bench::Main(argc, argv); }
