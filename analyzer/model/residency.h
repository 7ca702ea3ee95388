// What was on a device and left it, by 2 MiB block, so that bytes which come back can be told from bytes that come
// first.
//
// The driver's thrashing events never tell that a working set does not fit: they mean ping-pong between processors, and
// evictions are ignored there. Here every byte that leaves a device is a credit of its block; bytes that arrive use up
// the credit first, and that is what came back ("refaulted"). A block that takes in more than its size without having
// been seen leaving came back as well: read-mostly copies are dropped without a copy. Memory: 8 bytes for each block
// that ever moved, of one allocation (so that an address used again starts afresh).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace uvmtrace::analyzer {

class Residency {
 public:
  static constexpr uint64_t kBlockBytes = uint64_t{2} << 20;

  // Returns how many of the bytes had been on the device before.
  uint64_t Arrive(int32_t device, uint64_t address, uint64_t bytes) {
    uint64_t came_back = 0;
    ForEachBlock(device, address, bytes, [&came_back](Block& block, uint32_t part) {
      const uint32_t returned = std::min(part, block.left);
      block.left -= returned;
      block.resident += part;
      came_back += returned;
      if (block.resident + block.left > kBlockBytes) {
        const uint32_t excess = block.resident + block.left - static_cast<uint32_t>(kBlockBytes);
        came_back += excess;
        block.resident -= excess;
      }
    });
    return came_back;
  }

  void Leave(int32_t device, uint64_t address, uint64_t bytes) {
    ForEachBlock(device, address, bytes, [](Block& block, uint32_t part) {
      block.resident -= std::min(block.resident, part);
      block.left = static_cast<uint32_t>(std::min<uint64_t>(block.left + part, kBlockBytes - block.resident));
    });
  }

 private:
  // The driver never moves more than a block at a time; damage that claims more must not make us walk the address
  // space.
  static constexpr uint64_t kMaximumBlocksOfEvent = 1 << 16;
  static constexpr uint64_t kLeafBlocks = 256;

  struct Block {
    uint32_t resident = 0;
    uint32_t left = 0;
  };
  using Leaf = std::array<Block, kLeafBlocks>;
  struct Device {
    int32_t ordinal = 0;
    std::unordered_map<uint64_t, std::unique_ptr<Leaf>> leaves;
    uint64_t last_leaf_number = ~uint64_t{0};
    Leaf* last_leaf = nullptr;
  };

  template <typename OnBlock>
  void ForEachBlock(int32_t ordinal, uint64_t address, uint64_t bytes, OnBlock on_block) {
    Device& device = DeviceOf(ordinal);
    for (uint64_t walked = 0; bytes > 0 && walked < kMaximumBlocksOfEvent; ++walked) {
      const uint64_t number = address / kBlockBytes;
      const uint64_t part = std::min(bytes, kBlockBytes - address % kBlockBytes);
      const uint64_t leaf_number = number / kLeafBlocks;
      if (leaf_number != device.last_leaf_number) {
        std::unique_ptr<Leaf>& leaf = device.leaves[leaf_number];
        if (leaf == nullptr) leaf = std::make_unique<Leaf>();
        device.last_leaf = leaf.get();
        device.last_leaf_number = leaf_number;
      }
      on_block((*device.last_leaf)[number % kLeafBlocks], static_cast<uint32_t>(part));
      address += part;
      bytes -= part;
    }
  }

  Device& DeviceOf(int32_t ordinal) {
    for (Device& device : devices_) {
      if (device.ordinal == ordinal) return device;
    }
    devices_.emplace_back();
    devices_.back().ordinal = ordinal;
    return devices_.back();
  }

  std::vector<Device> devices_;
};

}  // namespace uvmtrace::analyzer
