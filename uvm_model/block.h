// The state of one VA block: the 2 MiB (or the part of them that one policy covers) in which the driver thinks.
#pragma once

#include <array>
#include <cstdint>

#include "uvm_model/outcome.h"
#include "uvm_model/page_mask.h"

namespace uvm_model {

inline constexpr int kMaxDevices = 8;
inline constexpr int kNoProcessor = -2;

struct Policy {
  int8_t preferred = kNoProcessor;
  uint8_t accessed_by_devices = 0;  // one bit per device
  bool accessed_by_cpu = false;     // maps nothing where the host cannot map GPU memory, but splits ranges
  bool read_mostly = false;

  bool AccessedBy(int processor) const {
    return processor == kCpu ? accessed_by_cpu : ((accessed_by_devices >> processor) & 1) != 0;
  }
  void SetAccessedBy(int processor, bool accessed) {
    if (processor == kCpu) {
      accessed_by_cpu = accessed;
      return;
    }
    const auto bit = static_cast<uint8_t>(1u << processor);
    accessed_by_devices = static_cast<uint8_t>(accessed ? accessed_by_devices | bit : accessed_by_devices & ~bit);
  }
};

struct Block;

enum class ChunkList : uint8_t { kNone, kUnused, kUsed };

// A block on one GPU.
struct DeviceState {
  PageMask resident;
  PageMask readable;  // mapped, here or remotely
  PageMask writable;
  uint64_t chunk_bytes = 0;  // physical memory that the block holds on the GPU, even if nothing is resident in it
  bool dma_mapped = false;
  bool evicted = false;  // and not back yet
  ChunkList list = ChunkList::kNone;
  Block* previous = nullptr;
  Block* next = nullptr;
};

struct Block {
  uint64_t base = 0;  // the 2 MiB boundary; page p lies at base + p * kPageBytes
  int first_page = 0;
  int page_count = 0;
  Policy policy;

  PageMask populated;
  PageMask cpu_resident;
  PageMask cpu_readable;
  PageMask cpu_writable;
  PageMask shown_readable;  // what the last ProtectionChanges said
  PageMask shown_writable;
  std::array<DeviceState, kMaxDevices> devices;

  int8_t last_processor = kNoProcessor;  // where the last fault migrations went, and how many pages
  uint32_t fault_migrations = 0;

  uint64_t Address(int page) const { return base + static_cast<uint64_t>(page) * kPageBytes; }
  uint64_t Begin() const { return Address(first_page); }
  uint64_t End() const { return Address(first_page + page_count); }
  PageMask All() const { return PageMask::Range(first_page, page_count); }
  // Only whole blocks move in the driver's list of used chunks; the others stay in the order of their allocation.
  bool Whole() const { return page_count == kPagesPerBlock; }
};

// Blocks with memory on one GPU, oldest first. Intrusive: moving a block allocates nothing.
class BlockList {
 public:
  BlockList(int device, ChunkList name) : device_(device), name_(name) {}
  Block* head() const { return head_; }
  void Append(Block* block) {
    DeviceState& state = block->devices[device_];
    state.list = name_;
    state.previous = tail_;
    state.next = nullptr;
    (tail_ == nullptr ? head_ : tail_->devices[device_].next) = block;
    tail_ = block;
  }
  void Remove(Block* block) {
    DeviceState& state = block->devices[device_];
    (state.previous == nullptr ? head_ : state.previous->devices[device_].next) = state.next;
    (state.next == nullptr ? tail_ : state.next->devices[device_].previous) = state.previous;
    state.list = ChunkList::kNone;
    state.previous = state.next = nullptr;
  }

 private:
  int device_;
  ChunkList name_;
  Block* head_ = nullptr;
  Block* tail_ = nullptr;
};

}  // namespace uvm_model
