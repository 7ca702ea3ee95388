// From the bytes of the driver's event ring to events. Memory in, events out: no system call, no clock, no recorder.
//
// Nothing in the ring is trusted. The driver's interface has no version, the pages are shared, and a stray pointer of
// the program may have hit them: each entry is copied before it is looked at, and an entry whose type, time, size or
// cause cannot be is counted and left out. Ask insane() after each Drain: a ring that is no ring is given up.
//
// The driver writes an entry and then moves its index by a plain store, without a barrier. x86 keeps that order; ARM
// need not. So each entry is set to zeros once it is read, and an entry whose type or time is 0 is not there yet: Drain
// stops before it and looks again the next time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/gpu_clock.h"
#include "driver/tools_interface.h"
#include "record/event.h"

namespace uvmtrace {

// The driver's numbers of processors as CUDA ordinals.
struct ProcessorTable {
  constexpr ProcessorTable() : device{} {
    for (int16_t& one : device) one = static_cast<int16_t>(kUnknownDevice);
    device[0] = static_cast<int16_t>(kCpu);
  }
  int16_t device[kToolsProcessors];
};

// Where events go. The clock of all is CLOCK_MONOTONIC_RAW.
struct QueueSink {
  void* context;
  void (*gpu_fault)(void*, const GpuFaultEvent&);
  void (*cpu_fault)(void*, const CpuFaultEvent&);
  void (*migration)(void*, const MigrationEvent&);
  void (*replay)(void*, const ReplayEvent&);
  void (*region)(void*, const RegionEvent&);
};

class QueueReader {
 public:
  // What was wrong with entries that were left out.
  enum Flaw { kType, kTime, kSize, kAddress, kEnumeration, kEmpty, kFlawCount };
  static const char* FlawText(int flaw);
  // "migration", for the text of a loss.
  static const char* EventText(int type);

  // `ring` has `entries` (a power of two) of 64 zero bytes. Events before `oldest_ns` are not ours.
  void Attach(uint8_t* ring, uint32_t entries, ToolsControl* control, uint64_t oldest_ns);
  // After Attach, and again when stranger() asks for it.
  void SetProcessors(const ProcessorTable& table);
  // The next entry names a processor that the table does not know: it may be a GPU that was registered since. Drain
  // stops there, until the next SetProcessors; if that does not know it either, it is none of CUDA's devices.
  bool stranger() const { return stranger_ >= 0; }

  // Reads at most `limit` entries and gives the driver their room back. `now_ns` is CLOCK_MONOTONIC_RAW. Returns how
  // many were read.
  uint32_t Drain(uint64_t now_ns, uint32_t limit, const QueueSink& sink);
  // Entries that wait, as far as the driver's word goes.
  uint32_t Waiting() const;
  // What is kept back to be joined with what follows: regions that may grow, throttling without an end.
  void Finish(const QueueSink& sink);

  // Null, or why the ring cannot be what the driver says it is.
  const char* insane() const { return insane_; }

  // Totals by event type. `dropped` counts events the driver dropped because its ring was full.
  uint64_t read(ToolsEvent type) const { return read_[static_cast<int>(type)]; }
  uint64_t read_total() const { return read_total_; }
  uint64_t flawed(int flaw) const { return flawed_[flaw]; }
  uint64_t dropped(int type) const { return dropped_[type]; }
  uint64_t host_to_device_bytes() const { return host_to_device_bytes_; }
  uint64_t device_to_host_bytes() const { return device_to_host_bytes_; }

 private:
  static constexpr size_t kThrottled = 256;

  struct Throttled {
    uint64_t address = 0;
    uint64_t start_ns = 0;  // 0: free
    uint8_t processor = 0;
  };

  static constexpr int kGood = kFlawCount;
  static constexpr int kStranger = kFlawCount + 1;
  static constexpr int kNotThereYet = kFlawCount + 2;

  // The flaw of the entry, kGood, kStranger or kNotThereYet.
  int Decode(const uint8_t* entry, const QueueSink& sink);
  int DecodeMigration(const uint8_t* entry, const QueueSink& sink);
  int DecodeGpuFault(const uint8_t* entry, const QueueSink& sink);
  int DecodeCpuFault(const uint8_t* entry, const QueueSink& sink);
  int DecodeReplay(const uint8_t* entry, const QueueSink& sink);
  int DecodeFatalFault(const uint8_t* entry, const QueueSink& sink);
  int DecodeMask(const uint8_t* entry, RegionKind kind, const QueueSink& sink);
  int DecodeInvalidate(const uint8_t* entry, const QueueSink& sink);
  int DecodeThrottling(const uint8_t* entry, bool start, const QueueSink& sink);
  int DecodeRemoteMap(const uint8_t* entry, const QueueSink& sink);
  // Read duplication comes page by page: neighbours of the same instant become one region.
  void Grow(const RegionEvent& region, const QueueSink& sink);
  void EndRegion(const QueueSink& sink);

  bool TimeIsGood(uint64_t time_ns) const { return time_ns >= oldest_ns_ && time_ns <= newest_ns_; }
  // Whether the next entry has been missing for so long that it will not come.
  bool Overdue(uint64_t now_ns);
  int16_t Device(uint8_t processor);
  void ReadDropped();

  uint8_t* ring_ = nullptr;
  uint32_t mask_ = 0;
  ToolsControl* control_ = nullptr;
  uint32_t get_ = 0;
  uint64_t oldest_ns_ = 0;
  uint64_t newest_ns_ = 0;
  uint64_t missing_since_ns_ = 0;  // the next entry is not there yet; 0: it is
  const char* insane_ = nullptr;
  ProcessorTable processors_;
  bool asked_[kToolsProcessors] = {};  // the table was read for it, and does not have it
  int stranger_ = -1;

  uint64_t read_[kToolsEventCount] = {};
  uint64_t read_total_ = 0;
  uint64_t flawed_[kFlawCount] = {};
  uint64_t flawed_total_ = 0;
  uint64_t dropped_[64] = {};
  uint64_t host_to_device_bytes_ = 0;
  uint64_t device_to_host_bytes_ = 0;

  GpuClock gpu_clocks_[kToolsProcessors];
  Throttled throttled_[kThrottled];
  RegionEvent growing_;
  bool grows_ = false;
};

}  // namespace uvmtrace
