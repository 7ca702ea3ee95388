#include "preload/calls/pools.h"

#include <atomic>

#include "preload/calls/cuda_api.h"
#include "preload/calls/managed_variables.h"
#include "preload/session/session.h"

namespace uvmtrace {
namespace {

// Programs have one or two. When there are more, every allocation from any pool asks the driver what it is.
constexpr int kManagedPools = 64;
constinit std::atomic<uint64_t> managed_pools[kManagedPools]{};
constinit std::atomic<bool> any_managed_pool{false};
constinit std::atomic<bool> too_many{false};
constinit std::atomic<uint64_t> devices_with_managed_pool{0};  // a bit for each

bool IsManagedPool(uint64_t pool) {
  if (!any_managed_pool.load(std::memory_order_relaxed)) return false;
  for (const auto& known : managed_pools) {
    if (known.load(std::memory_order_acquire) == pool) return true;
  }
  return false;
}

MemoryKind Allocated(bool managed, uint64_t address, uint64_t bytes) {
  if (!managed && too_many.load(std::memory_order_relaxed)) managed = IsManagedAddress(address);
  if (!managed) return MemoryKind::kPool;
  if (address != 0) ManagedMemoryAllocated(address, bytes);
  return MemoryKind::kManaged;
}

}  // namespace

MemoryKind PoolCreated(uint64_t pool, int allocation_type) {
  if (allocation_type != CU_MEM_ALLOCATION_TYPE_MANAGED) return MemoryKind::kPool;
  if (pool != 0 && !IsManagedPool(pool)) {
    bool kept = false;
    for (auto& slot : managed_pools) {
      uint64_t empty = 0;
      if (!slot.compare_exchange_strong(empty, pool, std::memory_order_acq_rel)) continue;
      kept = true;
      break;
    }
    if (!kept) too_many.store(true, std::memory_order_relaxed);
    any_managed_pool.store(true, std::memory_order_relaxed);
  }
  EnsureManagedSources();
  return MemoryKind::kManaged;
}

void PoolDestroyed(uint64_t pool) {
  // The handle may be the next pool's.
  if (!any_managed_pool.load(std::memory_order_relaxed)) return;
  for (auto& slot : managed_pools) {
    uint64_t expected = pool;
    if (slot.compare_exchange_strong(expected, 0, std::memory_order_acq_rel)) return;
  }
}

void DevicePoolSet(int device, uint64_t pool) {
  // Devices beyond the bits share the last: the driver is asked once too often.
  const uint64_t bit = uint64_t{1} << (device >= 0 && device < 63 ? device : 63);
  if (IsManagedPool(pool)) {
    devices_with_managed_pool.fetch_or(bit, std::memory_order_relaxed);
  } else if (bit != uint64_t{1} << 63) {
    devices_with_managed_pool.fetch_and(~bit, std::memory_order_relaxed);
  }
}

MemoryKind PoolAllocated(uint64_t pool, uint64_t address, uint64_t bytes) {
  return Allocated(IsManagedPool(pool), address, bytes);
}

MemoryKind CurrentPoolAllocated(uint64_t address, uint64_t bytes) {
  // Which device the thread uses, the driver knows.
  const bool managed = devices_with_managed_pool.load(std::memory_order_relaxed) != 0 && IsManagedAddress(address);
  return Allocated(managed, address, bytes);
}

}  // namespace uvmtrace
