// The part of protobuf's wire format that the trace needs, written without exceptions, malloc or intermediate objects.
//
// A buffer that could not grow remembers it (failed()) and drops what follows: callers encode straight on and look once
// at the end. Zero numbers and empty strings are not written, as proto3 has it, except by the functions that say so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "record/memory.h"

namespace uvmtrace {

enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

inline constexpr size_t kMaxVarintBytes = 10;

inline constexpr uint32_t WireTag(uint32_t field, WireType type) { return field << 3 | static_cast<uint32_t>(type); }

inline constexpr uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}

// Writes at most kMaxVarintBytes and returns the end.
inline uint8_t* PutVarint(uint8_t* out, uint64_t value) {
  while (value >= 0x80) {
    *out++ = static_cast<uint8_t>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// Always five bytes, so that a length can be filled in after what it counts. Readers of protobuf accept the padding.
inline constexpr size_t kPaddedVarintBytes = 5;
inline void PutPaddedVarint(uint8_t* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>((value >> (7 * i)) & 0x7f) | 0x80;
  out[4] = static_cast<uint8_t>(value >> 28);
}

inline void PutFixed32(uint8_t* out, uint32_t value) { memcpy(out, &value, sizeof(value)); }
inline void PutFixed64(uint8_t* out, uint64_t value) { memcpy(out, &value, sizeof(value)); }
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed fields are copied as they lie in memory");

inline constexpr size_t VarintBytes(uint64_t value) {
  size_t bytes = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++bytes;
  }
  return bytes;
}

// The length of the UTF-8 sequence at the start of `text` (RFC 3629: no surrogates, no overlong forms), 0 if it is
// none.
inline size_t Utf8SequenceBytes(const unsigned char* text, size_t available) {
  const unsigned char lead = text[0];
  if (lead < 0x80) return 1;
  const size_t bytes = lead >= 0xc2 && lead <= 0xdf   ? 2
                       : lead >= 0xe0 && lead <= 0xef ? 3
                       : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                      : 0;
  if (bytes == 0 || bytes > available) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((text[i] & 0xc0) != 0x80) return 0;
  }
  if (lead == 0xe0 && text[1] < 0xa0) return 0;
  if (lead == 0xed && text[1] > 0x9f) return 0;
  if (lead == 0xf0 && text[1] < 0x90) return 0;
  if (lead == 0xf4 && text[1] > 0x8f) return 0;
  return bytes;
}

class WireBuffer {
 public:
  constexpr explicit WireBuffer(size_t limit_bytes = SIZE_MAX / 2) : bytes_(limit_bytes) {}

  size_t size() const { return bytes_.size(); }
  uint8_t* data() { return bytes_.data(); }
  const uint8_t* data() const { return bytes_.data(); }
  bool failed() const { return failed_; }
  void Clear() {
    bytes_.Truncate(0);
    failed_ = false;
  }
  // Gives the memory back. There is no destructor that does: buffers live in static storage and outlive exit handlers.
  void Free() {
    bytes_.Free();
    failed_ = false;
  }
  // Takes back everything after `size`, and a failure with it.
  void Truncate(size_t size) {
    bytes_.Truncate(size);
    failed_ = false;
  }

  bool Reserve(size_t extra) {
    if (!failed_ && !bytes_.Reserve(extra)) failed_ = true;
    return !failed_;
  }

  // Only after Reserve(kMaxVarintBytes) for each of them. Returns the bytes written.
  size_t AppendVarintReserved(uint64_t value) {
    uint8_t* start = bytes_.data() + bytes_.size();
    const size_t written = static_cast<size_t>(PutVarint(start, value) - start);
    bytes_.Truncate(bytes_.size() + written);
    return written;
  }

  void AppendVarint(uint64_t value) {
    if (Reserve(kMaxVarintBytes)) AppendVarintReserved(value);
  }
  void AppendRaw(const void* data, size_t size) {
    if (Reserve(size)) bytes_.Append(static_cast<const uint8_t*>(data), size);
  }
  void AppendTag(uint32_t field, WireType type) { AppendVarint(WireTag(field, type)); }

  void Unsigned(uint32_t field, uint64_t value) {
    if (value != 0) UnsignedAlways(field, value);
  }
  void UnsignedAlways(uint32_t field, uint64_t value) {
    AppendTag(field, WireType::kVarint);
    AppendVarint(value);
  }
  void Fixed32Always(uint32_t field, uint32_t value) {
    AppendTag(field, WireType::kFixed32);
    AppendRaw(&value, sizeof(value));
  }
  void Fixed64Always(uint32_t field, uint64_t value) {
    AppendTag(field, WireType::kFixed64);
    AppendRaw(&value, sizeof(value));
  }
  void Bytes(uint32_t field, const void* data, size_t size) {
    if (size == 0) return;
    AppendTag(field, WireType::kLength);
    AppendVarint(size);
    AppendRaw(data, size);
  }
  void String(uint32_t field, std::string_view value) {
    if (!value.empty()) StringAlways(field, value);
  }
  // Bytes that are not UTF-8 (a command line, a path, a thread's name can hold any) become '?': one of them would make
  // protobuf's parsers refuse the whole file.
  void StringAlways(uint32_t field, std::string_view value) {
    AppendTag(field, WireType::kLength);
    AppendVarint(value.size());
    if (!Reserve(value.size())) return;
    const size_t start = size();
    bytes_.Append(reinterpret_cast<const uint8_t*>(value.data()), value.size());
    for (size_t i = 0; i < value.size();) {
      const size_t sequence = Utf8SequenceBytes(data() + start + i, value.size() - i);
      if (sequence == 0) data()[start + i] = '?';
      i += sequence == 0 ? 1 : sequence;
    }
  }

  // A nested message whose length is not known yet. One byte is kept for the length; a message of 128 bytes or more is
  // moved by the one or two bytes that its length needs in addition, which is cheap for definitions.
  size_t BeginMessage(uint32_t field) {
    AppendTag(field, WireType::kLength);
    const uint8_t length = 0;
    AppendRaw(&length, 1);
    return size();
  }
  void EndMessage(size_t body) {
    if (failed_) return;
    const size_t length = size() - body;
    const size_t extra = VarintBytes(length) - 1;
    if (!Reserve(extra)) return;
    if (extra != 0) {
      memmove(data() + body + extra, data() + body, length);
      bytes_.Truncate(size() + extra);
    }
    PutVarint(data() + body - 1, length);
  }

 private:
  GrowableArray<uint8_t> bytes_;
  bool failed_ = false;
};

}  // namespace uvmtrace
