// See exact_counters.h.
#include "driver/exact_counters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "driver/directory.h"
#include "driver/proc_file.h"
#include "record/diagnostics.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr const char* kSource = "exact_counters";
constexpr const char* kDevice = "/dev/nvidia-uvm-tools";
constexpr const char* kVaSpaceDevice = "/dev/nvidia-uvm";
// As proc_file.cc: programs are surprised when their next descriptor is not the lowest that they know to be free.
constexpr int kLowestDescriptor = 400;
constexpr size_t kMaxVaSpaces = 64;
// No process moves an exabyte: such a value is no counter.
constexpr uint64_t kImplausible = uint64_t{1} << 60;
constexpr size_t kRecorded[] = {kHostToDeviceBytesIndex, kDeviceToHostBytesIndex, kCpuFaultsIndex, kGpuFaultsIndex};

int OpenToolsDevice() { return open(kDevice, O_RDWR | O_CLOEXEC); }

size_t FindVaSpaces(int* descriptors, size_t capacity) {
  size_t count = 0;
  ForEachEntry("/proc/self/fd", [&](const char* name) {
    char link[64];
    char target[64];
    snprintf(link, sizeof link, "/proc/self/fd/%.20s", name);
    const ssize_t length = readlink(link, target, sizeof target - 1);
    if (length <= 0 || count == capacity) return;
    target[length] = '\0';
    if (strcmp(target, kVaSpaceDevice) == 0) descriptors[count++] = atoi(name);
  });
  return count;
}

int Control(int descriptor, unsigned long number, void* data) { return ioctl(descriptor, number, data); }

void TellUnavailable(const char* reason) {
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kUnavailable, reason);
  Log(LogLevel::kInfo, "%s: %s", kSource, reason);
}

}  // namespace

const ToolsCalls kKernelTools = {&OpenToolsDevice, &FindVaSpaces, &Control};

