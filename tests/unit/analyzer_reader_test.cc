// The reader against damage: whatever happens to a file, what is read was written, and what is missing is counted.
#include <gtest/gtest.h>

#include <random>

#include "analyzer/findings/report_builder.h"
#include "analyzer/present/json.h"
#include "analyzer/present/text.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/chunk_reader.h"
#include "analyzer/read/crc32c.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

struct ReadOutcome {
  bool ok = false;
  std::string message;
  analyzer::ReadStatistics statistics;
  std::vector<uint64_t> sequences;
};

ReadOutcome ReadFrames(const TemporaryFile& file) {
  ReadOutcome outcome;
  analyzer::ChunkReader reader;
  analyzer::Status status = reader.Open(file.path());
  if (status.ok()) {
    analyzer::ChunkFrame frame;
    while (reader.Next(&frame)) outcome.sequences.push_back(frame.sequence);
    status = reader.Finish();
  }
  outcome.ok = status.ok();
  outcome.message = status.message();
  outcome.statistics = reader.statistics();
  return outcome;
}

ReadOutcome ReadFrames(const std::string& bytes) { return ReadFrames(TemporaryFile(bytes)); }

using Sequences = std::vector<uint64_t>;

std::string Frames(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += Frame(std::string("\x28\x01", 2), static_cast<uint64_t>(i));
  return bytes;
}

TEST(Crc32cTest, StandardVectors) {
  EXPECT_EQ(analyzer::Crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(analyzer::Crc32c(std::string(32, '\0').data(), 32), 0x8a9136aau);
  EXPECT_EQ(analyzer::Crc32c("", 0), 0u);
}

TEST(Crc32cTest, InstructionTableAndReferenceAgreeAtEveryLength) {
  std::string bytes;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(analyzer::Crc32c(bytes.data(), bytes.size()), ReferenceCrc32c(bytes));
    EXPECT_EQ(analyzer::Crc32cPortable(bytes.data(), bytes.size()), ReferenceCrc32c(bytes));
    bytes.push_back(static_cast<char>(i * 37));
  }
}

TEST(ChunkReaderTest, ReadsFramesInOrder) {
  const ReadOutcome outcome = ReadFrames(Frames(5));
  EXPECT_TRUE(outcome.ok);
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1, 2, 3, 4}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 0u);
  EXPECT_EQ(outcome.statistics.torn_bytes, 0u);
}

TEST(ChunkReaderTest, PlainVarintLengthIsAccepted) {
  const ReadOutcome outcome = ReadFrames(Frame("\x28\x01", 0, kRunId, false) + Frame("\x28\x01", 1, kRunId, false));
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1}));
}

TEST(ChunkReaderTest, MissingFileNamesTheFileAndTheCure) {
  analyzer::ChunkReader reader;
  const analyzer::Status status = reader.Open("/nonexistent/trace.pb");
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nonexistent/trace.pb: there is no such file."), std::string::npos);
}

TEST(ChunkReaderTest, EmptyFileIsAnError) {
  const ReadOutcome outcome = ReadFrames("");
  EXPECT_FALSE(outcome.ok);
  EXPECT_NE(outcome.message.find("is empty"), std::string::npos);
}

TEST(ChunkReaderTest, FolderIsAnError) {
  analyzer::ChunkReader reader;
  EXPECT_NE(reader.Open("/tmp").message().find("is not a regular file"), std::string::npos);
}

TEST(ChunkReaderTest, OtherFileIsNotATrace) {
  const ReadOutcome outcome = ReadFrames(
      "\x7f"
      "ELF and a lot of other things that are not a trace at all");
  EXPECT_FALSE(outcome.ok);
  EXPECT_NE(outcome.message.find("is not a uvmtrace trace"), std::string::npos);
}

TEST(ChunkReaderTest, LaterVersionIsNamed) {
  const ReadOutcome outcome = ReadFrames(Frame("\x28\x01", 0, kRunId, true, 2) + Frame("\x28\x01", 1, kRunId, true, 2));
  EXPECT_FALSE(outcome.ok);
  EXPECT_NE(outcome.message.find("has trace format version 2; this uvmtrace-report reads version 1"),
            std::string::npos);
}

