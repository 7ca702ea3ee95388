#include "analyzer/read/columns.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <protozero/pbf_reader.hpp>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

constexpr uint64_t kContinuations = 0x8080808080808080u;
constexpr uint64_t kEndsOfPairs = 0x8000800080008000u;  // of two-byte values, as ~word & kContinuations has them

uint64_t LoadWord(const unsigned char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// The number of varints in a packed field: each ends with a byte below 0x80.
size_t CountVarints(std::string_view bytes) {
  const auto* next = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t left = bytes.size();
  size_t count = 0;
#if defined(__SSE2__)
  // Sixteen bytes at a time: a comparison gives -1 for each that ends a value. Byte-wide sums are emptied before they
  // can overflow.
  const __m128i zero = _mm_setzero_si128();
  while (left >= 16) {
    __m128i ends = zero;
    for (int i = 0; i < 255 && left >= 16; ++i, left -= 16, next += 16) {
      const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(next));
      ends = _mm_sub_epi8(ends, _mm_cmpgt_epi8(block, _mm_set1_epi8(-1)));
    }
    const __m128i sums = _mm_sad_epu8(ends, zero);
    count += static_cast<size_t>(_mm_cvtsi128_si64(sums)) +
             static_cast<size_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(sums, sums)));
  }
#endif
  for (; left > 0; --left) count += *next++ < 0x80;
  if (!bytes.empty() && static_cast<unsigned char>(bytes.back()) >= 0x80)
    throw ColumnError{"a column ends inside a value"};
  return count;
}