bool ExactCounters::StillOurs() const {
  struct stat status;
  return descriptor_ >= 0 && fstat(descriptor_, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

void ExactCounters::ReleaseDescriptor() {
  if (StillOurs()) close(descriptor_);
  descriptor_ = -1;
}

// A tracker that refused an address space is no good for another one: each attempt has its own descriptor.
bool ExactCounters::OpenDevice(const ToolsCalls& calls) {
  int opened = calls.open_device();
  if (opened < 0) return false;
  const int high = fcntl(opened, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (high >= 0) {
    close(opened);
    opened = high;
  }
  struct stat status;
  if (fstat(opened, &status) != 0) {
    const int error = errno;
    close(opened);
    errno = error;
    return false;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  descriptor_ = opened;
  return true;
}

void ExactCounters::Open(const ToolsCalls& calls) {
  char reason[400];
  Close();
  if (!OpenDevice(calls)) {
    const int error = errno;
    snprintf(reason, sizeof reason, "%s cannot be opened: %s; %s", kDevice, ErrorText(error).text,
             error == ENOENT || error == ENXIO || error == ENODEV
                 ? "create it with nvidia-modprobe -u -c=0, and give it to the container if there is one (--device)"
                 : "give the user, or the container, read and write access to it");
    return TellUnavailable(reason);
  }
  page_bytes_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const page = mmap(nullptr, page_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  // The driver pins the page. A child that shared it would make the kernel copy it, here or there, and the counters
  // would go on in a page that nobody reads.
  if (page == MAP_FAILED || madvise(page, page_bytes_, MADV_DONTFORK) != 0) {
    snprintf(reason, sizeof reason, "no page of memory for the driver's counters: %s", ErrorText(errno).text);
    if (page != MAP_FAILED) munmap(page, page_bytes_);
    ReleaseDescriptor();
    return TellUnavailable(reason);
  }
  memset(page, 0, page_bytes_);

  int va_spaces[kMaxVaSpaces];
  const size_t count = calls.find_va_spaces(va_spaces, kMaxVaSpaces);
  int error = 0;
  uint32_t status = 0;
  bool enabled = false;
  for (size_t i = 0; i < count && !enabled; ++i) {
    if (descriptor_ < 0 && !OpenDevice(calls)) {
      error = errno;
      break;
    }
    ToolsTracker tracker;
    tracker.control = reinterpret_cast<uint64_t>(page);
    tracker.all_processors = 1;
    tracker.va_space_descriptor = static_cast<uint32_t>(va_spaces[i]);
    error = calls.control(descriptor_, kToolsInitEventTracker, &tracker) == 0 ? 0 : errno;
    status = tracker.status;
    if (error == 0 && status == 0) {
      ToolsCounters counters;
      counters.flags = kToolsCounterFlags;
      error = calls.control(descriptor_, kToolsEnableCounters, &counters) == 0 ? 0 : errno;
      status = counters.status;
      enabled = error == 0 && status == 0;
    }
    if (!enabled) ReleaseDescriptor();
  }
  if (!enabled) {
    ReleaseDescriptor();
    munmap(page, page_bytes_);
    if (count == 0) {
      snprintf(reason, sizeof reason,
               "this process has no descriptor of %s: its CUDA library reaches the driver in another way (a remote or "
               "virtual GPU); record on the machine that has the GPU",
               kVaSpaceDevice);
    } else {
      snprintf(reason, sizeof reason,
               "the driver refused a counters tracker (%s, status 0x%x): this driver's interface is another one; use a "
               "driver from 515 to 595, or a later uvmtrace",
               error != 0 ? ErrorText(error).text : "no error", status);
    }
    return TellUnavailable(reason);
  }

  page_ = static_cast<uint64_t*>(page);
  memset(last_, 0, sizeof last_);
  uint64_t values[kToolsCounterCount];
  if (!Read(values)) {
    Close();
    return TellUnavailable(
        "the driver's first values cannot be counters: its interface is another one; use a driver "
        "from 515 to 595, or a later uvmtrace");
  }
  memcpy(last_, values, sizeof last_);
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kActive);
}

bool ExactCounters::Read(uint64_t (&values)[kToolsCounterCount]) const {
  for (size_t i = 0; i < kToolsCounterCount; ++i) {
    values[i] = std::atomic_ref<uint64_t>(page_[i]).load(std::memory_order_relaxed);
  }
  for (const size_t i : kRecorded) {
    if (values[i] >= kImplausible || values[i] < last_[i]) return false;
  }
  return true;
}

void ExactCounters::Sample(uint64_t now_ns, bool always) {
  if (page_ == nullptr) return;
  if (!StillOurs()) {
    descriptor_ = -1;
    return Stop("the program closed the descriptor; what the driver counted after that is not known");
  }
  uint64_t values[kToolsCounterCount];
  if (!Read(values)) return Stop("the driver's values ran backwards or out of range: they are no counters");
  bool changed = always;
  for (const size_t i : kRecorded) changed = changed || values[i] != last_[i];
  if (!changed) return;
  memcpy(last_, values, sizeof last_);
  CounterSampleEvent event;
  event.time_ns = now_ns;
  event.host_to_device_bytes = values[kHostToDeviceBytesIndex];
  event.device_to_host_bytes = values[kDeviceToHostBytesIndex];
  event.cpu_faults = values[kCpuFaultsIndex];
  event.gpu_faults = values[kGpuFaultsIndex];
  Recorder::Get().Record(event);
}

void ExactCounters::Stop(const char* reason) {
  Close();
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kStopped, reason);
  Log(LogLevel::kInfo, "%s: %s", kSource, reason);
}

void ExactCounters::Close() {
  // The descriptor first: its release is what makes the driver let go of the page.
  const bool released = StillOurs();
  ReleaseDescriptor();
  // A descriptor that was taken away may live on as somebody's copy, and the driver still write: one page stays.
  if (page_ != nullptr && released) munmap(page_, page_bytes_);
  page_ = nullptr;
}

void ExactCounters::Abandon() {
  ReleaseDescriptor();
  page_ = nullptr;
}

}  // namespace uvmtrace
