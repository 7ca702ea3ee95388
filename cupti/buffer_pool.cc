// See buffer_pool.h.
#include "cupti/buffer_pool.h"

#include <sys/mman.h>

namespace uvmtrace {
namespace {

constexpr size_t kEmergencyTotal = (size_t{64} << 10) * 8;
alignas(64) uint8_t g_emergency[kEmergencyTotal];
alignas(64) uint8_t g_sink[size_t{4} << 10];

}  // namespace

BufferPool::Buffer BufferPool::Acquire() {
  bool short_of_memory = false;
  const size_t limit = limit_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < limit; ++i) {
    Slot& slot = slots_[i];
    if (short_of_memory && slot.data.load(std::memory_order_relaxed) == nullptr) continue;
    if (slot.lent.load(std::memory_order_relaxed) || slot.lent.exchange(true, std::memory_order_acquire)) continue;
    uint8_t* data = slot.data.load(std::memory_order_relaxed);
    if (data == nullptr) {
      void* fresh = short_of_memory
                        ? MAP_FAILED
                        : mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (fresh == MAP_FAILED) {
        slot.lent.store(false, std::memory_order_release);
        short_of_memory = true;
        continue;
      }
      data = static_cast<uint8_t*>(fresh);
      slot.data.store(data, std::memory_order_release);
    }
    return {data, kBufferBytes, false};
  }
  static_assert(kEmergencyBuffers * kEmergencyBytes == sizeof g_emergency && kSinkBytes == sizeof g_sink);
  for (size_t i = 0; i < kEmergencyBuffers; ++i) {
    if (!emergency_lent_[i].exchange(true, std::memory_order_acquire)) {
      return {g_emergency + i * kEmergencyBytes, kEmergencyBytes, false};
    }
  }
  return {g_sink, kSinkBytes, true};
}

void BufferPool::Release(uint8_t* data) {
  if (data >= g_emergency && data < g_emergency + sizeof g_emergency) {
    emergency_lent_[static_cast<size_t>(data - g_emergency) / kEmergencyBytes].store(false, std::memory_order_release);
    return;
  }
  if (data == nullptr || Discarded(data)) return;
  for (size_t i = 0; i < kBuffers; ++i) {
    if (slots_[i].data.load(std::memory_order_acquire) != data) continue;
    if (i >= kKeptBuffers) madvise(data, kBufferBytes, MADV_DONTNEED);
    slots_[i].lent.store(false, std::memory_order_release);
    return;
  }
}

bool BufferPool::Discarded(const uint8_t* data) { return data == g_sink; }

void BufferPool::Abandon() {
  for (Slot& slot : slots_) {
    slot.data.store(nullptr, std::memory_order_relaxed);
    slot.lent.store(false, std::memory_order_relaxed);
  }
  for (std::atomic<bool>& lent : emergency_lent_) lent.store(false, std::memory_order_relaxed);
}

}  // namespace uvmtrace