// One value, bounded by `end`. Bits beyond the 64th are dropped, as libprotobuf does.
const unsigned char* ReadVarint(const unsigned char* next, const unsigned char* end, uint64_t* value) {
  *value = 0;
  for (unsigned shift = 0; next < end; shift += 7) {
    const uint64_t byte = *next++;
    if (shift < 64) *value |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return next;
}

// The low seven bits of each of the first `length` bytes of a word, length 1 to 8.
struct PortableJoin {
  static uint64_t Join(uint64_t word, unsigned length) {
    word &= ~uint64_t{0} >> (64 - 8 * length) & ~kContinuations;
    word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
    word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
    return (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
  }
};

#if defined(__x86_64__)
// One instruction. Written in assembler because a function that is compiled for BMI2 is not inlined into one that is
// not. The test of the reader holds it to a decoder that goes byte by byte.
struct Bmi2Join {
  static uint64_t Join(uint64_t word, unsigned length) {
    const uint64_t mask = ~uint64_t{0} >> (64 - 8 * length) & ~kContinuations;
    uint64_t joined;
    __asm__("pext %2, %1, %0" : "=r"(joined) : "r"(word), "rm"(mask));
    return joined;
  }
};

// The first two generations of Zen have it in microcode, slower than the other way.
bool HasFastBmi2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("bmi2") != 0 && __builtin_cpu_is("znver1") == 0 && __builtin_cpu_is("znver2") == 0;
}
const bool kHasFastBmi2 = HasFastBmi2();
#endif

template <Coding coding>
uint64_t Decoded(uint64_t value, uint64_t* previous) {
  if constexpr (coding == Coding::kUnsigned) return value;
  value = ZigZag(value);
  if constexpr (coding == Coding::kDelta) value = *previous += value;
  return value;
}

// Appends at most `room` values. Reads whole words while eight bytes are left; most values are one to three bytes long.
template <Coding coding, typename Join>
size_t AppendValues(std::string_view bytes, uint64_t previous, uint64_t* out, size_t room) {
  const auto* next = reinterpret_cast<const unsigned char*>(bytes.data());
  const unsigned char* const end = next + bytes.size();
  uint64_t* const begin = out;
  uint64_t* const full = out + room;
  while (end - next >= 8 && full - out >= 8) {
    const uint64_t word = LoadWord(next);
    const uint64_t ends = ~word & kContinuations;
    if (ends == kContinuations) {
      for (unsigned i = 0; i < 8; ++i) *out++ = Decoded<coding>(word >> (8 * i) & 0x7f, &previous);
      next += 8;
      continue;
    }
    if (ends == kEndsOfPairs) {
      // Differences of times are mostly two bytes long.
      for (unsigned i = 0; i < 4; ++i) {
        const uint64_t pair = word >> (16 * i);
        *out++ = Decoded<coding>((pair & 0x7f) | (pair >> 1 & 0x3f80), &previous);
      }
      next += 8;
      continue;
    }
    if (ends == 0) {
      uint64_t value;
      next = ReadVarint(next, end, &value);
      *out++ = Decoded<coding>(value, &previous);
      continue;
    }
    const auto length = static_cast<unsigned>(std::countr_zero(ends)) / 8 + 1;
    *out++ = Decoded<coding>(Join::Join(word, length), &previous);
    next += length;
  }
  while (next < end && out < full) {
    uint64_t value;
    next = ReadVarint(next, end, &value);
    *out++ = Decoded<coding>(value, &previous);
  }
  return static_cast<size_t>(out - begin);
}

template <typename Join>
size_t AppendCoded(std::string_view bytes, Coding coding, uint64_t previous, uint64_t* out, size_t room) {
  switch (coding) {
    case Coding::kUnsigned:
      return AppendValues<Coding::kUnsigned, Join>(bytes, previous, out, room);
    case Coding::kSigned:
      return AppendValues<Coding::kSigned, Join>(bytes, previous, out, room);
    case Coding::kDelta:
      return AppendValues<Coding::kDelta, Join>(bytes, previous, out, room);
  }
  return 0;
}

// Makes room for so many values, and never less: what is given back would be filled with zeros when it is needed again.
uint64_t* Room(std::vector<uint64_t>* column, size_t values) {
  if (column->size() < values) column->resize(values);
  return column->data();
}

// Appends the values of a packed field that CountVarints accepted to the first `row` ones. Returns how many there are
// then.
size_t AppendPacked(std::string_view bytes, Coding coding, std::vector<uint64_t>* column, size_t row) {
  const size_t values = CountVarints(bytes);
  const uint64_t previous = row > 0 ? (*column)[row - 1] : 0;
  uint64_t* const out = Room(column, row + values) + row;
#if defined(__x86_64__)
  if (kHasFastBmi2) return row + AppendCoded<Bmi2Join>(bytes, coding, previous, out, values);
#endif
  return row + AppendCoded<PortableJoin>(bytes, coding, previous, out, values);
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

std::optional<EventKind> KindOfField(uint32_t field) {
  for (size_t kind = 0; kind < kEventKindCount; ++kind) {
    if (kLayouts[kind].chunk_field == field) return static_cast<EventKind>(kind);
  }
  return std::nullopt;
}

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

uint32_t SourceOf(EventKind kind, std::string_view message) {
  uint32_t source = 0;
  Walk(
      LayoutOf(kind), message, [](size_t, std::string_view) {}, [](size_t, uint64_t) {},
      [&](uint32_t field, uint64_t value) {
        if (field == 2) source = static_cast<uint32_t>(value);
      });
  return source;
}

void DecodeColumns(EventKind kind, std::string_view message, ColumnBatch* batch, ColumnMask wanted) {
  wanted |= 1;  // the first column has the number of rows
  const ColumnLayout& layout = LayoutOf(kind);
  batch->clock = TimeBase::kMonotonic;
  batch->source = 0;
  std::array<size_t, kMaximumColumns> values{};
  Walk(
      layout, message,
      [&](size_t index, std::string_view bytes) {
        if ((wanted >> index & 1) != 0)
          values[index] = AppendPacked(bytes, layout.coding[index], &batch->columns[index], values[index]);
      },
      [&](size_t index, uint64_t value) {
        if ((wanted >> index & 1) == 0) return;
        uint64_t* const column = Room(&batch->columns[index], values[index] + 1);
        if (layout.coding[index] != Coding::kUnsigned) value = ZigZag(value);
        if (layout.coding[index] == Coding::kDelta && values[index] > 0) value += column[values[index] - 1];
        column[values[index]++] = value;
      },
      [&](uint32_t field, uint64_t value) {
        if (field == 1) batch->clock = value < kTimeBaseCount ? static_cast<TimeBase>(value) : TimeBase::kUnknown;
        if (field == 2) batch->source = static_cast<uint32_t>(value);
      });
  batch->rows = values[0];
  for (size_t index = 1; index < layout.columns; ++index) {
    if ((wanted >> index & 1) == 0 || values[index] >= batch->rows) continue;
    uint64_t* const column = Room(&batch->columns[index], batch->rows);
    std::fill(column + values[index], column + batch->rows, 0);
  }
}

}  // namespace uvmtrace::analyzer
