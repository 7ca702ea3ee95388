// Columns of events: packed protobuf fields decoded into arrays of 64-bit words.
//
// One ColumnLayout describes each column message of proto/uvmtrace.proto: which fields are columns, and how each is
// coded. A ColumnBatch holds the decoded rows of one such message and is reused for the next, so that decoding
// allocates nothing once it has seen the largest chunk.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace uvmtrace::analyzer {

enum class TimeBase : uint8_t { kMonotonic = 0, kRealtime = 1, kMonotonicRaw = 2, kCupti = 3, kUnknown = 4 };
inline constexpr int kTimeBaseCount = 4;  // those that a trace can name

// The kinds of proto/events.inc, in its order.
enum class EventKind : uint8_t {
#define EVENT(kind, message, rows, number, clocked) k##message,
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"
  kEnd
};
inline constexpr size_t kEventKindCount = static_cast<size_t>(EventKind::kEnd);

// Indexes of a kind's columns: api_calls::kStart is the first of ApiCalls.
#define EVENT(kind, message, rows, number, clocked) \
  namespace rows {                                  \
  enum Column {
#define COLUMN(field, name, index, coding, value) index,
#define END_EVENT(rows) \
  kColumns              \
  }                     \
  ;                     \
  }
#include "proto/events.inc"

inline constexpr size_t kMaximumColumns = 18;

enum class Coding : uint8_t {
  kUnsigned,  // varint
  kSigned,    // zigzag varint
  kDelta,     // zigzag varint, the difference to the row before
};

struct ColumnLayout {
  uint32_t chunk_field;  // of the message in Chunk
  uint32_t first_field;  // of the first column; the others follow in order
  bool has_clock;        // fields 1 and 2 are clock and source
  std::array<Coding, kMaximumColumns> coding;
  size_t columns;
};

const ColumnLayout& LayoutOf(EventKind kind);
// Of a field of Chunk; nothing if it is no column message.
std::optional<EventKind> KindOfField(uint32_t field);

struct ColumnBatch {
  TimeBase clock = TimeBase::kMonotonic;
  uint32_t source = 0;
  size_t rows = 0;
  std::array<std::vector<uint64_t>, kMaximumColumns> columns;  // at least `rows` long, if it was wanted

  std::span<const uint64_t> operator[](size_t column) const { return {columns[column].data(), rows}; }
};

// Both throw protozero::exception on bytes that are no protobuf, and ColumnError on columns that disagree.
struct ColumnError {
  const char* what;
};

// Checks a message without decoding it: after this, DecodeColumns succeeds. Returns the number of rows.
size_t CheckColumns(EventKind kind, std::string_view message);

// Columns that are not in `wanted` (bit n is column n) are not decoded: their spans must not be read.
using ColumnMask = uint32_t;
inline constexpr ColumnMask kAllColumns = ~ColumnMask{0};

// What ColumnBatch::source will be.
uint32_t SourceOf(EventKind kind, std::string_view message);

void DecodeColumns(EventKind kind, std::string_view message, ColumnBatch* batch, ColumnMask wanted = kAllColumns);

}  // namespace uvmtrace::analyzer
