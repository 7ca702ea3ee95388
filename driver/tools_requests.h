// Every request that the recorder makes of /dev/nvidia-uvm-tools, and the only file that knows the driver's branches.
//
// The interface has no version number that could be asked for. The argument of INIT_EVENT_TRACKER and that of
// GET_PROCESSOR_UUID_TABLE differ between branches (docs/driver_branches.md has the table), so each is sent in one form
// that every branch takes, and the answer is looked for where that branch puts it. scripts/check_driver_abi compares
// what is assumed here with the driver's own headers.
#pragma once

#include <cstdint>

#include "driver/tools_interface.h"

namespace uvmtrace {

// The first and the last branch whose headers were compared.
inline constexpr int kOldestKnownDriver = 515;
inline constexpr int kNewestKnownDriver = 595;

// What the driver said to a request: errno of the system call, else its own status (NV_STATUS).
struct ToolsAnswer {
  int error = 0;
  uint32_t status = 0;

  bool ok() const { return error == 0 && status == 0; }
  bool short_of_memory() const;
};

// What a tracker is to be: a ring of events, or with `entries` 0 a page of counters.
struct ToolsTrackerRequest {
  void* queue = nullptr;
  uint32_t entries = 0;
  void* control = nullptr;          // ToolsControl, or the page of counters
  const DeviceUuid* gpu = nullptr;  // counters of this GPU alone; null: of all processors
  int va_space = -1;
};

// These go to a descriptor of the tools device.
ToolsAnswer InitTracker(const ToolsCalls& calls, int tools, const ToolsTrackerRequest& request);
ToolsAnswer SetThreshold(const ToolsCalls& calls, int tools, uint32_t entries);
ToolsAnswer EnableEvents(const ToolsCalls& calls, int tools, uint64_t events);
ToolsAnswer DisableEvents(const ToolsCalls& calls, int tools, uint64_t events);
ToolsAnswer EnableCounters(const ToolsCalls& calls, int tools, uint64_t counters);

// These go to a descriptor of an address space.
ToolsAnswer FlushEvents(const ToolsCalls& calls, int va_space);
// UUIDs by the driver's number of the processor; zeros where there is none.
ToolsAnswer ReadProcessorUuids(const ToolsCalls& calls, int va_space, DeviceUuid (&uuids)[kToolsProcessors]);

}  // namespace uvmtrace
