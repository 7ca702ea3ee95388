// Reading the ring that perf_event_open shares with us: samples of a kernel thread, and what the kernel says it lost.
//
// The kernel writes records of any length, which may go round the end of the ring. The reader takes bytes and two
// positions and nothing else, so that tests can hand it any. It trusts no length: what makes no sense ends the reading
// at `head` and is counted.
#pragma once

#include <linux/perf_event.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace uvmtrace {

// What the ring is opened with, and so what a sample consists of.
inline constexpr uint64_t kPerfSampleType =
    PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN;

inline constexpr size_t kMaxKernelFrames = 128;  // kernel.perf_event_max_stack is 127 by default

struct PerfSample {
  uint64_t time_ns;
  uint64_t period_ns;
  uint32_t tid;
  std::span<const uint64_t> frames;  // addresses in the kernel, innermost first; at most kMaxKernelFrames
};

struct PerfRingCounts {
  uint64_t samples = 0;
  uint64_t lost = 0;       // samples that the kernel had no room for
  uint64_t throttled = 0;  // times the kernel paused the sampling because it took too long
  uint64_t malformed = 0;  // records that made no sense
};

class PerfRing {
 public:
  // `bytes` is a power of two.
  PerfRing(const uint8_t* data, size_t bytes) : data_(data), bytes_(bytes) {}

  // Calls visit(sample) for each sample between the positions, which count bytes since the ring was opened. All up to
  // `head` has been read afterwards.
  template <typename Visit>
  void Read(uint64_t tail, uint64_t head, PerfRingCounts* counts, Visit visit) const {
    if (head - tail > bytes_) {  // never, unless one of them is not what the kernel wrote
      ++counts->malformed;
      return;
    }
    uint64_t frames[kMaxKernelFrames];
    while (tail != head) {
      PerfSample sample{};
      const uint64_t record_bytes = Next(tail, head, counts, frames, &sample);
      if (record_bytes == 0) return;
      if (sample.frames.data() != nullptr) {
        ++counts->samples;
        visit(sample);
      }
      tail += record_bytes;
    }
  }

 private:
  // Looks at one record. Returns its length, or 0 if nothing that follows can be read. `sample` gets frames, perhaps
  // none, if it is one.
  uint64_t Next(uint64_t tail, uint64_t head, PerfRingCounts* counts, uint64_t (&frames)[kMaxKernelFrames],
                PerfSample* sample) const;
  // Copies `bytes` bytes from a position on, round the end of the ring.
  void Copy(uint64_t position, void* to, size_t bytes) const;
  uint64_t Word(uint64_t position) const;

  const uint8_t* data_;
  size_t bytes_;
};

}  // namespace uvmtrace
