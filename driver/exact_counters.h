// The nvidia-uvm driver's own counters of this process: bytes moved each way, CPU faults, GPU faults.
//
// Events pass through a queue of fixed length in the driver, and what does not fit is lost. The counters are exact and
// cost about 3 % of the time of a fault-driven phase, so they tell what share the events are. The driver adds them up
// in pages of ours that it keeps pinned; reading them is reading memory.
//
// There is one page for the process and one for each CUDA device where there are several. Every address space of the
// process that the driver knows has trackers of its own, all adding to the same pages. On any doubt about the interface
// the source state "exact_counters" says why there are no counters, and nothing else changes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/tools_device.h"
#include "driver/tools_interface.h"
#include "driver/tools_requests.h"

namespace uvmtrace {

class ExactCounters {
 public:
  // Opens the trackers and tells the source state. In the thread that makes the first managed allocation, before the
  // memory is handed out, so that no byte is missed.
  void Open(const ToolsCalls& calls, const DeviceUuid* devices = nullptr, size_t device_count = 0);

  // Opens trackers for address spaces that came since: a second CUDA library, or CUDA that was opened anew.
  void LookForMore();

  // Records the counters that changed since the last time, or all.
  void Sample(uint64_t now_ns, bool always);

  void Close();

  // In a forked child: the pages do not exist there, and the descriptors' copies are closed, as they would keep the
  // parent's address space in the driver alive.
  void Abandon();

  bool is_open() const { return tracker_count_ > 0; }

 private:
  static constexpr size_t kMaxPages = 1 + kMaxDevices;
  static constexpr size_t kMaxTrackers = kMaxPages * VaSpaces::kMax;

  struct Page {
    uint64_t* words = nullptr;  // the driver writes into it
    uint64_t last[kToolsCounterCount] = {};
    bool counted = false;  // the driver accepted a tracker for it
  };
  struct Refusal {
    ToolsAnswer answer;
    bool no_device = false;
  };

  bool OpenVaSpace(int va_space, Refusal* refusal);
  bool OpenTracker(int va_space, size_t page, Refusal* refusal);
  void TellActive() const;
  void Stop(const char* reason);
  // False if the words cannot be counters, or ran backwards.
  static bool Read(const Page& page, uint64_t (&values)[kToolsCounterCount]);

  const ToolsCalls* calls_ = nullptr;
  DeviceUuid devices_[kMaxDevices];
  size_t page_count_ = 0;
  size_t page_bytes_ = 0;
  Page pages_[kMaxPages];
  ToolsDescriptor trackers_[kMaxTrackers];
  size_t tracker_count_ = 0;
  VaSpaces va_spaces_;
  bool only_device_ = false;
  int refused_device_ = -1;  // by a driver that knows it otherwise
  Refusal device_refusal_;
};

// What the process's counters were when they were sampled last; zero without counters. Any thread.
struct ExactTotals {
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t gpu_faults = 0;
  bool known = false;
};
ExactTotals LastExactTotals();

}  // namespace uvmtrace