TEST(ChunkReaderTest, OneForeignVersionAmongOursIsDamage) {
  const ReadOutcome outcome = ReadFrames(Frame("\x28\x01", 0, kRunId, true, 2) + Frame("\x28\x01", 1));
  EXPECT_TRUE(outcome.ok);
  EXPECT_EQ(outcome.sequences, (Sequences{1}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 1u);
}

TEST(ChunkReaderTest, TornTailEndsTheFile) {
  const std::string two = Frames(2);
  const std::string whole = Frames(3);
  for (size_t cut = two.size() + 1; cut < whole.size(); ++cut) {
    const ReadOutcome outcome = ReadFrames(whole.substr(0, cut));
    EXPECT_EQ(outcome.sequences, (Sequences{0, 1})) << cut;
    EXPECT_EQ(outcome.statistics.torn_bytes, cut - two.size()) << cut;
    EXPECT_EQ(outcome.statistics.bad_chunks, 0u) << cut;
  }
}

TEST(ChunkReaderTest, ZeroTailIsATornTail) {
  const ReadOutcome outcome = ReadFrames(Frames(2) + std::string(5000, '\0'));
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1}));
  EXPECT_EQ(outcome.statistics.torn_bytes, 5000u);
  EXPECT_EQ(outcome.statistics.bad_chunks, 0u);
}

TEST(ChunkReaderTest, BadChecksumInTheMiddleSkipsThatChunkOnce) {
  std::string bytes = Frames(5);
  const size_t frame = bytes.size() / 5;
  bytes[2 * frame + frame - 1] ^= 1;
  const ReadOutcome outcome = ReadFrames(bytes);
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1, 3, 4}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 1u);
  EXPECT_EQ(outcome.statistics.torn_bytes, frame);
}

TEST(ChunkReaderTest, TwoNeighbouringBadChunksCountTwice) {
  std::string bytes = Frames(5);
  const size_t frame = bytes.size() / 5;
  bytes[2 * frame + frame - 1] ^= 1;
  bytes[3 * frame + frame - 1] ^= 1;
  const ReadOutcome outcome = ReadFrames(bytes);
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1, 4}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 2u);
}

TEST(ChunkReaderTest, BadLastChunkCounts) {
  std::string bytes = Frames(3);
  bytes.back() ^= 1;
  const ReadOutcome outcome = ReadFrames(bytes);
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 1u);
}

TEST(ChunkReaderTest, GapInTheSequenceIsMissingChunks) {
  const ReadOutcome outcome = ReadFrames(Frame("", 0) + Frame("", 4));
  EXPECT_EQ(outcome.sequences, (Sequences{0, 4}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 3u);
}

TEST(ChunkReaderTest, RepeatedChunkIsNotReadTwice) {
  const ReadOutcome outcome = ReadFrames(Frame("", 0) + Frame("", 1) + Frame("", 1) + Frame("", 2));
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1, 2}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 1u);
}

