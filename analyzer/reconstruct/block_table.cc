#include "analyzer/reconstruct/block_table.h"

#include <algorithm>

namespace uvmtrace::reconstruct {

using uvm_model::kBlockBytes;
using uvm_model::kPageBytes;
using uvm_model::PageMask;

namespace {

void ClipToItself(TrackedBlock* block) {
  const PageMask pages = block->All();
  block->cpu_resident &= pages;
  block->cpu_readable &= pages;
  block->cpu_writable &= pages;
  for (uvm_model::DeviceState& state : block->devices) {
    state.resident &= pages;
    state.readable &= pages;
    state.writable &= pages;
  }
}

}  // namespace

BlockTable::Ranges::const_iterator BlockTable::RangeAt(uint64_t address) const {
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return ranges_.end();
  --it;
  return address < it->second.end ? it : ranges_.end();
}

void BlockTable::AddRange(uint64_t address, uint64_t end) {
  if (address >= end) return;
  RemoveRange(address, end);
  ranges_[address].end = end;
}

// A range that sticks out on either side stays there: the driver frees whole ranges, but a trace may miss some calls.
void BlockTable::RemoveRange(uint64_t address, uint64_t end) {
  Forget(address, end);
  auto it = ranges_.upper_bound(address);
  if (it != ranges_.begin() && std::prev(it)->second.end > address) --it;
  while (it != ranges_.end() && it->first < end) {
    const uint64_t range_end = it->second.end;
    const uvm_model::Policy policy = it->second.policy;
    const uint64_t range_begin = it->first;
    it = ranges_.erase(it);
    if (range_begin < address) ranges_[range_begin] = Range{address, policy};
    if (range_end > end) ranges_[end] = Range{range_end, policy};
  }
}

void BlockTable::Clear() {
  ranges_.clear();
  blocks_.clear();
  owners_.clear();
  last_ = nullptr;
}

void BlockTable::Forget(uint64_t address, uint64_t end) {
  for (uint64_t base = address / kBlockBytes * kBlockBytes; base < end; base += kBlockBytes) {
    const auto it = blocks_.find(base);
    if (it == blocks_.end()) continue;
    TrackedBlock** link = &it->second;
    while (*link != nullptr) {
      TrackedBlock* const block = *link;
      if (block->Begin() >= end || block->End() <= address) {
        link = &block->next_in_block;
        continue;
      }
      *link = block->next_in_block;
      if (last_ == block) last_ = nullptr;
      on_remove_(context_, block);
      owners_.erase(block);
    }
    if (it->second == nullptr) blocks_.erase(it);
  }
}

void BlockTable::Split(uint64_t address) {
  const auto it = ranges_.find(RangeAt(address)->first);
  ranges_[address] = Range{it->second.end, it->second.policy};
  it->second.end = address;
  TrackedBlock* const low = Find(address);
  if (low == nullptr || low->Begin() == address) return;
  // Both parts keep what they have, and neither counts as whole any more.
  auto owner = std::make_unique<TrackedBlock>();
  TrackedBlock* const high = owner.get();
  static_cast<uvm_model::Block&>(*high) = *low;
  for (uvm_model::DeviceState& state : high->devices) {
    state.list = uvm_model::ChunkList::kNone;  // it enters when it moves next
    state.chunk_bytes = 0;
    state.previous = state.next = nullptr;
  }
  const int page = static_cast<int>((address - low->base) / kPageBytes);
  high->first_page = page;
  high->page_count = low->first_page + low->page_count - page;
  high->fresh = low->fresh;
  low->page_count = page - low->first_page;
  ClipToItself(low);
  ClipToItself(high);
  high->next_in_block = low->next_in_block;
  low->next_in_block = high;
  owners_.emplace(high, std::move(owner));
}

TrackedBlock* BlockTable::Find(uint64_t address) const {
  const auto it = blocks_.find(address / kBlockBytes * kBlockBytes);
  if (it == blocks_.end()) return nullptr;
  for (TrackedBlock* block = it->second; block != nullptr; block = block->next_in_block) {
    if (address >= block->Begin() && address < block->End()) return block;
  }
  return nullptr;
}

TrackedBlock* BlockTable::Make(uint64_t address) {
  auto owner = std::make_unique<TrackedBlock>();
  TrackedBlock* const block = owner.get();
  block->base = address / kBlockBytes * kBlockBytes;
  uint64_t begin = block->base;
  uint64_t end = block->base + kBlockBytes;
  if (const auto range = RangeAt(address); range != ranges_.end()) {
    begin = std::max(begin, range->first);
    end = std::min(end, range->second.end);
    block->policy = range->second.policy;
  } else {
    // What lies beside it in the same 2 MiB belongs to others.
    const auto above = ranges_.upper_bound(address);
    if (above != ranges_.end()) end = std::min(end, above->first);
    if (above != ranges_.begin()) begin = std::max(begin, std::prev(above)->second.end);
  }
  TrackedBlock*& first = blocks_[block->base];
  for (const TrackedBlock* other = first; other != nullptr; other = other->next_in_block) {
    if (other->End() <= address) begin = std::max(begin, other->End());
    if (other->Begin() > address) end = std::min(end, other->Begin());
  }
  block->first_page = static_cast<int>((begin - block->base) / kPageBytes);
  block->page_count = static_cast<int>((end - begin) / kPageBytes);
  block->next_in_block = first;
  first = block;
  owners_.emplace(block, std::move(owner));
  return block;
}

TrackedBlock* BlockTable::At(uint64_t address) {
  if (last_ != nullptr && address >= last_->Begin() && address < last_->End()) return last_;
  last_ = Find(address);
  if (last_ == nullptr) last_ = Make(address);
  return last_;
}

}  // namespace uvmtrace::reconstruct
