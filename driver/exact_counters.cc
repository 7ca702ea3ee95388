// See exact_counters.h.
#include "driver/exact_counters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "driver/proc_file.h"
#include "driver/tools_advice.h"
#include "record/diagnostics.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr const char* kSource = "exact_counters";
// No process moves an exabyte: such a value is no counter.
constexpr uint64_t kImplausible = uint64_t{1} << 60;
constexpr size_t kRecorded[] = {kHostToDeviceBytesIndex, kDeviceToHostBytesIndex, kCpuFaultsIndex, kGpuFaultsIndex};

constinit std::atomic<uint64_t> g_last_host_to_device{0};
constinit std::atomic<uint64_t> g_last_device_to_host{0};
constinit std::atomic<uint64_t> g_last_gpu_faults{0};
constinit std::atomic<bool> g_last_known{false};

void TellUnavailable(const char* reason) {
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kUnavailable, reason);
  Log(LogLevel::kInfo, "%s: %s", kSource, reason);
}

}  // namespace

ExactTotals LastExactTotals() {
  ExactTotals totals;
  totals.known = g_last_known.load(std::memory_order_acquire);
  totals.host_to_device_bytes = g_last_host_to_device.load(std::memory_order_relaxed);
  totals.device_to_host_bytes = g_last_device_to_host.load(std::memory_order_relaxed);
  totals.gpu_faults = g_last_gpu_faults.load(std::memory_order_relaxed);
  return totals;
}

// A tracker that refused an address space is no good for another one: each attempt has its own descriptor.
bool ExactCounters::OpenTracker(int va_space, size_t page, Refusal* refusal) {
  *refusal = Refusal();
  ToolsAnswer& answer = refusal->answer;
  if (tracker_count_ == kMaxTrackers) return false;
  ToolsDescriptor& descriptor = trackers_[tracker_count_];
  if (!descriptor.Open(*calls_)) {
    answer.error = errno;
    refusal->no_device = true;
    return false;
  }
  ToolsTrackerRequest request;
  request.control = pages_[page].words;
  request.gpu = page > 0 ? &devices_[page - 1] : nullptr;
  request.va_space = va_space;
  answer = InitTracker(*calls_, descriptor.number(), request);
  if (answer.ok()) answer = EnableCounters(*calls_, descriptor.number(), kToolsCounterFlags);
  if (!answer.ok()) {
    descriptor.Close();
    return false;
  }
  ++tracker_count_;
  return true;
}

bool ExactCounters::OpenVaSpace(int va_space, Refusal* refusal) {
  if (!OpenTracker(va_space, 0, refusal)) {
    va_spaces_.Refuse(va_space);
    return false;
  }
  va_spaces_.Accept(va_space);
  pages_[0].counted = true;
  for (size_t page = 1; page < page_count_; ++page) {
    Refusal device_refusal;
    if (OpenTracker(va_space, page, &device_refusal)) {
      pages_[page].counted = true;
      continue;
    }
    if (refused_device_ >= 0) continue;
    refused_device_ = static_cast<int>(page - 1);
    device_refusal_ = device_refusal;
  }
  return true;
}

void ExactCounters::Open(const ToolsCalls& calls, const DeviceUuid* devices, size_t device_count) {
  char reason[400];
  Close();
  calls_ = &calls;
  refused_device_ = -1;
  device_count = std::min(device_count, kMaxDevices);
  if (device_count > 0) memcpy(devices_, devices, device_count * sizeof(DeviceUuid));
  // The only GPU's counters are the process's: a tracker of its own would count each event once more, in the driver's
  // thread (1 % of a fault-driven phase on an H200).
  only_device_ = device_count == 1;
  page_count_ = only_device_ ? 1 : 1 + device_count;
  page_bytes_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));

  void* const memory =
      mmap(nullptr, page_count_ * page_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  // The driver pins the pages. A child that shared them would make the kernel copy them, here or there, and the
  // counters would go on in pages that nobody reads.
  if (memory == MAP_FAILED || madvise(memory, page_count_ * page_bytes_, MADV_DONTFORK) != 0) {
    snprintf(reason, sizeof reason, "no page of memory for the driver's counters: %s", ErrorText(errno).text);
    if (memory != MAP_FAILED) munmap(memory, page_count_ * page_bytes_);
    return TellUnavailable(reason);
  }
  memset(memory, 0, page_count_ * page_bytes_);
  for (size_t i = 0; i < page_count_; ++i) {
    pages_[i] = Page();
    pages_[i].words = reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(memory) + i * page_bytes_);
  }

  int found[kMaxVaSpaceDescriptors];
  const size_t count = va_spaces_.FindNew(calls, found, kMaxVaSpaceDescriptors);
  Refusal refusal;
  for (size_t i = 0; i < count && !va_spaces_.full(); ++i) {
    if (!va_spaces_.IsKnown(found[i])) OpenVaSpace(found[i], &refusal);
  }
  if (va_spaces_.count() == 0) {
    Close();
    if (count == 0) {
      DescribeNoVaSpace(reason, sizeof reason);
    } else if (refusal.no_device) {
      DescribeNoDevice(refusal.answer.error, reason, sizeof reason);
    } else {
      DescribeRefusal(calls, "a counters tracker", refusal.answer, reason, sizeof reason);
    }
    return TellUnavailable(reason);
  }
  for (size_t i = 0; i < page_count_; ++i) {
    uint64_t values[kToolsCounterCount];
    if (!Read(pages_[i], values)) {
      Close();
      DescribeUnknownInterface(calls, "the driver's first values cannot be counters", reason, sizeof reason);
      return TellUnavailable(reason);
    }
    memcpy(pages_[i].last, values, sizeof values);
  }
  g_last_known.store(true, std::memory_order_release);
  TellActive();
}

