// See bh_profiler_ring.h.
#include "driver/bh_profiler_ring.h"

#include <string.h>

#include <algorithm>

namespace uvmtrace {
namespace {

constexpr uint64_t kWordBytes = sizeof(uint64_t);
// Of a sample: header, process and thread id, time, period, number of frames.
constexpr uint64_t kTidAt = sizeof(perf_event_header);
constexpr uint64_t kTimeAt = kTidAt + kWordBytes;
constexpr uint64_t kPeriodAt = kTimeAt + kWordBytes;
constexpr uint64_t kFrameCountAt = kPeriodAt + kWordBytes;
constexpr uint64_t kFramesAt = kFrameCountAt + kWordBytes;
// Of a loss: header, event, number.
constexpr uint64_t kLostAt = sizeof(perf_event_header) + kWordBytes;

// Between the frames stand words that say of what kind the following ones are.
constexpr uint64_t kLowestContext = static_cast<uint64_t>(PERF_CONTEXT_MAX);
constexpr uint64_t kKernelContext = static_cast<uint64_t>(PERF_CONTEXT_KERNEL);

}  // namespace

void PerfRing::Copy(uint64_t position, void* to, size_t bytes) const {
  const size_t at = static_cast<size_t>(position & (bytes_ - 1));
  const size_t until_end = std::min(bytes, bytes_ - at);
  memcpy(to, data_ + at, until_end);
  memcpy(static_cast<uint8_t*>(to) + until_end, data_, bytes - until_end);
}

uint64_t PerfRing::Word(uint64_t position) const {
  uint64_t word;
  Copy(position, &word, sizeof word);
  return word;
}

uint64_t PerfRing::Next(uint64_t tail, uint64_t head, PerfRingCounts* counts, uint64_t (&frames)[kMaxKernelFrames],
                        PerfSample* sample) const {
  perf_event_header header;
  const uint64_t left = head - tail;
  if (left < sizeof header) {
    ++counts->malformed;
    return 0;
  }
  Copy(tail, &header, sizeof header);
  if (header.size < sizeof header || header.size % kWordBytes != 0 || header.size > left) {
    ++counts->malformed;
    return 0;
  }
  switch (header.type) {
    case PERF_RECORD_SAMPLE: {
      const uint64_t count = header.size >= kFramesAt ? Word(tail + kFrameCountAt) : UINT64_MAX;
      if (count > (header.size - std::min<uint64_t>(header.size, kFramesAt)) / kWordBytes) {
        ++counts->malformed;  // its length is all right, so what follows can be read
        break;
      }
      sample->tid = static_cast<uint32_t>(Word(tail + kTidAt) >> 32);
      sample->time_ns = Word(tail + kTimeAt);
      sample->period_ns = Word(tail + kPeriodAt);
      size_t kept = 0;
      bool in_kernel = false;
      for (uint64_t i = 0; i < count && kept < kMaxKernelFrames; ++i) {
        const uint64_t word = Word(tail + kFramesAt + i * kWordBytes);
        if (word >= kLowestContext) {
          in_kernel = word == kKernelContext;
        } else if (in_kernel) {
          frames[kept++] = word;
        }
      }
      sample->frames = {frames, kept};
      break;
    }
    case PERF_RECORD_LOST:
      if (header.size >= kLostAt + kWordBytes) {
        counts->lost += Word(tail + kLostAt);
      } else {
        ++counts->malformed;
      }
      break;
    case PERF_RECORD_THROTTLE:
      ++counts->throttled;
      break;
    default:  // UNTHROTTLE, and what a newer kernel may add
      break;
  }
  return header.size;
}

}  // namespace uvmtrace
