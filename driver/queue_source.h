// Faults, migrations and the rest as the driver's own event queue tells them: complete, where CUPTI's records are not.
//
// The queue is opened before the first managed allocation is handed out. A thread of our own then reads it until the
// process ends: it sleeps in poll(), asks the driver for events that it still holds back (FLUSH_EVENTS) while there are
// any, and counts what the driver had to drop. Managed memory itself is never touched. Source state: "driver_queue".
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/tools_interface.h"

namespace uvmtrace {

// Which events are asked for.
enum class QueueDetail : uint8_t {
  kLight,    // all but migrations
  kExact,    // as light, and migrations for 1 % of the time
  kSampled,  // as light, and migrations for 5 % of the time
  kFull,     // everything
};

struct QueueSourceOptions {
  const ToolsCalls* tools = &kKernelTools;
  const DeviceUuid* devices = nullptr;  // by CUDA ordinal
  size_t device_count = 0;
  QueueDetail detail = QueueDetail::kFull;
  // A device reaches memory that CUDA did not allocate: the mappings that events hit are recorded.
  bool system_memory = false;
  const char* root = "";  // stands before /proc in tests
  // The queue failed its checks after it had been in use. On the queue's thread.
  void (*given_up)(const char* reason) = nullptr;
};

// Opens the queue, tests it and starts its thread. Returns whether it feeds; if not, the source state says why. Call
// once, after cuInit and before the first managed allocation is handed out.
bool StartQueueSource(const QueueSourceOptions& options);

// The trace says why the queue was not used. Instead of StartQueueSource.
void DisableQueueSource(const char* reason);

void SetQueueManagedMemoryLive(bool live);

// Asks for the last events and reads them, then the thread ends. At most timeout_ms.
void FinishQueueSource(int timeout_ms);

// In a forked child: forget, and close the copies of the descriptors.
void AbandonQueueSourceAfterFork();

// CPU time of the queue's thread so far.
uint64_t QueueThreadCpuNs();

}  // namespace uvmtrace
