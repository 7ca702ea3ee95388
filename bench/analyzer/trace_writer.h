// Writes chunks of the trace format for the benches: framing and protobuf fields, without the recorder.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "analyzer/read/crc32c.h"

namespace uvmtrace::analyzer_bench {

inline void Varint(std::string* out, uint64_t value) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}
inline void Blob(std::string* out, uint32_t field, const std::string& bytes) {
  Varint(out, field << 3 | 2);
  Varint(out, bytes.size());
  *out += bytes;
}
inline void Number(std::string* out, uint32_t field, uint64_t value) {
  Varint(out, field << 3);
  Varint(out, value);
}
inline uint64_t ZigZag(int64_t value) { return static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63); }

class Writer {
 public:
  explicit Writer(std::FILE* file) : file_(file) {}
  void Chunk(const std::string& fields) {
    std::string rest;
    rest.push_back('\x19');
    Fixed(&rest, 77, 8);
    rest.push_back('\x21');
    Fixed(&rest, sequence_++, 8);
    rest += fields;
    std::string body("\x09UVMTRC\x01\x0a\x15", 10);
    Fixed(&body, uvmtrace::analyzer::Crc32c(rest.data(), rest.size()), 4);
    body += rest;
    std::string head(1, '\x0a');
    for (int i = 0; i < 5; ++i) head.push_back(static_cast<char>((body.size() >> (7 * i) & 0x7f) | (i < 4 ? 0x80 : 0)));
    if (std::fwrite(head.data(), 1, head.size(), file_) != head.size() ||
        std::fwrite(body.data(), 1, body.size(), file_) != body.size()) {
      std::perror("the trace");
      std::exit(1);
    }
  }
  uint64_t sequence() const { return sequence_; }

 private:
  static void Fixed(std::string* out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
  }
  std::FILE* file_;
  uint64_t sequence_ = 0;
};

}  // namespace uvmtrace::analyzer_bench
