// The event queues of a process, one for each of its address spaces in the driver: a lane.
//
// Opens and tests them, finds address spaces that come later, asks the driver for what it holds back, reads what there
// is and counts what there is not. Used by one thread at a time: the one that starts the source, then the source's own.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>

#include "driver/tools_device.h"
#include "driver/tools_interface.h"
#include "driver/tools_queue.h"

namespace uvmtrace {

class QueueLanes {
 public:
  // The devices live as long as the lanes. `sink` gets what is read; it counts what it records in `recorded_at_once`,
  // so that a flood gives the writer the time to empty our own ring.
  void Prepare(const ToolsCalls& calls, const DeviceUuid* devices, size_t device_count, const QueueSink& sink,
               uint32_t* recorded_at_once);

  // Opens queues for `events` on every address space there is, and tests the first. False with a reason; nothing is
  // then left open but what Close closes.
  bool Open(uint64_t events, char* reason, size_t reason_size);
  // Address spaces that came since: CUDA opened late, twice or anew. Returns whether there is one more.
  bool LookForMore(uint64_t events);
  void Close();
  // In a forked child.
  void Abandon();

  size_t count() const { return count_; }
  uint32_t first_entries() const { return lanes_[0].queue.entries(); }
  // Whether the program closed a descriptor that was not its own (closefrom, as daemons do).
  bool TakenAway() const;
  // Descriptors to wait for; returns how many.
  size_t Polled(pollfd (&polled)[VaSpaces::kMax]) const;

  // Everything that waits. Returns how many entries it was; *insane says why a ring cannot be one, if so.
  uint64_t Drain(const char** insane);
  // Makes the driver deliver what it holds back. False if it refused for one of the address spaces.
  bool Flush();
  bool SetEvents(uint64_t events, bool on);
  // Call before Close. Records what was kept back to be joined with what follows, and counts entries that still wait.
  void FinishReading();

  uint64_t MigrationsRead() const;
  uint64_t Waiting() const;

 private:
  struct Lane {
    ToolsQueue queue;
    uint64_t told_dropped[kToolsEventCount] = {};
    uint64_t told_flawed[QueueReader::kFlawCount] = {};
  };

  bool OpenLane(int va_space, uint32_t entries, uint64_t events, char* reason, size_t reason_size);
  bool TestFirst(char* reason, size_t reason_size);
  ToolsAnswer FlushLane(size_t lane);
  void ReadProcessors();
  static void TellLosses(Lane& lane);

  ToolsCalls calls_ = {};
  const DeviceUuid* devices_ = nullptr;
  size_t device_count_ = 0;
  QueueSink sink_ = {};
  uint32_t* recorded_at_once_ = nullptr;
  Lane lanes_[VaSpaces::kMax];
  size_t count_ = 0;
  VaSpaces va_spaces_;
};

// The source's name in the trace.
inline constexpr const char* kQueueSourceName = "driver_queue";

}  // namespace uvmtrace
