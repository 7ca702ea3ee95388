// Touches of the CPU that happened while a kernel ran which used the same memory: nothing had waited for that kernel.
//
// A kernel that was still running when the CPU touched memory cannot have been waited for in between. Whether it used
// that memory, its own faults tell: so touches under a kernel are gathered in the second reading, and if there are any,
// the GPUs' faults are read once more and those of the same run and the same 64 KiB are looked for. Of memory that both
// sides only read, and of atomics, which programs use to talk to a running kernel, nothing is said.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "analyzer/model/clock.h"
#include "analyzer/model/kernel_overlaps.h"
#include "analyzer/read/columns.h"

namespace uvmtrace::analyzer {

// Touches of one place by one instruction under one run of a kernel.
struct KernelTouch {
  static constexpr uint64_t kGranuleBytes = 64 << 10;
  // Clocks of the GPU and of the CPU's faults agree to this.
  static constexpr uint64_t kClockErrorNs = 100'000;

  uint64_t granule = 0;
  uint64_t pc = 0;
  uint64_t address = 0;  // of the first one
  uint64_t first_ns = 0;
  uint64_t count = 1;
  KernelRun kernel;
  uint32_t version = 0;
  bool written = false;  // by the CPU

  auto Key() const { return std::tuple(granule, pc, kernel.device, kernel.start_ns, kernel.name); }
};

class KernelTouches {
 public:
  // Further ones are left out; the first ones stand for them.
  static constexpr size_t kMaximumTouches = 65536;

  void Add(const KernelTouch& touch);
  bool empty() const { return touches_.empty(); }

  // After the last Add: what a chunk tells of the GPUs' faults. May be called by several threads, each with its own
  // batch and clocks.
  void Seal();
  void ReadGpuFaults(std::string_view fields, ColumnBatch* batch, ClockConverter* clocks);

  // Those whose memory the kernel used meanwhile, at least one of the two writing.
  std::vector<KernelTouch> Races() const;

 private:
  struct Seen {
    KernelTouch touch;
    std::atomic<uint32_t> accesses{0};  // of the kernel, a bit for each kind
  };

  std::map<decltype(KernelTouch().Key()), KernelTouch> touches_;
  std::deque<Seen> seen_;
  std::unordered_map<uint64_t, std::vector<Seen*>> by_granule_;
};

}  // namespace uvmtrace::analyzer
