// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), the check of a chunk. Not masked: unlike LevelDB's logs, a
// chunk never holds the CRC of another one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

// Uses the CPU's instruction where there is one.
uint32_t Crc32c(const void* data, size_t size);

// What Crc32c falls back to.
uint32_t Crc32cSoftware(const void* data, size_t size);

}  // namespace uvmtrace