TEST(ChunkReaderTest, HugeLengthIsDamageNotAnAllocation) {
  std::string bytes = Frames(3);
  const size_t frame = bytes.size() / 3;
  for (int i = 1; i <= 5; ++i) bytes[frame + static_cast<size_t>(i)] = i < 5 ? '\xff' : '\x0f';
  const ReadOutcome outcome = ReadFrames(bytes);
  EXPECT_EQ(outcome.sequences, (Sequences{0, 2}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 1u);
}

TEST(ChunkReaderTest, LengthBeyondTheFileWithIntactChunksBehindItIsDamage) {
  std::string bytes = Frames(3);
  bytes[bytes.size() / 3 + 2] = '\xff';
  const ReadOutcome outcome = ReadFrames(bytes);
  EXPECT_EQ(outcome.sequences, (Sequences{0, 2}));
  EXPECT_EQ(outcome.statistics.bad_chunks, 1u);
}

TEST(ChunkReaderTest, GarbageBeforeTheFirstChunkIsSkipped) {
  const ReadOutcome outcome = ReadFrames("garbage" + Frames(2));
  EXPECT_EQ(outcome.sequences, (Sequences{0, 1}));
  EXPECT_EQ(outcome.statistics.torn_bytes, 7u);
}

TEST(ChunkReaderTest, FramesStraddleBlocksOfTheReader) {
  std::string bytes;
  std::string fields = "\x4a\x80\x80\x20";  // an unknown-sized string field: 512 KiB
  fields.resize(4 + (size_t{512} << 10), 'x');
  for (uint64_t i = 0; i < 9; ++i) bytes += Frame(fields, i);
  const ReadOutcome outcome = ReadFrames(bytes);
  EXPECT_EQ(outcome.sequences.size(), 9u);
  bytes[bytes.size() / 2] ^= 4;
  const ReadOutcome damaged = ReadFrames(bytes);
  EXPECT_EQ(damaged.sequences.size(), 8u);
  EXPECT_EQ(damaged.statistics.bad_chunks, 1u);
}

std::string Fields(const Chunk& chunk) { return chunk.SerializeAsString(); }

TEST(ChunkTest, UnknownFieldsAndEnumValuesAreSkipped) {
  Chunk chunk;
  auto* migrations = chunk.add_migrations();
  migrations->add_start_delta_ns(5);
  migrations->add_cause(static_cast<MigrationCause>(77));
  std::string fields = Fields(chunk);
  fields += std::string("\xf2\x3f\x03xyz", 6);  // field 1022, bytes
  fields += std::string("\xf8\x3f\x07", 3);     // field 1023, varint
  fields += std::string("\xfd\x3e\x01\x02\x03\x04", 6);
  analyzer::Chunk decoded;
  ASSERT_TRUE(analyzer::DecodeChunk(fields, &decoded).ok());
  EXPECT_EQ(decoded.columns[static_cast<size_t>(analyzer::EventKind::kMigrations)].size(), 1u);
}

TEST(ChunkTest, ColumnsThatDisagreeMakeTheChunkBad) {
  Chunk chunk;
  auto* migrations = chunk.add_migrations();
  for (int i = 0; i < 3; ++i) migrations->add_start_delta_ns(1);
  for (int i = 0; i < 2; ++i) migrations->add_bytes(1);
  analyzer::Chunk decoded;
  EXPECT_FALSE(analyzer::DecodeChunk(Fields(chunk), &decoded).ok());
  for (const auto& columns : decoded.columns) EXPECT_TRUE(columns.empty());
}

TEST(ChunkTest, ColumnWithoutTheFirstColumnMakesTheChunkBad) {
  Chunk chunk;
  chunk.add_migrations()->add_bytes(1);
  analyzer::Chunk decoded;
  EXPECT_FALSE(analyzer::DecodeChunk(Fields(chunk), &decoded).ok());
}

TEST(ChunkTest, AbsentColumnsAreZero) {
  Chunk chunk;
  auto* migrations = chunk.add_migrations();
  for (int i = 0; i < 3; ++i) migrations->add_start_delta_ns(7);
  const std::string fields = Fields(chunk);
  analyzer::Chunk decoded;
  ASSERT_TRUE(analyzer::DecodeChunk(fields, &decoded).ok());
  analyzer::ColumnBatch batch;
  analyzer::DecodeColumns(analyzer::EventKind::kMigrations,
                          decoded.columns[static_cast<size_t>(analyzer::EventKind::kMigrations)][0], &batch);
  ASSERT_EQ(batch.rows, 3u);
  EXPECT_EQ(batch[analyzer::migrations::kStart][2], 21u);
  for (size_t column = 1; column < 7; ++column) {
    for (size_t row = 0; row < 3; ++row) EXPECT_EQ(batch[column][row], 0u);
  }
}

// Values of one to ten bytes in any mixture, against libprotobuf's own decoder of the same bytes.
TEST(ChunkTest, ColumnsOfAnyMixtureOfLengthsAreWhatLibprotobufReads) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    Chunk chunk;
    auto* faults = chunk.add_gpu_faults();
    const size_t rows = 1 + random() % 300;
    const unsigned longest = 1 + static_cast<unsigned>(random() % 64);
    const auto any = [&] { return random() >> (64 - (1 + random() % longest)); };
    std::vector<uint64_t> starts;
    std::vector<uint64_t> batches;
    uint64_t start = 0;
    for (size_t row = 0; row < rows; ++row) {
      const uint64_t delta = any();
      faults->add_start_delta_ns(static_cast<int64_t>(delta));
      starts.push_back(start += delta);
      faults->add_batch(static_cast<uint32_t>(any()));
      batches.push_back(faults->batch(static_cast<int>(row)));
      faults->add_device(static_cast<int32_t>(row) - 7);
    }
    const std::string message = faults->SerializeAsString();
    ASSERT_EQ(analyzer::CheckColumns(analyzer::EventKind::kGpuFaults, message), rows);
    analyzer::ColumnBatch batch;
    analyzer::DecodeColumns(analyzer::EventKind::kGpuFaults, message, &batch);
    ASSERT_EQ(batch.rows, rows);
    for (size_t row = 0; row < rows; ++row) {
      ASSERT_EQ(batch[analyzer::gpu_faults::kStart][row], starts[row]) << round << " " << row;
      ASSERT_EQ(batch[analyzer::gpu_faults::kBatch][row], batches[row]) << round << " " << row;
      ASSERT_EQ(static_cast<int64_t>(batch[analyzer::gpu_faults::kDevice][row]), static_cast<int64_t>(row) - 7);
    }
  }
}

