// Values of a trace's columns, which damage may have made anything.
#pragma once

#include <cstdint>
#include <limits>

#include "analyzer/model/kinds.h"

namespace uvmtrace::analyzer {

// CUDA numbers devices from 0; anything beyond this is damage, which must not become a table of its own.
inline constexpr int32_t kMaximumDevices = 1024;

inline uint64_t SaturatingAdd(uint64_t a, uint64_t b) {
  return a + b < a ? std::numeric_limits<uint64_t>::max() : a + b;
}

inline int32_t DeviceOrdinal(uint64_t value) {
  const auto ordinal = static_cast<int64_t>(value);
  if (ordinal <= -3) return kCpu;  // a NUMA node of the host
  return ordinal >= kCpu && ordinal < kMaximumDevices ? static_cast<int32_t>(ordinal) : kUnknownDevice;
}

}  // namespace uvmtrace::analyzer
