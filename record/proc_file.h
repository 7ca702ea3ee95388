// Reading small files of /proc, whole, without stdio or malloc. errno is not kept: for the recorder's own threads and
// for callers that keep it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "record/wire.h"

namespace uvmtrace {

// Reads at most limit_bytes of the file into `out`, replacing what it held. False if the file cannot be opened or read.
bool ReadProcFile(const char* path, WireBuffer& out, size_t limit_bytes = 8 * 1024 * 1024);

inline std::string_view AsText(const WireBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

// The decimal number at the start of `text`; 0 if there is none.
uint64_t ParseDecimal(std::string_view text);

}  // namespace uvmtrace
