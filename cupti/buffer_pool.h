// The memory that CUPTI writes its records into.
//
// Handing out a null buffer crashes every CUPTI before CUDA 12.9, so Acquire always returns one. No lock: CUPTI asks
// from the host program's threads, and a lock held at a fork would stay locked in the child.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace uvmtrace {

class BufferPool {
 public:
  struct Buffer {
    uint8_t* data;
    size_t bytes;
    // The buffer is shared with others because memory ran out: what is written into it must not be read.
    bool discarded;
  };

  // CUPTI clears a buffer before it fills it, at each flush that found records. Smaller buffers would be cheaper and
  // come back more often; NVIDIA recommends 1 to 10 MB.
  static constexpr size_t kBufferBytes = size_t{1} << 20;
  // CUPTI fills one buffer for each thread that launches kernels.
  static constexpr size_t kBuffers = 1024;

  // No more buffers than fit into so many bytes, and never fewer than one.
  void SetLimit(size_t bytes) { limit_.store(std::clamp<size_t>(bytes / kBufferBytes, 1, kBuffers)); }

  Buffer Acquire();

  // Takes back what Acquire gave; another client's buffer is left alone.
  void Release(uint8_t* data);

  // Whether it is the shared buffer. To be asked before a returned buffer is read.
  static bool Discarded(const uint8_t* data);

  // In a forked child: forget; the memory is left to the process's end.
  void Abandon();

 private:
  struct Slot {
    std::atomic<uint8_t*> data{nullptr};
    std::atomic<bool> lent{false};
  };
  // For when memory is short. Untouched until then, so they cost address space only.
  static constexpr size_t kEmergencyBuffers = 8;
  static constexpr size_t kEmergencyBytes = size_t{64} << 10;
  static constexpr size_t kSinkBytes = size_t{4} << 10;
  // A buffer that the pool kept longer than this many others gives its memory back when it is returned.
  static constexpr size_t kKeptBuffers = 16;

  std::atomic<size_t> limit_{kBuffers};
  Slot slots_[kBuffers];
  std::atomic<bool> emergency_lent_[kEmergencyBuffers] = {};
};

}  // namespace uvmtrace
