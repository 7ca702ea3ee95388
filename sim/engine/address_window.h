// The address range that all device and managed memory is cut from, mapped twice.
//
// The application's view is inaccessible unless the CPU may touch a page; the alias, at a constant distance, is always
// readable and writable: it is how the simulated GPU and copy engines get at the bytes. Both show one sparse memory
// file, so that nothing is ever copied when a page "migrates".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "sim/engine/paging_model.h"

namespace uvmsim {

// Free address ranges, first fit, neighbours merged.
class FreeRanges {
 public:
  void Add(uint64_t address, uint64_t bytes);
  // 0 if nothing fits.
  uint64_t Take(uint64_t bytes, uint64_t alignment);
  // Takes exactly this range out; false if part of it is not free.
  bool TakeAt(uint64_t address, uint64_t bytes);

 private:
  std::map<uint64_t, uint64_t> ranges_;  // address -> bytes
};

class AddressWindow {
 public:
  // False, with errno, if the system gives no such mapping.
  bool Create();
  bool Contains(uint64_t address) const { return address - base_ < bytes_; }
  // A range of addresses in units of 2 MiB, inaccessible to the CPU; 0 if there is none left.
  uint64_t Reserve(uint64_t bytes);
  // Gives addresses and memory back.
  void Release(uint64_t address, uint64_t bytes);
  // Gives the memory back; the bytes are zero afterwards.
  void Discard(uint64_t address, uint64_t bytes);
  // Undoes a mapping that somebody laid over the alias.
  bool RestoreAlias(uint64_t address, uint64_t bytes);
  void* Alias(uint64_t address) const { return reinterpret_cast<void*>(address + alias_distance_); }
  // False if the kernel refuses, which happens when the process has too many mappings (vm.max_map_count).
  bool Protect(uint64_t address, uint64_t bytes, CpuProtection protection);

 private:
  int file_ = -1;
  uint64_t base_ = 0;
  uint64_t bytes_ = 0;
  uint64_t alias_distance_ = 0;
  FreeRanges free_;
};

}  // namespace uvmsim
