// One event ring of the driver: its memory, its descriptor, and what the driver is asked to put into it.
//
// The driver pins the ring and its control page. Neither is inherited by a forked child (MADV_DONTFORK): the kernel
// would copy the pages, here or there, and the driver go on in those that nobody reads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/queue_reader.h"
#include "driver/tools_device.h"
#include "driver/tools_interface.h"
#include "driver/tools_requests.h"

namespace uvmtrace {

class ToolsQueue {
 public:
  // A second's worth of a storm of faults: 64 MiB.
  static constexpr uint32_t kMostEntries = 1u << 20;
  static constexpr uint32_t kFewestEntries = 1u << 14;

  // Memory, tracker, threshold and events, in an address space of the driver. With less memory, or a driver that cannot
  // pin so much, the ring is smaller. On failure false, and `reason` says why; *wrong_va_space tells that another
  // descriptor may do.
  bool Open(const ToolsCalls& calls, int va_space, uint32_t most_entries, uint64_t events, char* reason,
            size_t reason_size, bool* wrong_va_space);

  bool open() const { return memory_ != nullptr; }
  uint32_t entries() const { return entries_; }
  // For poll; -1 when the program took it away.
  int descriptor() const { return descriptor_.StillOurs() ? descriptor_.number() : -1; }
  QueueReader& reader() { return reader_; }
  const QueueReader& reader() const { return reader_; }

  // Switches events on or off.
  ToolsAnswer Enable(uint64_t events);
  ToolsAnswer Disable(uint64_t events);

  // The descriptor, then the memory. What has not been read is gone.
  void Close();
  // In a forked child: the memory does not exist there.
  void Abandon();

 private:
  bool Map(uint32_t entries);
  void Unmap();

  const ToolsCalls* calls_ = nullptr;
  ToolsDescriptor descriptor_;
  void* memory_ = nullptr;  // a page of control, then the ring
  size_t memory_bytes_ = 0;
  size_t page_bytes_ = 0;
  uint32_t entries_ = 0;
  QueueReader reader_;
};

// CLOCK_MONOTONIC_RAW, the driver's clock.
uint64_t MonotonicRawNs();

}  // namespace uvmtrace
