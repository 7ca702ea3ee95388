// Which of the driver's processors is which CUDA device.
#pragma once

#include "driver/queue_reader.h"
#include "driver/tools_interface.h"
#include "driver/tools_requests.h"

namespace uvmtrace {

// Asks the driver about the address space and matches by UUID. A single unmatched GPU is taken for a single unmatched
// device: a MIG slice has another UUID than its GPU. `table` is unchanged if the driver refused. *gpus is how many GPUs
// the driver named, matched or not.
ToolsAnswer ReadProcessorTable(const ToolsCalls& calls, int va_space, const DeviceUuid* devices, size_t device_count,
                               ProcessorTable* table, int* gpus);

}  // namespace uvmtrace
