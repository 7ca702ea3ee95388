// The nvidia-uvm driver's own counters of this process: bytes moved each way, CPU faults, GPU faults.
//
// CUPTI's records pass through a queue of fixed length in the driver, and what does not fit is lost without a count.
// The counters are exact and cost about 3 % of the time of a fault-driven phase, so they tell what share CUPTI
// delivered. The driver adds them up in a page of ours that it keeps pinned; reading them is reading memory.
//
// The interface (`/dev/nvidia-uvm-tools`, a "counters tracker") has no version, so nothing is taken for granted: every
// answer is checked, and on any doubt the source state "exact_counters" says why there are no counters, and nothing
// else changes. Source: uvm_ioctl.h and uvm_tools.c of NVIDIA/open-gpu-kernel-modules, the same from 515 to 595.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "record/event.h"

namespace uvmtrace {

inline constexpr unsigned long kToolsInitEventTracker = 56;
inline constexpr unsigned long kToolsEnableCounters = 60;

// Argument of kToolsInitEventTracker.
struct ToolsTracker {
  uint64_t queue = 0;
  uint64_t queue_entries = 0;  // 0: a counters tracker
  uint64_t control = 0;        // the page of counters
  uint8_t processor[16] = {};
  uint32_t all_processors = 0;
  uint32_t va_space_descriptor = 0;
  uint32_t status = 0;  // out
  uint32_t padding = 0;
};
static_assert(sizeof(ToolsTracker) == 56);

// Argument of kToolsEnableCounters.
struct ToolsCounters {
  uint64_t flags = 0;
  uint32_t status = 0;  // out
  uint32_t padding = 0;
};
static_assert(sizeof(ToolsCounters) == 16);

// Bytes each way, CPU faults, prefetched bytes each way, GPU faults.
inline constexpr uint64_t kToolsCounterFlags = 0x1 | 0x2 | 0x4 | 0x80 | 0x100 | 0x200;
// Words of the page.
enum ToolsCounterIndex : size_t {
  kHostToDeviceBytesIndex = 0,
  kDeviceToHostBytesIndex = 1,
  kCpuFaultsIndex = 2,
  kGpuFaultsIndex = 9,
  kToolsCounterCount = 10,
};

// What is asked of the kernel; a test plays the driver with its own.
struct ToolsCalls {
  int (*open_device)();                                              // a descriptor, or -1 with errno
  size_t (*find_va_spaces)(int* descriptors, size_t capacity);       // this process's descriptors of /dev/nvidia-uvm
  int (*control)(int descriptor, unsigned long number, void* data);  // ioctl
};
extern const ToolsCalls kKernelTools;

class ExactCounters {
 public:
  // Opens the tracker and tells the source state. In the thread that makes the first managed allocation, before the
  // memory is handed out, so that no byte is missed.
  void Open(const ToolsCalls& calls);

  // Records the counters if one changed since the last time, or always. Nothing when they are not open.
  void Sample(uint64_t now_ns, bool always);

  void Close();

  // In a forked child: the page does not exist there, and the descriptor's copy is closed, as it would keep the
  // parent's address space in the driver alive.
  void Abandon();

  bool is_open() const { return page_ != nullptr; }

 private:
  bool OpenDevice(const ToolsCalls& calls);
  bool StillOurs() const;
  void ReleaseDescriptor();
  void Stop(const char* reason);
  // False if the words cannot be counters, or ran backwards.
  bool Read(uint64_t (&values)[kToolsCounterCount]) const;

  uint64_t* page_ = nullptr;  // the driver writes into it
  size_t page_bytes_ = 0;
  int descriptor_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  uint64_t last_[kToolsCounterCount] = {};
};

}  // namespace uvmtrace
