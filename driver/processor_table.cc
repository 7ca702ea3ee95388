// See processor_table.h.
#include "driver/processor_table.h"

#include <string.h>

#include <algorithm>

namespace uvmtrace {

ToolsAnswer ReadProcessorTable(const ToolsCalls& calls, int va_space, const DeviceUuid* devices, size_t device_count,
                               ProcessorTable* table, int* gpus) {
  DeviceUuid processors[kToolsProcessors];
  *gpus = 0;
  const ToolsAnswer answer = ReadProcessorUuids(calls, va_space, processors);
  if (!answer.ok()) return answer;
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
  *gpus = static_cast<int>(known + strangers);
  return answer;
}

}  // namespace uvmtrace
