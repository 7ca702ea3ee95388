// See chunk_encoder.h.
#include "record/chunk_encoder.h"

#include <string.h>

namespace uvmtrace {
namespace {

uint64_t Duration(uint64_t start_ns, uint64_t end_ns) { return end_ns > start_ns ? end_ns - start_ns : 0; }

// PutRow for each kind: its columns in the table's order.
#define EVENT(kind, message, rows, number, clocked)                                                               \
  void PutRow(ColumnSet<kind##Columns::kCount>& row, const kind##Event& event, [[maybe_unused]] uint32_t stack) { \
    size_t column = 0;
#define COLUMN(field, name, index, coding, value) row.coding(column++, value);
#define END_EVENT(rows) }
#include "proto/events.inc"

}  // namespace

const char* LossSource(EventType type) {
  switch (type) {
#define EVENT(kind, message, rows, number, clocked) \
  case EventType::k##kind:                          \
    return #rows;
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"
    case EventType::kFiller:
    case EventType::kEnd:
      break;
  }
  return "recorder";
}

template <typename Event, size_t columns, size_t groups>
size_t ChunkEncoder::AddRow(ColumnSet<columns> (&sets)[groups], const void* bytes, size_t event_bytes, uint32_t stack) {
  if (event_bytes != sizeof(Event)) return 0;
  Event event;
  memcpy(&event, bytes, sizeof(Event));  // the ring's memory holds bytes, not objects
  size_t group = 0;
  if constexpr (groups > 1) {
    const size_t source = static_cast<size_t>(event.source);
    const size_t clock = static_cast<size_t>(event.clock);
    if (source >= kSources || clock >= kClocks) return 0;
    group = source * kClocks + clock;
  }
  ColumnSet<columns>& row = sets[group];
  if (!row.BeginRow()) return 0;
  PutRow(row, event, stack);
  return row.EndRow();
}

bool ChunkEncoder::Add(EventType type, const void* event, size_t event_bytes, uint32_t stack) {
  size_t row_bytes = 0;
  switch (type) {
#define EVENT(kind, message, rows, number, clocked)                      \
  case EventType::k##kind:                                               \
    row_bytes = AddRow<kind##Event>(kind##_, event, event_bytes, stack); \
    break;
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"
    case EventType::kFiller:
    case EventType::kEnd:
      break;
  }
  if (row_bytes == 0) return false;
  data_bytes_ += row_bytes;
  ++rows_.of[static_cast<int>(type)];
  return true;
}

bool ChunkEncoder::Prepare(EventType type) {
  switch (type) {
#define EVENT(kind, message, rows, number, clocked) \
  case EventType::k##kind:                          \
    return kind##_[0].BeginRow();
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"
    case EventType::kFiller:
    case EventType::kEnd:
      break;
  }
  return false;
}

template <size_t columns, size_t groups>
void ChunkEncoder::Append(ColumnSet<columns> (&sets)[groups], uint32_t chunk_field, WireBuffer& out) {
  for (uint32_t group = 0; group < groups; ++group) {
    if constexpr (groups > 1) {
      sets[group].Append(out, chunk_field, 3, group % kClocks, group / kClocks);
    } else {
      sets[group].Append(out, chunk_field, 1, 0, 0);
    }
  }
}

void ChunkEncoder::AppendAndClear(WireBuffer& out) {
#define EVENT(kind, message, rows, number, clocked) Append(kind##_, number, out);
#define COLUMN(field, name, index, coding, value)
#define END_EVENT(rows)
#include "proto/events.inc"
  rows_ = {};
  data_bytes_ = 0;
}

}  // namespace uvmtrace