void ExactCounters::TellActive() const {
  char reason[400] = "";
  if (va_spaces_.count() > 1) {
    snprintf(reason, sizeof reason, "of %zu address spaces together", va_spaces_.count());
  } else if (refused_device_ >= 0) {
    char refusal[300];
    DescribeRefusal(*calls_, "a tracker of a single GPU", device_refusal_.answer, refusal, sizeof refusal);
    snprintf(reason, sizeof reason, "of the process; not of GPU %d: %s", refused_device_, refusal);
  }
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kActive, reason);
}

void ExactCounters::LookForMore() {
  if (!is_open() || va_spaces_.full()) return;
  int found[kMaxVaSpaceDescriptors];
  const size_t count = va_spaces_.FindNew(*calls_, found, kMaxVaSpaceDescriptors);
  const size_t before = va_spaces_.count();
  Refusal refusal;
  for (size_t i = 0; i < count && !va_spaces_.full(); ++i) {
    if (!va_spaces_.IsKnown(found[i])) OpenVaSpace(found[i], &refusal);
  }
  if (va_spaces_.count() != before) TellActive();
}

bool ExactCounters::Read(const Page& page, uint64_t (&values)[kToolsCounterCount]) {
  for (size_t i = 0; i < kToolsCounterCount; ++i) {
    values[i] = std::atomic_ref<uint64_t>(page.words[i]).load(std::memory_order_relaxed);
  }
  for (const size_t i : kRecorded) {
    if (values[i] >= kImplausible || values[i] < page.last[i]) return false;
  }
  return true;
}

void ExactCounters::Sample(uint64_t now_ns, bool always) {
  if (!is_open()) return;
  for (size_t i = 0; i < tracker_count_; ++i) {
    if (!trackers_[i].StillOurs()) {
      return Stop("the program closed the descriptor; what the driver counted after that is not known");
    }
  }
  for (size_t p = 0; p < page_count_; ++p) {
    Page& page = pages_[p];
    if (!page.counted) continue;
    uint64_t values[kToolsCounterCount];
    if (!Read(page, values)) return Stop("the driver's values ran backwards or out of range: they are no counters");
    bool changed = always;
    for (const size_t i : kRecorded) changed = changed || values[i] != page.last[i];
    if (!changed) continue;
    memcpy(page.last, values, sizeof values);
    CounterSampleEvent event;
    event.time_ns = now_ns;
    event.host_to_device_bytes = values[kHostToDeviceBytesIndex];
    event.device_to_host_bytes = values[kDeviceToHostBytesIndex];
    event.cpu_faults = values[kCpuFaultsIndex];
    event.gpu_faults = values[kGpuFaultsIndex];
    event.processor = p;
    Recorder::Get().Record(event);
    if (p > 0) continue;
    if (only_device_) {
      CounterSampleEvent of_device = event;
      of_device.cpu_faults = 0;  // the driver counts them by the process alone
      of_device.processor = 1;
      Recorder::Get().Record(of_device);
    }
    g_last_host_to_device.store(event.host_to_device_bytes, std::memory_order_relaxed);
    g_last_device_to_host.store(event.device_to_host_bytes, std::memory_order_relaxed);
    g_last_gpu_faults.store(event.gpu_faults, std::memory_order_relaxed);
  }
}

void ExactCounters::Stop(const char* reason) {
  Close();
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kStopped, reason);
  Log(LogLevel::kInfo, "%s: %s", kSource, reason);
}

void ExactCounters::Close() {
  // The descriptors first: their release is what makes the driver let go of the pages.
  bool all_released = true;
  for (size_t i = 0; i < tracker_count_; ++i) all_released = trackers_[i].Close() && all_released;
  tracker_count_ = 0;
  va_spaces_.Close();
  // A descriptor that was taken away may live on as somebody's copy, and the driver still write: the pages stay.
  if (page_count_ > 0 && pages_[0].words != nullptr && all_released) munmap(pages_[0].words, page_count_ * page_bytes_);
  for (Page& page : pages_) page.words = nullptr;
  page_count_ = 0;
  g_last_known.store(false, std::memory_order_release);
}

void ExactCounters::Abandon() {
  for (size_t i = 0; i < tracker_count_; ++i) trackers_[i].Close();
  tracker_count_ = 0;
  va_spaces_.Close();
  for (Page& page : pages_) page.words = nullptr;
  page_count_ = 0;
  g_last_known.store(false, std::memory_order_relaxed);
  g_last_host_to_device.store(0, std::memory_order_relaxed);
  g_last_device_to_host.store(0, std::memory_order_relaxed);
  g_last_gpu_faults.store(0, std::memory_order_relaxed);
}

}  // namespace uvmtrace
