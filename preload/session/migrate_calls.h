// When the driver really does a prefetch: see migrate_calls.cc.
#pragma once

#include <cstddef>

#include "driver/tools_interface.h"

namespace uvmtrace {

// From now on the driver's migrate calls are recorded. `devices` by CUDA ordinal.
void RecordMigrateCalls(const ToolsCalls& calls, const DeviceUuid* devices, size_t device_count);

}  // namespace uvmtrace