TEST(ChunkTest, DecodesWhatLibprotobufEncodesAtTheEdgesOfTheTypes) {
  Chunk chunk;
  auto* calls = chunk.add_api_calls();
  const std::vector<int64_t> starts = {INT64_MIN, INT64_MAX, -1, 0, 1};
  const std::vector<int32_t> locations = {INT32_MIN, INT32_MAX, -1, 0, 1};
  const std::vector<uint64_t> sizes = {0, 127, 128, UINT64_MAX, uint64_t{1} << 63};
  for (int i = 0; i < 5; ++i) {
    calls->add_start_delta_ns(starts[static_cast<size_t>(i)]);
    calls->add_bytes(sizes[static_cast<size_t>(i)]);
    calls->add_result(locations[static_cast<size_t>(i)]);
    calls->add_location(locations[static_cast<size_t>(i)]);
  }
  const std::string fields = Fields(chunk);
  analyzer::Chunk decoded;
  ASSERT_TRUE(analyzer::DecodeChunk(fields, &decoded).ok());
  analyzer::ColumnBatch batch;
  analyzer::DecodeColumns(analyzer::EventKind::kApiCalls,
                          decoded.columns[static_cast<size_t>(analyzer::EventKind::kApiCalls)][0], &batch);
  uint64_t expected = 0;
  for (size_t i = 0; i < 5; ++i) {
    expected += static_cast<uint64_t>(starts[i]);
    EXPECT_EQ(batch[analyzer::api_calls::kStart][i], expected);
    EXPECT_EQ(batch[analyzer::api_calls::kBytes][i], sizes[i]);
    EXPECT_EQ(static_cast<int32_t>(batch[analyzer::api_calls::kResult][i]), locations[i]);
    EXPECT_EQ(static_cast<int64_t>(batch[analyzer::api_calls::kLocation][i]), locations[i]);
  }
}

