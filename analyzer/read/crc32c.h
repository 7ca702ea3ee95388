// CRC32C (Castagnoli), the checksum of a chunk: see proto/FORMAT.md.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace::analyzer {

// Uses the CPU's instruction where there is one: a trace of gigabytes is checked at memory speed.
uint32_t Crc32c(const void* data, size_t size);

// The portable implementation, for comparison in tests.
uint32_t Crc32cPortable(const void* data, size_t size);

}  // namespace uvmtrace::analyzer
