#include "preload/session/managed_memory.h"

#include <atomic>

namespace uvmtrace {
namespace {

constexpr size_t kSlots = 16384;  // a power of two
constexpr size_t kProbes = 128;
constexpr uint64_t kRemoved = 1;  // no allocation lives at such an address
constexpr uint64_t kClaimed = 2;  // being filled

struct Slot {
  std::atomic<uint64_t> address{0};
  std::atomic<uint64_t> bytes{0};
};

constinit Slot slots[kSlots];
constinit std::atomic<uint64_t> live_count{0};
constinit std::atomic<uint64_t> live_bytes{0};
constinit std::atomic<bool> overflowed{false};

Slot& SlotAt(uint64_t address, size_t probe) {
  const uint64_t hash = (address >> 9) * 0x9E3779B97F4A7C15u;  // managed memory is aligned to 512 bytes
  return slots[((hash >> 40) + probe) % kSlots];
}

Slot* Find(uint64_t address) {
  for (size_t probe = 0; probe < kProbes; ++probe) {
    Slot& slot = SlotAt(address, probe);
    const uint64_t seen = slot.address.load(std::memory_order_acquire);
    if (seen == address) return &slot;
    if (seen == 0) return nullptr;
  }
  return nullptr;
}

}  // namespace

constinit ManagedMemory managed_memory;

bool ManagedMemory::Insert(uint64_t address, uint64_t bytes) {
  if (address <= kClaimed || Find(address) != nullptr) return false;
  for (size_t probe = 0; probe < kProbes; ++probe) {
    Slot& slot = SlotAt(address, probe);
    uint64_t seen = slot.address.load(std::memory_order_relaxed);
    if (seen > kRemoved) continue;
    if (!slot.address.compare_exchange_strong(seen, kClaimed, std::memory_order_acq_rel)) continue;
    slot.bytes.store(bytes, std::memory_order_relaxed);
    slot.address.store(address, std::memory_order_release);
    live_bytes.fetch_add(bytes, std::memory_order_relaxed);
    return live_count.fetch_add(1, std::memory_order_acq_rel) == 0;
  }
  overflowed.store(true, std::memory_order_release);
  return false;
}

uint64_t ManagedMemory::BeginFree(uint64_t address) {
  if (address <= kClaimed || live_count.load(std::memory_order_relaxed) == 0) return 0;
  Slot* const slot = Find(address);
  if (slot == nullptr) return 0;
  const uint64_t bytes = slot->bytes.load(std::memory_order_relaxed);
  uint64_t expected = address;
  if (!slot->address.compare_exchange_strong(expected, kRemoved, std::memory_order_acq_rel)) return 0;
  return bytes;
}

void ManagedMemory::EndFree(uint64_t bytes) {
  if (bytes == 0) return;
  live_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  live_count.fetch_sub(1, std::memory_order_acq_rel);
}

bool ManagedMemory::Contains(uint64_t address) const { return address > kClaimed && Find(address) != nullptr; }

bool ManagedMemory::Live() const {
  return overflowed.load(std::memory_order_acquire) || live_count.load(std::memory_order_acquire) != 0;
}

uint64_t ManagedMemory::LiveBytes() const { return live_bytes.load(std::memory_order_relaxed); }

void ManagedMemory::Forget() {
  if (live_count.load(std::memory_order_relaxed) != 0 || overflowed.load(std::memory_order_relaxed)) {
    for (Slot& slot : slots) slot.address.store(0, std::memory_order_relaxed);
  }
  live_count.store(0, std::memory_order_relaxed);
  live_bytes.store(0, std::memory_order_relaxed);
  overflowed.store(false, std::memory_order_relaxed);
}

}  // namespace uvmtrace
