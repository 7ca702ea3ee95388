// The wire writer, the CRC and the columns, against libprotobuf and known values.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "record/chunk_encoder.h"
#include "record/chunk_format.h"
#include "record/crc32c.h"
#include "record/wire.h"
#include "record_oracle/trace_oracle.pb.h"

namespace uvmtrace {
namespace {

TEST(Crc32c, KnownValues) {
  // RFC 3720, B.4.
  EXPECT_EQ(Crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0').data(), 32), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff').data(), 32), 0x62a8ab43u);
  EXPECT_EQ(Crc32c("", 0), 0u);
}

TEST(Crc32c, InstructionAndTableAgreeAtEveryLengthAndAlignment) {
  std::string data(300, 0);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 + 7);
  for (size_t start = 0; start < 9; ++start) {
    for (size_t size = 0; size + start <= data.size(); size += 3) {
      ASSERT_EQ(Crc32c(data.data() + start, size), Crc32cSoftware(data.data() + start, size)) << start << " " << size;
    }
  }
}

TEST(Crc32c, SeesEveryFlippedBit) {
  std::string data(64, 'x');
  const uint32_t good = Crc32c(data.data(), data.size());
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    data[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_NE(Crc32c(data.data(), data.size()), good);
    data[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
}

TEST(Wire, VarintLengthsAtTheirLimits) {
  for (int bytes = 1; bytes <= 9; ++bytes) {
    const uint64_t largest = (uint64_t{1} << (7 * bytes)) - 1;
    uint8_t out[kMaxVarintBytes];
    EXPECT_EQ(PutVarint(out, largest) - out, bytes);
    EXPECT_EQ(VarintBytes(largest), size_t(bytes));
    EXPECT_EQ(PutVarint(out, largest + 1) - out, bytes + 1);
    EXPECT_EQ(VarintBytes(largest + 1), size_t(bytes + 1));
  }
  uint8_t out[kMaxVarintBytes];
  EXPECT_EQ(PutVarint(out, UINT64_MAX) - out, 10);
}

TEST(Wire, ZigZagIsProtobufs) {
  EXPECT_EQ(ZigZag(0), 0u);
  EXPECT_EQ(ZigZag(-1), 1u);
  EXPECT_EQ(ZigZag(1), 2u);
  EXPECT_EQ(ZigZag(INT64_MAX), UINT64_MAX - 1);
  EXPECT_EQ(ZigZag(INT64_MIN), UINT64_MAX);
}

TEST(Wire, PaddedLengthIsReadByProtobuf) {
  for (const uint32_t size : {1u, 127u, 128u, 16383u, 16384u, 300000u}) {
    pb::String string;
    string.set_value(std::string(size, 'a'));
    const std::string body = string.SerializeAsString();
    uint8_t head[1 + kPaddedVarintBytes] = {0x4a};  // Chunk.string
    PutPaddedVarint(head + 1, static_cast<uint32_t>(body.size()));
    pb::Chunk chunk;
    ASSERT_TRUE(chunk.ParseFromString(std::string(reinterpret_cast<char*>(head), sizeof(head)) + body));
    EXPECT_EQ(chunk.string(0).value().size(), size);
  }
}

TEST(Wire, NestedMessagesOfEveryLengthClass) {
  for (const size_t size :
       {0u, 1u, 120u, 123u, 124u, 125u, 126u, 127u, 128u, 129u, 16370u, 16381u, 16390u, 3'000'000u}) {
    WireBuffer out;
    const size_t outer = out.BeginMessage(1);
    const size_t inner = out.BeginMessage(chunk_field::kString);
    out.Unsigned(1, 7);
    out.String(2, std::string(size, 'b'));
    out.EndMessage(inner);
    out.Unsigned(chunk_field::kWrittenNs, 99);
    out.EndMessage(outer);
    ASSERT_FALSE(out.failed());
    pb::Trace trace;
    ASSERT_TRUE(trace.ParseFromArray(out.data(), static_cast<int>(out.size()))) << size;
    EXPECT_EQ(trace.chunk(0).string(0).id(), 7u);
    EXPECT_EQ(trace.chunk(0).string(0).value().size(), size);
    EXPECT_EQ(trace.chunk(0).written_ns(), 99u);
    out.Free();
  }
}

TEST(Wire, AFullBufferRemembersAndDropsTheRest) {
  WireBuffer out(2 * kPageBytes);
  out.String(1, std::string(kPageBytes, 'a'));
  EXPECT_FALSE(out.failed());
  const size_t size = out.size();
  out.String(2, std::string(2 * kPageBytes, 'b'));
  EXPECT_TRUE(out.failed());
  out.Unsigned(3, 1);
  const size_t body = out.BeginMessage(4);
  out.EndMessage(body);
  EXPECT_TRUE(out.failed());
  out.Truncate(size);
  EXPECT_FALSE(out.failed());
  EXPECT_EQ(out.size(), size);
  out.Free();
}

TEST(Wire, Utf8) {
  const auto clean = [](const std::string& text) {
    WireBuffer out;
    out.String(2, text);
    pb::String string;
    EXPECT_TRUE(string.ParseFromArray(out.data(), static_cast<int>(out.size())));
    out.Free();
    return string.value();
  };
  EXPECT_EQ(clean("plain"), "plain");
  EXPECT_EQ(clean("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(clean("\xe2\x82"), "??") << "cut in the middle";
  EXPECT_EQ(clean("\xc0\xaf"), "??") << "overlong";
  EXPECT_EQ(clean("\xed\xa0\x80"), "???") << "surrogate";
  EXPECT_EQ(clean("\xf4\x90\x80\x80"), "????") << "beyond U+10FFFF";
  EXPECT_EQ(clean("a\xff"
                  "b"),
            "a?b");
}

TEST(ChunkFrame, FieldsStandWhereTheFormatSays) {
  uint8_t chunk[kChunkFrameBytes] = {};
  PutChunkFrame(chunk, sizeof(chunk), 0x1122334455667788, 42);
  PutFixed32(chunk + kCrcOffset, 0xaabbccdd);
  pb::Trace trace;
  ASSERT_TRUE(trace.ParseFromArray(chunk, sizeof(chunk)));
  ASSERT_EQ(trace.chunk_size(), 1);
  uint64_t magic;
  memcpy(&magic, kMagic, sizeof(magic));
  EXPECT_EQ(trace.chunk(0).magic(), magic);
  EXPECT_EQ(trace.chunk(0).crc32c(), 0xaabbccddu);
  EXPECT_EQ(trace.chunk(0).run_id(), 0x1122334455667788u);
  EXPECT_EQ(trace.chunk(0).sequence(), 42u);
}

TEST(ChunkFields, AreThoseOfTheSchema) {
  const google::protobuf::Descriptor* chunk = pb::Chunk::descriptor();
  const auto number = [&](const char* name) { return uint32_t(chunk->FindFieldByName(name)->number()); };
  EXPECT_EQ(chunk_field::kWrittenNs, number("written_ns"));
  EXPECT_EQ(chunk_field::kDefinitionsRestart, number("definitions_restart"));
  EXPECT_EQ(chunk_field::kEnd, number("end"));
  EXPECT_EQ(chunk_field::kProcess, number("process"));
  EXPECT_EQ(chunk_field::kString, number("string"));
  EXPECT_EQ(chunk_field::kFunction, number("function"));
  EXPECT_EQ(chunk_field::kMapping, number("mapping"));
  EXPECT_EQ(chunk_field::kStack, number("stack"));
  EXPECT_EQ(chunk_field::kThread, number("thread"));
  EXPECT_EQ(chunk_field::kDevice, number("device"));
  EXPECT_EQ(chunk_field::kKernelThread, number("kernel_thread"));
  EXPECT_EQ(chunk_field::kParameter, number("parameter"));
  EXPECT_EQ(chunk_field::kSourceState, number("source_state"));
  EXPECT_EQ(chunk_field::kLoss, number("loss"));
}

std::string CodingOf(const google::protobuf::FieldDescriptor& field) {
  if (field.name().find("_delta") != std::string::npos) return "Delta";
  const bool is_signed = field.type() == google::protobuf::FieldDescriptor::TYPE_SINT64 ||
                         field.type() == google::protobuf::FieldDescriptor::TYPE_SINT32;
  return is_signed ? "Signed" : "Unsigned";
}

// A row of proto/events.inc: a column, or with number 0 the kind that the columns after it belong to.
struct TableRow {
  int number;
  const char* name;
  const char* coding_or_message;
  int field_of_chunk;
  bool clocked;
};
const TableRow kTable[] = {
#define EVENT(kind, message, rows, field_number, clocked) {0, #rows, #message, field_number, clocked},
#define COLUMN(number, name, index, coding, value) {number, #name, #coding, 0, false},
#define END_EVENT(rows)
#include "proto/events.inc"
};

TEST(RecordSchema, EveryRowOfTheTableIsAFieldOfTheSchema) {
  const google::protobuf::Descriptor* message = nullptr;
  int columns = 0;
  for (const TableRow& row : kTable) {
    if (row.number == 0) {
      if (message != nullptr) {
        EXPECT_EQ(columns, message->field_count()) << message->name();
      }
      const auto* field = pb::Chunk::descriptor()->FindFieldByNumber(row.field_of_chunk);
      ASSERT_NE(field, nullptr) << row.name;
      EXPECT_EQ(field->name(), row.name);
      message = field->message_type();
      ASSERT_NE(message, nullptr) << row.name;
      EXPECT_EQ(message->name(), row.coding_or_message);
      columns = row.clocked ? 2 : 0;
      continue;
    }
    const auto* field = message->FindFieldByNumber(row.number);
    ASSERT_NE(field, nullptr) << message->name() << "." << row.name;
    EXPECT_EQ(field->name(), row.name) << message->name();
    EXPECT_EQ(CodingOf(*field), row.coding_or_message) << message->name() << "." << row.name;
    EXPECT_EQ(row.number, ++columns) << message->name() << "." << row.name << ": numbers are consecutive";
  }
  EXPECT_EQ(columns, message->field_count()) << message->name();
}

TEST(ChunkEncoder, RefusesWhatTheSchemaCannotHold) {
  auto encoder = std::make_unique<ChunkEncoder>();
  GpuFaultEvent fault;
  fault.source = static_cast<EventSource>(200);
  EXPECT_FALSE(encoder->Add(EventType::kGpuFault, &fault, sizeof(fault), 0));
  fault.source = EventSource::kCupti;
  fault.clock = static_cast<TimeBase>(9);
  EXPECT_FALSE(encoder->Add(EventType::kGpuFault, &fault, sizeof(fault), 0));
  fault.clock = TimeBase::kCupti;
  EXPECT_FALSE(encoder->Add(EventType::kGpuFault, &fault, sizeof(fault) - 8, 0));
  EXPECT_FALSE(encoder->Add(static_cast<EventType>(77), &fault, sizeof(fault), 0));
  EXPECT_EQ(encoder->rows().Total(), 0u);
  EXPECT_EQ(encoder->DataBytes(), 0u);
  EXPECT_TRUE(encoder->Add(EventType::kGpuFault, &fault, sizeof(fault), 0));
  EXPECT_EQ(encoder->rows().Total(), 1u);
}

TEST(ChunkEncoder, DeltasBeginAgainInEachChunk) {
  auto encoder = std::make_unique<ChunkEncoder>();
  for (int chunk = 0; chunk < 2; ++chunk) {
    ThreadSampleEvent sample = {1'000'000, 5, 6, 7};
    encoder->Add(EventType::kThreadSample, &sample, sizeof(sample), 0);
    WireBuffer out;
    encoder->AppendAndClear(out);
    pb::Chunk parsed;
    ASSERT_TRUE(parsed.ParseFromArray(out.data(), static_cast<int>(out.size())));
    EXPECT_EQ(parsed.thread_samples(0).time_delta_ns(0), 1'000'000);
    EXPECT_EQ(encoder->DataBytes(), 0u);
    out.Free();
  }
}

TEST(ChunkEncoder, AColumnOfZerosIsLeftOutAndTheFirstNever) {
  auto encoder = std::make_unique<ChunkEncoder>();
  for (int i = 0; i < 3; ++i) {
    ProcessSampleEvent sample = {0, 0, i == 2 ? 1u : 0u, 0};
    encoder->Add(EventType::kProcessSample, &sample, sizeof(sample), 0);
  }
  WireBuffer out;
  encoder->AppendAndClear(out);
  pb::Chunk parsed;
  ASSERT_TRUE(parsed.ParseFromArray(out.data(), static_cast<int>(out.size())));
  EXPECT_EQ(parsed.process_samples(0).time_delta_ns_size(), 3);
  EXPECT_EQ(parsed.process_samples(0).user_ns_size(), 0);
  EXPECT_EQ(parsed.process_samples(0).system_ns_size(), 3);
  out.Free();
}

}  // namespace
}  // namespace uvmtrace
