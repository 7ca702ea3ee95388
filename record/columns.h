// The columns of one event kind in the chunk that is being built: packed varints, delta-coded where the schema says so.
//
// The first column has every row. Another whose rows are all 0 is left out of the chunk, so what a source never tells
// (stream, location, driver_function) costs no bytes in the file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "record/wire.h"

namespace uvmtrace {

template <size_t N>
class ColumnSet {
 public:
  size_t rows() const { return rows_; }

  // Room for one more row. False: no memory; nothing changed, so the row's event is lost as a whole.
  bool BeginRow() {
    for (Column& column : columns_) {
      if (!column.bytes.Reserve(kMaxVarintBytes)) {
        column.bytes.Truncate(column.bytes.size());
        return false;
      }
    }
    row_bytes_ = 0;
    return true;
  }
  // Bytes that the row took in all columns.
  size_t EndRow() {
    ++rows_;
    return row_bytes_;
  }

  // Each column once in each row. Values are integers or enums.
  template <typename Value>
  void Unsigned(size_t column, Value value) {
    Put(columns_[column], static_cast<uint64_t>(value), static_cast<uint64_t>(value));
  }
  void Signed(size_t column, int64_t value) { Put(columns_[column], ZigZag(value), static_cast<uint64_t>(value)); }
  // The difference to the row before, modulo 2^64: every pair of values has one.
  void Delta(size_t column, uint64_t value) {
    Column& target = columns_[column];
    Put(target, ZigZag(static_cast<int64_t>(value - target.previous)), value);
    target.previous = value;
  }

  // Appends the message and empties the columns, which are the fields from first_field on. `clock` and `source` (fields
  // 1 and 2) are left out where the kind has none.
  void Append(WireBuffer& out, uint32_t chunk_field, uint32_t first_field, uint32_t clock, uint32_t source) {
    if (rows_ == 0) return;
    size_t body_bytes = 0;
    if (clock != 0) body_bytes += 1 + VarintBytes(clock);
    if (source != 0) body_bytes += 1 + VarintBytes(source);
    for (size_t i = 0; i < N; ++i) {
      const size_t tag_bytes = VarintBytes(WireTag(first_field + static_cast<uint32_t>(i), WireType::kLength));
      if (Present(i)) body_bytes += tag_bytes + VarintBytes(columns_[i].bytes.size()) + columns_[i].bytes.size();
    }
    out.AppendTag(chunk_field, WireType::kLength);
    out.AppendVarint(body_bytes);
    out.Unsigned(1, clock);
    out.Unsigned(2, source);
    for (size_t i = 0; i < N; ++i) {
      if (Present(i))
        out.Bytes(first_field + static_cast<uint32_t>(i), columns_[i].bytes.data(), columns_[i].bytes.size());
    }
    Clear();
  }

  void Clear() {
    rows_ = 0;
    for (Column& column : columns_) {
      column.bytes.Clear();
      column.previous = 0;
      column.any = 0;
    }
  }

 private:
  struct Column {
    WireBuffer bytes;
    uint64_t previous = 0;
    uint64_t any = 0;  // all values or-ed together
  };

  void Put(Column& column, uint64_t encoded, uint64_t value) {
    row_bytes_ += column.bytes.AppendVarintReserved(encoded);
    column.any |= value;
  }
  bool Present(size_t column) const { return column == 0 || columns_[column].any != 0; }

  std::array<Column, N> columns_;
  size_t rows_ = 0;
  size_t row_bytes_ = 0;
};

}  // namespace uvmtrace
