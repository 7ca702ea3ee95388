#include "sim/engine/address_window.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <iterator>

#include "sim/engine/paging_model.h"

namespace uvmsim {

void FreeRanges::Add(uint64_t address, uint64_t bytes) {
  auto next = ranges_.lower_bound(address);
  if (next != ranges_.end() && address + bytes == next->first) {
    bytes += next->second;
    next = ranges_.erase(next);
  }
  if (next != ranges_.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second == address) {
      previous->second += bytes;
      return;
    }
  }
  ranges_.emplace(address, bytes);
}

uint64_t FreeRanges::Take(uint64_t bytes, uint64_t alignment) {
  for (const auto& [address, size] : ranges_) {
    const uint64_t aligned = (address + alignment - 1) / alignment * alignment;
    if (aligned + bytes <= address + size && TakeAt(aligned, bytes)) return aligned;
  }
  return 0;
}

bool FreeRanges::TakeAt(uint64_t address, uint64_t bytes) {
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return false;
  --it;
  const uint64_t begin = it->first;
  const uint64_t end = begin + it->second;
  if (address + bytes > end) return false;
  ranges_.erase(it);
  if (address > begin) ranges_.emplace(begin, address - begin);
  if (address + bytes < end) ranges_.emplace(address + bytes, end - address - bytes);
  return true;
}

bool AddressWindow::Create() {
  file_ = memfd_create("uvmsim", MFD_CLOEXEC);
  if (file_ < 0) return false;
  // Addresses cost nothing; less is tried where the process may not have that many.
  for (bytes_ = uint64_t{1} << 40; bytes_ >= uint64_t{1} << 30; bytes_ /= 2) {
    if (ftruncate(file_, static_cast<off_t>(bytes_)) != 0) continue;
    void* view = mmap(nullptr, bytes_ + kBlockBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (view == MAP_FAILED) continue;
    base_ = (reinterpret_cast<uint64_t>(view) + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    void* alias = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file_, 0);
    if (alias == MAP_FAILED) {
      munmap(view, bytes_ + kBlockBytes);
      continue;
    }
    if (mmap(reinterpret_cast<void*>(base_), bytes_, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file_, 0) ==
        MAP_FAILED) {
      munmap(view, bytes_ + kBlockBytes);
      munmap(alias, bytes_);
      continue;
    }
    alias_distance_ = reinterpret_cast<uint64_t>(alias) - base_;
    // The driver's mappings are not inherited by fork, and a core file has no use for a terabyte of holes.
    for (void* start : {reinterpret_cast<void*>(base_), alias}) {
      madvise(start, bytes_, MADV_DONTFORK);
      madvise(start, bytes_, MADV_DONTDUMP);
    }
    free_.Add(base_, bytes_);
    return true;
  }
  close(file_);
  file_ = -1;
  bytes_ = 0;
  return false;
}

uint64_t AddressWindow::Reserve(uint64_t bytes) {
  if (bytes == 0 || bytes > bytes_) return 0;
  return free_.Take((bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes, kBlockBytes);
}

void AddressWindow::Release(uint64_t address, uint64_t bytes) {
  const uint64_t rounded = (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  Protect(address, rounded, CpuProtection::kNone);
  Discard(address, rounded);
  free_.Add(address, rounded);
}

void AddressWindow::Discard(uint64_t address, uint64_t bytes) {
  fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(address - base_),
            static_cast<off_t>(bytes));
}

bool AddressWindow::RestoreAlias(uint64_t address, uint64_t bytes) {
  void* const restored = mmap(Alias(address), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
                              file_, static_cast<off_t>(address - base_));
  if (restored == MAP_FAILED) return false;
  madvise(restored, bytes, MADV_DONTFORK);
  madvise(restored, bytes, MADV_DONTDUMP);
  return true;
}

bool AddressWindow::Protect(uint64_t address, uint64_t bytes, CpuProtection protection) {
  const int flags = protection == CpuProtection::kNone   ? PROT_NONE
                    : protection == CpuProtection::kRead ? PROT_READ
                                                         : PROT_READ | PROT_WRITE;
  return mprotect(reinterpret_cast<void*>(address), bytes, flags) == 0;
}

}  // namespace uvmsim