TEST(ChunkTest, EveryColumnStandsWhereTheSchemaSaysIt) {
  // A layout entry that is off by one would swap two columns silently: compare with the generated descriptors.
  const auto* chunk = Chunk::descriptor();
  for (size_t kind = 0; kind < analyzer::kEventKindCount; ++kind) {
    const auto& layout = analyzer::LayoutOf(static_cast<analyzer::EventKind>(kind));
    const auto* field = chunk->FindFieldByNumber(static_cast<int>(layout.chunk_field));
    ASSERT_NE(field, nullptr);
    const auto* message = field->message_type();
    size_t columns = 0;
    for (int i = 0; i < message->field_count(); ++i) {
      const auto* column = message->field(i);
      if (!column->is_repeated()) continue;
      ASSERT_LT(columns, layout.columns) << message->name();
      EXPECT_EQ(column->number(), static_cast<int>(layout.first_field + columns)) << message->name() << column->name();
      const bool delta = column->name().find("_delta") != std::string::npos;
      const bool zigzag = column->type() == google::protobuf::FieldDescriptor::TYPE_SINT64 ||
                          column->type() == google::protobuf::FieldDescriptor::TYPE_SINT32;
      const analyzer::Coding expected = delta    ? analyzer::Coding::kDelta
                                        : zigzag ? analyzer::Coding::kSigned
                                                 : analyzer::Coding::kUnsigned;
      EXPECT_EQ(layout.coding[columns], expected) << message->name() << "." << column->name();
      ++columns;
    }
    EXPECT_EQ(columns, layout.columns) << message->name();
  }
}

// Reads a file as uvmtrace-report does; nullptr if it is unreadable.
std::unique_ptr<Report> ReportOf(const TemporaryFile& file) {
  analyzer::Run run;
  run.push_back(std::make_unique<analyzer::ProcessModel>());
  if (!run.back()->ReadTrace(file.path()).ok()) return nullptr;
  analyzer::ReportOptions options;
  options.symbols.sysroot = "/nonexistent";
  auto report = std::make_unique<Report>(analyzer::BuildReport(run, options));
  EXPECT_FALSE(analyzer::RenderText(*report, {}).empty());
  EXPECT_GT(analyzer::RenderJson(*report).size(), 3u);
  return report;
}

// No number of a damaged trace is larger than in the whole one: losing chunks can only lose events.
void ExpectNothingInvented(const Report& damaged, const Report& whole) {
  EXPECT_LE(damaged.totals().api_calls(), whole.totals().api_calls());
  EXPECT_LE(damaged.totals().gpu_fault_groups(), whole.totals().gpu_fault_groups());
  EXPECT_LE(damaged.totals().cpu_faults(), whole.totals().cpu_faults());
  EXPECT_LE(damaged.totals().fault_batches(), whole.totals().fault_batches());
  EXPECT_LE(damaged.totals().host_to_device_bytes(), whole.totals().host_to_device_bytes());
  EXPECT_LE(damaged.totals().device_to_host_bytes(), whole.totals().device_to_host_bytes());
  EXPECT_LE(damaged.totals().evicted_bytes(), whole.totals().evicted_bytes());
}

TEST(DamageTest, CutAtEveryByteNeverCrashesNorInvents) {
  const std::string bytes = SampleTrace().Finish();
  TemporaryFile file(bytes);
  const auto whole = ReportOf(file);
  ASSERT_NE(whole, nullptr);
  EXPECT_TRUE(whole->capture().clean_end());
  size_t readable = 0;
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    file.Write(std::string_view(bytes).substr(0, cut));
    const auto report = ReportOf(file);
    if (report == nullptr) continue;
    ++readable;
    EXPECT_FALSE(report->capture().clean_end()) << cut;
    EXPECT_EQ(report->capture().bad_chunks(), 0u) << cut;
    ExpectNothingInvented(*report, *whole);
  }
  EXPECT_GT(readable, bytes.size() / 4);
}

