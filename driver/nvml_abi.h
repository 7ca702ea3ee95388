// The few types and numbers of NVML (libnvidia-ml.so.1) that are used. nvml.h is not part of every toolkit; its binary
// interface has kept these since driver 450.
#pragma once

#include <cstdint>

namespace uvmtrace {

struct NvmlFieldValue {
  uint32_t field = 0;
  uint32_t scope = 0;
  int64_t timestamp = 0;
  int64_t latency_us = 0;
  uint32_t value_type = 0;
  int32_t result = 0;
  uint64_t value = 0;  // a union: the lower half of an unsigned int
};
static_assert(sizeof(NvmlFieldValue) == 40);

struct NvmlMemory {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t used = 0;
};

namespace nvml {
inline constexpr int kSuccess = 0;
inline constexpr int kNotSupported = 3;
inline constexpr uint32_t kUnsignedInt = 1;
// Bytes over PCIe, packet headers included: 32 bits that wrap.
inline constexpr uint32_t kSentBytes = 197;      // NVML_FI_DEV_PCIE_COUNT_TX_BYTES: device to host
inline constexpr uint32_t kReceivedBytes = 198;  // NVML_FI_DEV_PCIE_COUNT_RX_BYTES: host to device
}  // namespace nvml

}  // namespace uvmtrace
