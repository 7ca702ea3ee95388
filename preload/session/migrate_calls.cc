// When the driver really does a prefetch.
//
// A prefetch call on a busy stream returns at once, and a thread of libcuda does the work later: it asks the driver by
// UVM_MIGRATE on its descriptor of /dev/nvidia-uvm. libcuda reaches the driver through the symbol `ioctl`, so that the
// one below sees each request with its time and its thread. Without it nobody can tell which of a running kernel's
// faults came before a prefetch and which after it.
//
// ioctl belongs to the whole program. What is not UVM_MIGRATE goes straight on, for the price of one comparison and one
// load, and may come at any time: before constructors, in a signal handler, in a child of vfork.
#include "preload/session/migrate_calls.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "driver/tools_device.h"
#include "preload/base/hooked_thread.h"
#include "preload/doors/libc_symbols.h"
#include "preload/session/session.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

using Ioctl = int (*)(int descriptor, unsigned long request, void* argument);

constinit std::atomic<Ioctl> next_ioctl{nullptr};

constinit ToolsCalls driver_calls = {};
constinit DeviceUuid known_devices[kMaxDevices] = {};
constinit size_t known_device_count = 0;
constinit std::atomic<bool> wanted{false};  // what stands above is complete

[[gnu::noinline]] Ioctl FindNext() {
  const auto found = reinterpret_cast<Ioctl>(DefinitionBehindUs("ioctl"));
  if (IsRelocated()) next_ioctl.store(found, std::memory_order_release);
  return found;
}

int16_t DeviceOf(const uint8_t (&uuid)[16]) {
  if (memcmp(uuid, kCpuUuid, sizeof uuid) == 0) return static_cast<int16_t>(kCpu);
  for (size_t ordinal = 0; ordinal < known_device_count; ++ordinal) {
    if (memcmp(uuid, known_devices[ordinal].bytes, sizeof uuid) == 0) return static_cast<int16_t>(ordinal);
  }
  // A MIG slice has another UUID than its GPU.
  return static_cast<int16_t>(known_device_count == 1 ? 0 : kUnknownDevice);
}

[[gnu::noinline]] int Migrate(Ioctl next, int descriptor, void* argument) {
  if (!wanted.load(std::memory_order_acquire) || !SessionRunning() || !IsVaSpace(driver_calls, descriptor)) {
    return next(descriptor, kMigrate, argument);
  }
  MigrateArgument asked;
  memcpy(&asked, argument, sizeof asked);
  MigrateCallEvent event;
  event.start_ns = NowNs();
  const int result = next(descriptor, kMigrate, argument);
  if (asked.bytes == 0) return result;
  const int host_errno = errno;  // the driver's answer stands in the argument
  event.duration_ns = NowNs() - event.start_ns;
  event.address = asked.address;
  event.bytes = asked.bytes;
  event.destination_device = DeviceOf(asked.destination);
  HookedThread& thread = hooked_thread;
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  event.tid = thread.tid;
  Recorder::Get().Record(event);
  errno = host_errno;
  return result;
}

}  // namespace

void RecordMigrateCalls(const ToolsCalls& calls, const DeviceUuid* devices, size_t device_count) {
  if (wanted.load(std::memory_order_relaxed)) return;  // a forked child's: the devices are the same
  driver_calls = calls;
  known_device_count = std::min(device_count, kMaxDevices);
  std::copy_n(devices, known_device_count, known_devices);
  wanted.store(true, std::memory_order_release);
}

// Not declared variadic: the callers' third argument, or none, is in the same register.
extern "C" __attribute__((visibility("default"))) int InterposedIoctl(int descriptor, unsigned long request,
                                                                      void* argument) asm("ioctl");

int InterposedIoctl(int descriptor, unsigned long request, void* argument) {
  Ioctl next = next_ioctl.load(std::memory_order_relaxed);
  if (next == nullptr) [[unlikely]]
    next = FindNext();
  if (request != kMigrate) [[likely]]
    return next(descriptor, request, argument);
  return Migrate(next, descriptor, argument);
}

}  // namespace uvmtrace
