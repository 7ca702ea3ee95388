// A field of a protobuf message as the schema has it, or its default.
//
// protozero leaves it to us to check the wire type: a value whose type is not the schema's is skipped, never read.
#pragma once

#include <cstdint>
#include <protozero/pbf_reader.hpp>
#include <string>
#include <string_view>

namespace uvmtrace::analyzer {

inline uint64_t Number(protozero::pbf_reader& reader) {
  if (reader.wire_type() == protozero::pbf_wire_type::varint) return reader.get_uint64();
  reader.skip();
  return 0;
}

inline uint32_t Number32(protozero::pbf_reader& reader) { return static_cast<uint32_t>(Number(reader)); }

// Not get_bool: protozero 1.7.1 may read past the buffer there.
inline bool Boolean(protozero::pbf_reader& reader) { return Number(reader) != 0; }

inline std::string_view Bytes(protozero::pbf_reader& reader) {
  if (reader.wire_type() == protozero::pbf_wire_type::length_delimited) {
    const auto view = reader.get_view();
    return {view.data(), view.size()};
  }
  reader.skip();
  return {};
}

inline std::string Text(protozero::pbf_reader& reader) { return std::string(Bytes(reader)); }

template <typename OnField>
void ForEachField(std::string_view message, OnField on_field) {
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next()) on_field(reader.tag(), reader);
}

}  // namespace uvmtrace::analyzer
