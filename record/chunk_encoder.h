// Turns events into the column messages of one chunk. The writer thread's own.
//
// The kinds and their columns are those of proto/events.inc. Definitions are not its business: it is told a stack's id.
#pragma once

#include <cstddef>
#include <cstdint>

#include "record/columns.h"
#include "record/event.h"

namespace uvmtrace {

#define EVENT(kind, message, rows, number, clocked) \
  struct kind##Columns {                            \
    enum Index : size_t {
#define COLUMN(field, name, index, coding, value) index,
#define END_EVENT(rows) \
  kCount                \
  }                     \
  ;                     \
  }                     \
  ;
#include "proto/events.inc"

// The name of an event kind in a Loss: its field in Chunk.
const char* LossSource(EventType type);

class ChunkEncoder {
 public:
  // Rows by EventType.
  struct RowCounts {
    uint64_t of[kEventTypeCount] = {};
    uint64_t Total() const {
      uint64_t total = 0;
      for (const uint64_t count : of) total += count;
      return total;
    }
  };

  // `event` is the struct of the type. False: there was no memory for it, or nothing in the schema could hold it.
  bool Add(EventType type, const void* event, size_t event_bytes, uint32_t stack);

  // Takes the memory for a kind's columns now: an allocation that fails must be recorded when there is no more.
  bool Prepare(EventType type);

  // What the columns hold so far. A message's tags and lengths add a few dozen bytes.
  size_t DataBytes() const { return data_bytes_; }
  const RowCounts& rows() const { return rows_; }

  // Appends every message that has rows and empties the columns.
  void AppendAndClear(WireBuffer& out);

 private:
  // A kind has one set of columns, or one for each (source, clock).
  static constexpr size_t kSources = 3;
  static constexpr size_t kClocks = 4;

  template <typename Event, size_t columns, size_t groups>
  static size_t AddRow(ColumnSet<columns> (&sets)[groups], const void* bytes, size_t event_bytes, uint32_t stack);
  template <size_t columns, size_t groups>
  static void Append(ColumnSet<columns> (&sets)[groups], uint32_t chunk_field, WireBuffer& out);

#define EVENT(kind, message, rows, number, clocked) \
  ColumnSet<kind##Columns::kCount> kind##_[(clocked) ? kSources * kClocks : 1];
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"

  RowCounts rows_;
  size_t data_bytes_ = 0;
};

}  // namespace uvmtrace
