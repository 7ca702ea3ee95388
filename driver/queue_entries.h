// Entries of the driver's ring, copied out of it, and what may stand in them.
#pragma once

#include <string.h>

#include <cstdint>

#include "driver/tools_interface.h"

namespace uvmtrace {

inline constexpr uint64_t kHighestAddress = uint64_t{1} << 57;
// The driver moves at most a block (2 MiB) at a time, on systems whose GPU shares the page tables a whole range.
inline constexpr uint64_t kLargestBytes = uint64_t{1} << 44;
// Causes, access and fault types of the drivers known are below 16. A later one may add some.
inline constexpr uint8_t kLargestEnumeration = 63;

template <typename Entry>
Entry As(const uint8_t* bytes) {
  static_assert(sizeof(Entry) <= kToolsEntryBytes);
  Entry entry;
  memcpy(&entry, bytes, sizeof entry);
  return entry;
}

inline bool AddressIsGood(uint64_t address) { return address < kHighestAddress; }
inline bool BytesAreGood(uint64_t bytes) { return bytes > 0 && bytes <= kLargestBytes; }

}  // namespace uvmtrace
