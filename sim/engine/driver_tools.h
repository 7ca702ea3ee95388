// The simulated driver's tools interface: who opened /dev/nvidia-uvm-tools, what they asked for, and the events on
// their way to them.
//
// Faults are in the queue when they happen. What the real driver reports when a channel of the GPU has made progress,
// migrations, replays and mappings of the GPU, is kept back here: until the next batch of work has happened, or until
// FLUSH_EVENTS. The thread "UVM Tools Event" then delivers it. What its reader has disabled by then is not delivered.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/engine/event_tracker.h"
#include "sim/engine/thread.h"

namespace uvmsim {

class DriverTools {
 public:
  // Never destroyed. There before CUDA is, as the real device is.
  static DriverTools& Get();

  // --- what uvmsim_host offers; the numbers and arguments of ioctl ---
  int OpenDevice();
  size_t FindVaSpaces(int* descriptors, size_t capacity);
  int Control(int descriptor, unsigned long number, void* data);

  // --- the engine's side ---
  // The process has an address space in the driver from now on, with these GPUs. `thread_started` gets the thread's id.
  void AddVaSpace(const std::vector<std::string>& gpu_uuids, void (*thread_started)(int tid));
  // libcuda's request to bring pages to a device, or to the CPU. The symbol `ioctl` sees it, as it sees those of the real
  // libcuda. Keeps errno.
  void Migrate(uint64_t address, uint64_t bytes, int destination);
  // In a forked child, for ever: nothing is open.
  void Forget() { forgotten_ = true; }
  bool Active() const { return active_.load(std::memory_order_relaxed); }
  // One batch of work: everything that its time has brought. Allocates no memory.
  class Report {
   public:
    explicit Report(DriverTools* tools);
    ~Report();
    bool Wants(ToolsEventType type) const { return ((tools_->enabled_events_ >> type) & 1) != 0; }
    void Now(const ToolsEntry& entry);
    // The GPU has gone on: what was kept back before is delivered.
    void Progress();
    void Later(const ToolsEntry& entry);
    // `processor` is a number of the driver's: kToolsCpu, or a GPU's.
    void Count(ToolsCounter counter, uint64_t amount, uint8_t processor, bool in_total = true);

   private:
    DriverTools* tools_;
    Lock lock_;
  };

 private:
  static constexpr uint32_t kKeptBack = 1 << 14;

  static void* Run(void* self);
  EventTracker* FindLocked(int descriptor);
  bool IsVaSpaceLocked(int descriptor);
  void RemoveOrphansLocked();
  void UpdateEnabledLocked();
  bool StartThreadLocked(Lock* lock);
  uint32_t ControlLocked(Lock* lock, EventTracker* tracker, unsigned long number, void* data);
  uint32_t InitializeLocked(Lock* lock, EventTracker* tracker, const InitEventTrackerArgument& argument);
  void FlushLocked(Lock* lock);
  void DeliverLocked();

  Mutex mutex_;
  Condition changed_;
  std::vector<std::unique_ptr<EventTracker>> trackers_;
  uint64_t enabled_events_ = 0;  // by any tracker
  std::atomic<bool> active_{false};
  std::atomic<bool> forgotten_{false};

  int va_space_ = -1;  // a pipe's reading end: a descriptor with an identity
  struct stat va_space_status_ = {};
  uint8_t uuids_[kToolsProcessors][16] = {};
  void (*thread_started_)(int tid) = nullptr;
  bool running_ = false;
  bool visible_ = false;

  // Kept back, oldest first; the first `ready_` of them may be delivered.
  std::unique_ptr<ToolsEntry[]> kept_;
  uint32_t first_ = 0;
  uint32_t count_ = 0;
  uint32_t ready_ = 0;
  uint64_t delivered_ = 0;
};

}  // namespace uvmsim
