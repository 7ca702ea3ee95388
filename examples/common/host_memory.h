// How much memory the host can still give. Managed memory that leaves the GPU needs host pages that cannot be swapped
// out; when they run out the kernel kills processes or hangs inside the driver, so every example asks first and
// refuses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace examples {

struct HostMemory {
  uint64_t available_bytes = 0;
  std::string limited_by;  // "MemAvailable", or the control group whose limit is lower
};

// The smaller of MemAvailable and what the memory control groups (version 1 or 2) of this process leave. `root` stands
// before /proc and /sys, for tests. Empty where /proc/meminfo cannot be read: then nobody knows, and nobody should
// guess.
std::optional<HostMemory> ReadHostMemory(const std::string& root = "");

// Throws Refused unless the host has `needed_bytes` and a margin of 1/16 of it, at least 256 MiB.
void RequireHostMemory(uint64_t needed_bytes, const std::string& purpose, const std::string& root = "");

// 1536 MiB as "1.5 GiB".
std::string FormatBytes(uint64_t bytes);

}  // namespace examples
