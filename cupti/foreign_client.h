// Whether another CUPTI client of this process gets our records.
//
// CUPTI (its first interface) has one pair of buffer callbacks in a process: whoever registers last receives
// everybody's records. torch.profiler does so at every start. Nothing tells us, and taking the callbacks back would
// leave the other without its records. Two things give it away:
//
//   its clock     torch.profiler replaces CUPTI's clock in the same breath
//   silence       the driver's counters grow and no record comes
//
// This is the pure part: times and counts in, a verdict out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

class ForeignClientWatch {
 public:
  enum class Verdict : uint8_t { kNoChange, kClock, kSilence, kRecordsAgain };

  // At each flush. `activity` grows when unified memory is at work; `delivered` counts our records; `patience_ns` is
  // how long activity may go on without a record.
  Verdict Tick(uint64_t now_ns, uint64_t activity, uint64_t delivered, bool clock_replaced, uint64_t patience_ns) {
    if (delivered != delivered_) {
      delivered_ = delivered;
      BeginSlot(now_ns, activity);
      silent_ns_ = 0;
      clock_told_ = clock_told_ && clock_replaced;
      if (!lost_) return Verdict::kNoChange;
      lost_ = false;
      return Verdict::kRecordsAgain;
    }
    if (clock_replaced && !clock_told_) {
      clock_told_ = true;
      if (lost_) return Verdict::kNoChange;
      lost_ = true;
      return Verdict::kClock;
    }
    // Only time in which something happened counts, or a program that faults once a minute would be silent.
    if (now_ns - slot_start_ns_ >= kSlotNs) {
      if (activity != slot_activity_) silent_ns_ += kSlotNs;
      BeginSlot(now_ns, activity);
    }
    if (lost_ || silent_ns_ < patience_ns) return Verdict::kNoChange;
    lost_ = true;
    return Verdict::kSilence;
  }

 private:
  static constexpr uint64_t kSlotNs = 100'000'000;

  void BeginSlot(uint64_t now_ns, uint64_t activity) {
    slot_start_ns_ = now_ns;
    slot_activity_ = activity;
  }

  uint64_t delivered_ = 0;
  uint64_t slot_start_ns_ = 0;
  uint64_t slot_activity_ = 0;
  uint64_t silent_ns_ = 0;
  bool clock_told_ = false;
  bool lost_ = false;
};

// Names of the mapped libraries that are known to use CUPTI, such as "libtorch_cpu.so": "torch (libtorch_cpu.so)".
// Empty if there is none.
void FindCuptiClients(char* text, size_t size);

}  // namespace uvmtrace
