// See processor_table.h.
#include "driver/processor_table.h"

#include <string.h>

#include <algorithm>

namespace uvmtrace {
namespace {

// More than any driver writes, see ToolsProcessorTable.
constexpr size_t kTableEntries = 512;

}  // namespace

int ReadProcessorTable(const ToolsCalls& calls, int va_space, const DeviceUuid* devices, size_t device_count,
                       ProcessorTable* table) {
  DeviceUuid processors[kTableEntries];
  ToolsProcessorTable request;
  request.table = reinterpret_cast<uint64_t>(processors);
  if (calls.control(va_space, kToolsGetProcessorTable, &request) != 0) return -1;
  ProcessorTable found;
  const DeviceUuid none;
  bool matched[kMaxDevices] = {};
  size_t strangers = 0;
  size_t stranger = 0;
  size_t known = 0;
  device_count = std::min(device_count, kMaxDevices);
  for (size_t i = 1; i < kToolsProcessors; ++i) {
    if (memcmp(&processors[i], &none, sizeof none) == 0) continue;
    bool is_device = false;
    for (size_t ordinal = 0; ordinal < device_count && !is_device; ++ordinal) {
      if (memcmp(&processors[i], &devices[ordinal], sizeof none) != 0) continue;
      found.device[i] = static_cast<int16_t>(ordinal);
      matched[ordinal] = true;
      is_device = true;
      ++known;
    }
    if (is_device) continue;
    ++strangers;
    stranger = i;
  }
  if (strangers == 1 && known + 1 == device_count) {
    const bool* const left = std::find(matched, matched + device_count, false);
    found.device[stranger] = static_cast<int16_t>(left - matched);
  }
  *table = found;
  return static_cast<int>(known + strangers);
}

}  // namespace uvmtrace