TEST(DamageTest, EverySingleBitFlipNeverCrashesNorInvents) {
  const std::string bytes = SampleTrace().Finish();
  TemporaryFile file(bytes);
  const auto whole = ReportOf(file);
  ASSERT_NE(whole, nullptr);
  for (size_t position = 0; position < bytes.size(); ++position) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[position] = static_cast<char>(damaged[position] ^ (1 << bit));
      file.Write(damaged);
      const auto report = ReportOf(file);
      ASSERT_NE(report, nullptr) << position << ":" << bit;  // the other chunks are intact
      EXPECT_GE(report->capture().bad_chunks() + (report->capture().torn_bytes() > 0), 1u) << position << ":" << bit;
      ExpectNothingInvented(*report, *whole);
    }
  }
}

TEST(DamageTest, NothingOfTheQueueIsInventedEither) {
  const std::string bytes = QueueSampleTrace().Finish();
  TemporaryFile file(bytes);
  const auto whole = ReportOf(file);
  ASSERT_NE(whole, nullptr);
  const auto check = [&](const std::string& damaged, size_t position) {
    file.Write(damaged);
    const auto report = ReportOf(file);
    if (report == nullptr) return;
    ExpectNothingInvented(*report, *whole);
    EXPECT_LE(report->totals().gpu_fault_entries(), whole->totals().gpu_fault_entries()) << position;
    EXPECT_LE(report->totals().fatal_faults(), whole->totals().fatal_faults()) << position;
    EXPECT_LE(report->fault_definitions().all().replays(), whole->fault_definitions().all().replays()) << position;
  };
  for (size_t cut = 0; cut < bytes.size(); ++cut) check(bytes.substr(0, cut), cut);
  for (size_t position = 0; position < bytes.size(); ++position) {
    std::string damaged = bytes;
    damaged[position] = static_cast<char>(damaged[position] ^ (1 << position % 8));
    check(damaged, position);
  }
}

TEST(DamageTest, NoHazardIsInvented) {
  const std::string bytes = HazardSampleTrace().Finish();
  TemporaryFile file(bytes);
  const auto whole = ReportOf(file);
  ASSERT_NE(whole, nullptr);
  ASSERT_EQ(whole->hazards().rows_size(), 7);
  const auto check = [&](const std::string& damaged, size_t position) {
    file.Write(damaged);
    const auto report = ReportOf(file);
    if (report == nullptr) return;
    for (int i = 0; i < report->hazards().checks_size(); ++i) {
      EXPECT_LE(report->hazards().checks(i).found(), whole->hazards().checks(i).found()) << position;
    }
  };
  for (size_t cut = 0; cut < bytes.size(); ++cut) check(bytes.substr(0, cut), cut);
  for (size_t position = 0; position < bytes.size(); ++position) {
    std::string damaged = bytes;
    damaged[position] = static_cast<char>(damaged[position] ^ 0x10);
    check(damaged, position);
  }
}

TEST(DamageTest, MissingChunkInTheMiddleIsCounted) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.EndChunk();
  trace.SkipSequence();
  trace.SkipSequence();
  const TemporaryFile file(trace.Finish());
  const auto report = ReportOf(file);
  ASSERT_NE(report, nullptr);
  EXPECT_EQ(report->capture().bad_chunks(), 2u);
}

TEST(DamageTest, UndecodableChunkWithAGoodChecksumCountsAsBad) {
  const std::string bytes = SampleTrace().Finish();
  const TemporaryFile file(bytes + Frame(std::string("\x1a\x7f", 2), 5) + Frame("", 6));
  const auto report = ReportOf(file);
  ASSERT_NE(report, nullptr);
  EXPECT_EQ(report->capture().bad_chunks(), 1u);
}

TEST(DamageTest, ChunkOfAnotherRunIsNotMixedIn) {
  TraceBuilder trace;
  trace.EndChunk();
  Chunk foreign;
  foreign.mutable_process()->set_pid(999);
  const TemporaryFile file(trace.bytes() + Frame(foreign.SerializeAsString(), 1, kRunId + 1));
  const auto report = ReportOf(file);
  ASSERT_NE(report, nullptr);
  EXPECT_EQ(report->capture().pid(), 100u);
  EXPECT_EQ(report->capture().bad_chunks(), 1u);
}

}  // namespace
}  // namespace uvmtrace::testing
