// What exists at which address: device, managed, pinned and registered memory, and the virtual memory management of
// cuMem*.
#include <sys/mman.h>
#include <unistd.h>

#include <iterator>
#include <vector>

#include "sim/engine/cpu_fault.h"
#include "sim/engine/engine.h"
#include "sim/engine/lacks.h"

namespace uvmsim {
namespace {

// cudaMalloc below this comes out of shared 2 MiB slabs, as with the real driver.
constexpr uint64_t kSmallBytes = 1 << 20;
constexpr uint64_t kSmallAlignment = 512;

uint64_t RoundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

}  // namespace

std::map<uint64_t, Allocation>::iterator Engine::FindLocked(uint64_t address) {
  auto it = allocations_.upper_bound(address);
  if (it == allocations_.begin()) return allocations_.end();
  --it;
  return address - it->first < it->second.bytes ? it : allocations_.end();
}

Allocation* Engine::AddLocked(uint64_t address, uint64_t bytes, AllocationKind kind, unsigned flags, int device) {
  Allocation& allocation = allocations_[address];
  allocation = {address, bytes, kind, flags, next_allocation_id_++, device};
  return &allocation;
}

// The CPU's accesses cannot be caught here, because pages of the heap cannot be protected under a program's feet: what
// has migrated stays on the GPU until it is evicted.
bool Engine::AddSystemMemoryLocked(uint64_t address, uint64_t bytes) {
  const uint64_t first_page = address / kPageBytes * kPageBytes;
  const uint64_t end = RoundUp(address + bytes, kPageBytes);
  std::vector<unsigned char> resident((end - first_page) / kPageBytes);
  if (mincore(reinterpret_cast<void*>(first_page), end - first_page, resident.data()) != 0) return false;
  for (uint64_t block = address / kBlockBytes * kBlockBytes; block < end; block += kBlockBytes) {
    if (model_.Contains(block, kBlockBytes)) continue;
    if (!model_.AddRange(block, kBlockBytes)) return false;
    Outcome first_touches;
    for (uint64_t page = block; page < block + kBlockBytes; page += kPageBytes) {
      model_.CpuAccess(page, Access::kWrite, &first_touches);
    }
  }
  return true;
}

// Takes room from managed memory. The evictions are the caller's time and events: see AllocateDevice.
CUresult Engine::ReserveDeviceLocked(int device, uint64_t bytes, Outcome* outcome) {
  return model_.ReserveDeviceMemory(device, bytes, outcome) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult Engine::AllocateManaged(uint64_t bytes, unsigned flags, uint64_t* address) {
  if (IsLacking(Lack::kManagedMemory)) return CUDA_ERROR_NOT_SUPPORTED;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  EnsureCpuFaultHandler();
  Lock lock(&mutex_);
  const uint64_t reserved = window_.Reserve(bytes);
  if (reserved == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!model_.AddRange(reserved, bytes)) {
    window_.Release(reserved, bytes);
    return CUDA_ERROR_UNKNOWN;
  }
  AddLocked(reserved, bytes, AllocationKind::kManaged, flags);
  *address = reserved;
  return CUDA_SUCCESS;
}

CUresult Engine::AllocatePinned(uint64_t bytes, unsigned flags, uint64_t* address) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  void* memory = mmap(nullptr, RoundUp(bytes, kPageBytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  Lock lock(&mutex_);
  *address = reinterpret_cast<uint64_t>(memory);
  AddLocked(*address, bytes, AllocationKind::kPinned, flags);
  return CUDA_SUCCESS;
}

CUresult Engine::RegisterHost(uint64_t address, uint64_t bytes, unsigned flags) {
  if (address == 0 || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  Lock lock(&mutex_);
  const auto next = allocations_.lower_bound(address);
  const bool overlaps =
      FindLocked(address) != allocations_.end() || (next != allocations_.end() && next->first < address + bytes);
  if (overlaps) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  AddLocked(address, bytes, AllocationKind::kRegistered, flags);
  return CUDA_SUCCESS;
}

CUresult Engine::FreeHost(uint64_t address, AllocationKind kind) {
  Lock lock(&mutex_);
  const auto it = allocations_.find(address);
  if (it == allocations_.end() || it->second.kind != kind) {
    return kind == AllocationKind::kRegistered ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : CUDA_ERROR_INVALID_VALUE;
  }
  if (kind == AllocationKind::kPinned) munmap(reinterpret_cast<void*>(address), RoundUp(it->second.bytes, kPageBytes));
  allocations_.erase(it);
  return CUDA_SUCCESS;
}

CUresult Engine::Free(uint64_t address) {
  Lock lock(&mutex_);
  const auto it = allocations_.find(address);
  if (it == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
  const Allocation allocation = it->second;
  if (allocation.kind == AllocationKind::kManaged) {
    model_.RemoveRange(address, RoundUp(allocation.bytes, kBlockBytes));
    thrashing_.Forget(address, RoundUp(allocation.bytes, kBlockBytes));
    window_.Release(address, allocation.bytes);
  } else if (allocation.kind == AllocationKind::kDevice && allocation.bytes < kSmallBytes) {
    Gpu& owner = gpu(allocation.device);
    const auto slab = std::prev(owner.small_slabs.upper_bound(address));
    owner.small_free.Add(address, RoundUp(allocation.bytes, kSmallAlignment));
    if (--slab->second == 0) {
      owner.small_free.TakeAt(slab->first, kBlockBytes);
      window_.Release(slab->first, kBlockBytes);
      model_.ReleaseDeviceMemory(allocation.device, kBlockBytes);
      owner.small_slabs.erase(slab);
    }
  } else if (allocation.kind == AllocationKind::kDevice) {
    window_.Release(address, allocation.bytes);
    model_.ReleaseDeviceMemory(allocation.device, RoundUp(allocation.bytes, kBlockBytes));
  } else {
    return CUDA_ERROR_INVALID_VALUE;
  }
  allocations_.erase(it);
  return CUDA_SUCCESS;
}

bool Engine::Find(uint64_t address, Allocation* allocation) {
  Lock lock(&mutex_);
  const auto it = FindLocked(address);
  if (it == allocations_.end()) return false;
  *allocation = it->second;
  return true;
}

bool Engine::IsManaged(uint64_t address, uint64_t bytes) {
  Allocation allocation;
  return Find(address, &allocation) && allocation.kind == AllocationKind::kManaged &&
         bytes <= allocation.address + allocation.bytes - address;
}

void Engine::MemoryInfo(int device, uint64_t* free_bytes, uint64_t* total_bytes) {
  Lock lock(&mutex_);
  *total_bytes = model_.CapacityBytes();
  *free_bytes = model_.CapacityBytes() - model_.UsedBytes(device);
}

bool Engine::HasRoomForStream(int device) {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  MemoryInfo(device, &free_bytes, &total_bytes);
  uint64_t address = 0;
  if (free_bytes >= kBlockBytes) return true;
  return AllocateDevice(device, kBlockBytes, &address) == CUDA_SUCCESS && Free(address) == CUDA_SUCCESS;
}

CUresult Engine::ReserveAddresses(uint64_t bytes, uint64_t alignment, uint64_t* address) {
  if (bytes == 0 || bytes % kBlockBytes != 0 || alignment > kBlockBytes) return CUDA_ERROR_INVALID_VALUE;
  Lock lock(&mutex_);
  *address = window_.Reserve(bytes);
  if (*address == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  AddLocked(*address, bytes, AllocationKind::kReserved, 0);
  return CUDA_SUCCESS;
}

CUresult Engine::FreeAddresses(uint64_t address, uint64_t bytes) {
  Lock lock(&mutex_);
  const auto it = allocations_.find(address);
  if (it == allocations_.end() || it->second.kind != AllocationKind::kReserved || it->second.bytes != bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto mapping = mappings_.lower_bound(address);
  if (mapping != mappings_.end() && mapping->first < address + bytes) return CUDA_ERROR_INVALID_VALUE;
  window_.Release(address, bytes);
  allocations_.erase(it);
  return CUDA_SUCCESS;
}

CUresult Engine::ReleasePhysical(PhysicalMemory* memory) {
  Lock lock(&mutex_);
  if (physical_.count(memory) == 0) return CUDA_ERROR_INVALID_VALUE;
  if (--memory->references > 0) return CUDA_SUCCESS;
  close(memory->file);
  model_.ReleaseDeviceMemory(memory->device, memory->bytes);
  physical_.erase(memory);
  delete memory;
  return CUDA_SUCCESS;
}

CUresult Engine::MapPhysical(uint64_t address, uint64_t bytes, uint64_t offset, PhysicalMemory* memory) {
  Lock lock(&mutex_);
  const auto reserved = FindLocked(address);
  if (reserved == allocations_.end() || reserved->second.kind != AllocationKind::kReserved || bytes == 0 ||
      bytes > reserved->first + reserved->second.bytes - address || address % kBlockBytes != 0 ||
      physical_.count(memory) == 0 || offset % kBlockBytes != 0 || offset + bytes > memory->bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto next = mappings_.lower_bound(address);
  if (next != mappings_.end() && next->first < address + bytes) return CUDA_ERROR_ALREADY_MAPPED;
  if (next != mappings_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address) {
    return CUDA_ERROR_ALREADY_MAPPED;
  }
  if (mmap(window_.Alias(address), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory->file,
           static_cast<off_t>(offset)) == MAP_FAILED) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  madvise(window_.Alias(address), bytes, MADV_DONTFORK);
  ++memory->references;
  mappings_[address] = {bytes, memory, false};
  return CUDA_SUCCESS;
}

CUresult Engine::UnmapPhysical(uint64_t address, uint64_t bytes) {
  std::vector<PhysicalMemory*> released;
  {
    Lock lock(&mutex_);
    const auto first = mappings_.lower_bound(address);
    auto end = first;
    uint64_t covered = address;
    // One call may unmap many neighbouring mappings, but only whole ones.
    while (end != mappings_.end() && end->first == covered && covered < address + bytes) {
      covered += end->second.bytes;
      released.push_back(end->second.memory);
      ++end;
    }
    if (covered != address + bytes || released.empty()) return CUDA_ERROR_INVALID_VALUE;
    if (!window_.RestoreAlias(address, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    mappings_.erase(first, end);
  }
  for (PhysicalMemory* memory : released) ReleasePhysical(memory);
  return CUDA_SUCCESS;
}

CUresult Engine::SetAccess(uint64_t address, uint64_t bytes, bool accessible) {
  Lock lock(&mutex_);
  uint64_t covered = address;
  for (auto it = mappings_.find(address); it != mappings_.end() && it->first == covered && covered < address + bytes;
       ++it) {
    covered += it->second.bytes;
  }
  if (covered != address + bytes || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  for (auto it = mappings_.find(address); it != mappings_.end() && it->first < covered; ++it) {
    it->second.accessible = accessible;
  }
  return CUDA_SUCCESS;
}

bool Engine::ReservedAccessibleLocked(uint64_t address, uint64_t bytes) {
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return false;
  --it;
  uint64_t covered = address;
  for (; it != mappings_.end() && it->first <= covered && it->second.accessible; ++it) {
    if (it->first + it->second.bytes <= covered) return false;
    covered = it->first + it->second.bytes;
    if (covered >= address + bytes) return true;
  }
  return false;
}

// A piece of a slab of the device, or 0.
uint64_t Engine::AllocateSmallLocked(int device, uint64_t bytes, Outcome* outcome) {
  Gpu& owner = gpu(device);
  const uint64_t rounded = RoundUp(bytes, kSmallAlignment);
  uint64_t address = owner.small_free.Take(rounded, kSmallAlignment);
  if (address == 0) {
    if (ReserveDeviceLocked(device, kBlockBytes, outcome) != CUDA_SUCCESS) return 0;
    const uint64_t slab = window_.Reserve(kBlockBytes);
    if (slab == 0) return 0;
    owner.small_slabs[slab] = 0;
    owner.small_free.Add(slab, kBlockBytes);
    address = owner.small_free.Take(rounded, kSmallAlignment);
  }
  ++std::prev(owner.small_slabs.upper_bound(address))->second;
  return address;
}

CUresult Engine::AllocateDevice(int device, uint64_t bytes, uint64_t* address) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  Outcome* outcome = nullptr;
  {
    Lock lock(&mutex_);
    outcome = TakeOutcomeLocked();
    if (bytes < kSmallBytes) {
      *address = AllocateSmallLocked(device, bytes, outcome);
    } else {
      const bool fits = ReserveDeviceLocked(device, RoundUp(bytes, kBlockBytes), outcome) == CUDA_SUCCESS;
      *address = fits ? window_.Reserve(bytes) : 0;
    }
    if (*address != 0) AddLocked(*address, bytes, AllocationKind::kDevice, 0, device);
    ApplyProtections(*outcome);
  }
  FinishInCaller(*outcome);
  GiveOutcome(outcome);
  return *address != 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult Engine::CreatePhysical(int device, uint64_t bytes, PhysicalMemory** memory) {
  if (bytes == 0 || bytes % kBlockBytes != 0) return CUDA_ERROR_INVALID_VALUE;
  Outcome* outcome = nullptr;
  CUresult result = CUDA_SUCCESS;
  {
    Lock lock(&mutex_);
    outcome = TakeOutcomeLocked();
    result = ReserveDeviceLocked(device, bytes, outcome);
    if (result == CUDA_SUCCESS) {
      const int file = memfd_create("uvmsim physical", MFD_CLOEXEC);
      if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
        if (file >= 0) close(file);
        model_.ReleaseDeviceMemory(device, bytes);
        result = CUDA_ERROR_OUT_OF_MEMORY;
      } else {
        *memory = new PhysicalMemory{file, bytes, device, 1};
        physical_.insert(*memory);
      }
    }
    ApplyProtections(*outcome);
  }
  FinishInCaller(*outcome);
  GiveOutcome(outcome);
  return result;
}

}  // namespace uvmsim
