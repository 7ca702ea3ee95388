#include "analyzer/read/columns.h"

#include <algorithm>
#include <protozero/pbf_reader.hpp>

#include "proto/schema.h"

namespace uvmtrace::analyzer {
namespace {

// The recorder writes chunks of about 256 KiB; more rows than this in one message is an attack on our memory, since an
// absent column costs the file nothing and us eight bytes a row.
constexpr size_t kMaximumRows = size_t{1} << 21;

constexpr std::array<ColumnLayout, kEventKindCount> kLayouts = {{
#define EVENT(kind, message, rows, number, clocked) \
  {                                                 \
    number, (clocked) ? 3 : 1, clocked, {
#define COLUMN(field, name, index, coding, value) Coding::k##coding,
#define END_EVENT(rows) \
  }                     \
  , rows::kColumns      \
  }                     \
  ,
#include "proto/events.inc"
}};

uint64_t ZigZag(uint64_t value) { return (value >> 1) ^ (~(value & 1) + 1); }

// The number of varints in a packed field: each ends with a byte below 0x80.
size_t CountVarints(std::string_view bytes) {
  size_t count = 0;
  for (const char byte : bytes) count += static_cast<unsigned char>(byte) < 0x80;
  if (!bytes.empty() && static_cast<unsigned char>(bytes.back()) >= 0x80)
    throw ColumnError{"a column ends inside a value"};
  return count;
}

// Appends the values of a packed field that CountVarints accepted, so its last byte ends a value. One byte a value is
// by far the most frequent. Bits beyond the 64th are dropped, as libprotobuf does.
void AppendPacked(std::string_view bytes, Coding coding, std::vector<uint64_t>* column) {
  const auto* next = reinterpret_cast<const unsigned char*>(bytes.data());
  const unsigned char* const end = next + bytes.size();
  size_t row = column->size();
  // As many values as bytes is the most there can be.
  column->resize(row + bytes.size());
  uint64_t* out = column->data() + row;
  uint64_t previous = row > 0 ? out[-1] : 0;
  while (next < end) {
    uint64_t value = *next++;
    if (value >= 0x80) {
      value &= 0x7f;
      unsigned shift = 7;
      while (true) {
        const uint64_t byte = *next++;
        if (shift < 64) value |= (byte & 0x7f) << shift;
        if (byte < 0x80) break;
        shift += 7;
      }
    }
    if (coding != Coding::kUnsigned) {
      value = ZigZag(value);
      if (coding == Coding::kDelta) value = previous += value;
    }
    *out++ = value;
  }
  column->resize(static_cast<size_t>(out - column->data()));
}

std::string_view View(const protozero::data_view& view) { return {view.data(), view.size()}; }

// Calls on_column(index, bytes) for each packed field, on_value(index, value) for each unpacked value: a parser has to
// accept both.
template <typename OnColumn, typename OnValue, typename OnHeader>
void Walk(const ColumnLayout& layout, std::string_view message, OnColumn on_column, OnValue on_value,
          OnHeader on_header) {
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next()) {
    const uint32_t field = reader.tag();
    const auto type = reader.wire_type();
    if (field >= layout.first_field && field < layout.first_field + layout.columns) {
      const size_t index = field - layout.first_field;
      if (type == protozero::pbf_wire_type::length_delimited) {
        on_column(index, View(reader.get_view()));
        continue;
      }
      if (type == protozero::pbf_wire_type::varint) {
        on_value(index, reader.get_uint64());
        continue;
      }
    } else if (layout.has_clock && field < layout.first_field && type == protozero::pbf_wire_type::varint) {
      on_header(field, reader.get_uint64());
      continue;
    }
    reader.skip();
  }
}

}  // namespace

const ColumnLayout& LayoutOf(EventKind kind) { return kLayouts[static_cast<size_t>(kind)]; }

size_t CheckColumns(EventKind kind, std::string_view message) {
  const ColumnLayout& layout = LayoutOf(kind);
  std::array<size_t, kMaximumColumns> rows{};
  Walk(
      layout, message, [&](size_t index, std::string_view bytes) { rows[index] += CountVarints(bytes); },
      [&](size_t index, uint64_t) { ++rows[index]; }, [](uint32_t, uint64_t) {});
  if (rows[0] > kMaximumRows) throw ColumnError{"more rows than a chunk can have"};
  for (size_t index = 1; index < layout.columns; ++index) {
    if (rows[index] != 0 && rows[index] != rows[0]) throw ColumnError{"columns of different lengths"};
  }
  return rows[0];
}

void DecodeColumns(EventKind kind, std::string_view message, ColumnBatch* batch) {
  const ColumnLayout& layout = LayoutOf(kind);
  batch->clock = TimeBase::kMonotonic;
  batch->source = 0;
  for (size_t index = 0; index < layout.columns; ++index) batch->columns[index].clear();
  Walk(
      layout, message,
      [&](size_t index, std::string_view bytes) { AppendPacked(bytes, layout.coding[index], &batch->columns[index]); },
      [&](size_t index, uint64_t value) {
        auto& column = batch->columns[index];
        if (layout.coding[index] != Coding::kUnsigned) value = ZigZag(value);
        if (layout.coding[index] == Coding::kDelta && !column.empty()) value += column.back();
        column.push_back(value);
      },
      [&](uint32_t field, uint64_t value) {
        if (field == 1) batch->clock = value < kTimeBaseCount ? static_cast<TimeBase>(value) : TimeBase::kUnknown;
        if (field == 2) batch->source = static_cast<uint32_t>(value);
      });
  batch->rows = batch->columns[0].size();
  for (size_t index = 1; index < layout.columns; ++index) batch->columns[index].resize(batch->rows, 0);
}

}  // namespace uvmtrace::analyzer
