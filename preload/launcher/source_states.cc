// See source_states.h.
#include "preload/launcher/source_states.h"

#include <cstdint>
#include <fstream>
#include <iterator>

namespace uvmtrace::launcher {
namespace {

// The numbers of proto/uvmtrace.proto.
constexpr uint64_t kTraceChunk = 1;
constexpr uint64_t kChunkSourceState = 17;
constexpr uint64_t kName = 1;
constexpr uint64_t kState = 2;
constexpr uint64_t kReason = 3;

struct Field {
  uint64_t number = 0;
  uint64_t value = 0;
  std::string_view bytes;
};

bool TakeVarint(std::string_view* text, uint64_t* value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && !text->empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(text->front());
    text->remove_prefix(1);
    *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

// False at the end, and where what follows is no field.
bool TakeField(std::string_view* text, Field* field) {
  uint64_t tag = 0;
  if (!TakeVarint(text, &tag)) return false;
  *field = Field();
  field->number = tag >> 3;
  uint64_t length = 0;
  switch (tag & 7) {
    case 0:
      return TakeVarint(text, &field->value);
    case 1:
      length = 8;
      break;
    case 2:
      if (!TakeVarint(text, &length)) return false;
      break;
    case 5:
      length = 4;
      break;
    default:
      return false;
  }
  if (length > text->size()) return false;
  field->bytes = text->substr(0, length);
  text->remove_prefix(length);
  return true;
}

void AddState(std::string_view text, SourceStates* states) {
  std::string name;
  SourceState state;
  for (Field field; TakeField(&text, &field);) {
    if (field.number == kName) name = field.bytes;
    if (field.number == kState) state.kind = static_cast<SourceStateKind>(field.value);
    if (field.number == kReason) state.reason = field.bytes;
  }
  (*states)[name] = state;
}

}  // namespace

SourceStates ParseSourceStates(std::string_view trace) {
  SourceStates states;
  for (Field chunk; TakeField(&trace, &chunk);) {
    if (chunk.number != kTraceChunk) continue;
    for (Field field; TakeField(&chunk.bytes, &field);) {
      if (field.number == kChunkSourceState) AddState(field.bytes, &states);
    }
  }
  return states;
}

SourceStates ReadSourceStates(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  return ParseSourceStates(bytes);
}

}  // namespace uvmtrace::launcher
