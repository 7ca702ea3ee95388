// One open /dev/nvidia-uvm-tools: an event queue or a page of counters in the memory of whoever opened it.
//
// The driver pins that memory, so that it may be unmapped at any time; here it becomes a piece of a memory file that is
// mapped a second time. What was in the queue's pages before is lost, and a forked child does not have the pages.
//
// The descriptor is the reading end of a pipe: it has an identity that survives dup, poll() sees what we write, and we
// see when its last copy is closed.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "sim/engine/driver_tools_abi.h"

namespace uvmsim {

// Pages that the caller and we both have.
class PinnedMemory {
 public:
  ~PinnedMemory() { Unpin(); }
  PinnedMemory() = default;
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  // kStatusOk, or why not. Keeps the first `kept` bytes of what is there.
  uint32_t Pin(uint64_t address, size_t bytes, size_t kept);
  void Unpin();
  void* view() const { return view_; }

 private:
  void* view_ = nullptr;
  size_t bytes_ = 0;
};

// A lock of the owner's protects everything.
class EventTracker {
 public:
  // The reading end of the pipe, or -1 with errno.
  int Open();
  ~EventTracker();
  bool Is(const struct stat& descriptor) const { return descriptor.st_dev == device_ && descriptor.st_ino == inode_; }
  // No process has the descriptor any more, or the host has closed our end.
  bool Orphaned() const;

  uint32_t Initialize(const InitEventTrackerArgument& argument);
  bool initialized() const { return initialized_; }
  bool is_queue() const { return initialized_ && entries_ != 0; }
  bool is_counters() const { return initialized_ && entries_ == 0; }

  uint64_t enabled = 0;  // events, or counters: 1 << number

  // Where the event is not enabled: nothing. Where the queue is full: one more in dropped[type].
  void Enqueue(const ToolsEntry& entry);
  void SetThreshold(uint32_t entries);
  // Makes the descriptor readable or not, by the number of unread entries. True if it is readable.
  bool UpdateReadable();

  // `processor` is what the amount is accounted to; `in_total`: also to a tracker of all processors.
  void Count(ToolsCounter counter, uint64_t amount, const uint8_t (&processor)[16], bool in_total = true);

 private:
  bool HasPipe() const;

  int pipe_ = -1;  // the writing end
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool initialized_ = false;
  bool readable_ = false;
  uint32_t entries_ = 0;
  uint32_t threshold_ = 0;
  bool all_processors_ = false;
  uint8_t processor_[16] = {};
  PinnedMemory queue_;
  PinnedMemory control_;  // or the counters
};

}  // namespace uvmsim
