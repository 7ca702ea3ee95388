// The driver's ranges of managed memory, and the blocks in them that were touched.
//
// A range is what one mmap of the driver's file covers. Its policy is its own: an advice to a part of it splits it, and
// a block that the split goes through becomes two. Blocks are made when they are first touched. An address in no known
// range is taken as part of a whole block of its own, because the trace may have begun after its allocation.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "uvm_model/service.h"
#include "uvm_model/thrashing.h"

namespace uvmtrace::reconstruct {

struct TrackedBlock : uvm_model::Block {
  // The pages that the last batch of each GPU brought. The fault buffer may hold stale entries on them.
  struct Fresh {
    uint32_t batch = 0;
    bool any = false;
    uvm_model::PageMask pages;
  };
  std::array<Fresh, uvm_model::kMaxDevices> fresh;
  std::unique_ptr<uvm_model::Thrashing> thrashing;
  // The last CPU fault on a page that the CPU could access already: skip_cpu_fault_with_valid_permissions.
  uint64_t spurious_ns = 0;
  uint32_t spurious_tid = 0;
  int spurious_page = 0;
  TrackedBlock* next_in_block = nullptr;  // another part of the same 2 MiB
};

class BlockTable {
 public:
  // Called for a block before it goes.
  using OnRemove = void (*)(void* context, TrackedBlock* block);
  BlockTable(OnRemove on_remove, void* context) : on_remove_(on_remove), context_(context) {}

  // [address, end) of whole pages. What was known about them is forgotten.
  void AddRange(uint64_t address, uint64_t end);
  void RemoveRange(uint64_t address, uint64_t end);
  // Forgets everything, without a call of OnRemove.
  void Clear();
  bool InRange(uint64_t address) const { return RangeAt(address) != ranges_.end(); }

  TrackedBlock* At(uint64_t address);

  // Changes the policy in [address, end): `differs` says whether a range's policy is another one, `change` makes it so,
  // and `on_block` gets every block that exists there. Ranges are split only where the policy differs, as in the
  // driver.
  template <typename Differs, typename Change, typename OnBlock>
  void ChangePolicy(uint64_t address, uint64_t end, Differs differs, Change change, OnBlock on_block) {
    SplitIf(address, differs);
    SplitIf(end, differs);
    for (auto it = ranges_.lower_bound(address); it != ranges_.end() && it->first < end; ++it)
      change(&it->second.policy);
    ForEachExisting(address, end, [&](TrackedBlock* block) {
      change(&block->policy);
      on_block(block);
    });
  }

  // Calls visit(block, pages) for every block of [address, end), of whole pages.
  template <typename Visit>
  void ForEach(uint64_t address, uint64_t end, Visit visit) {
    while (address < end) {
      TrackedBlock* const block = At(address);
      const uint64_t stop = end < block->End() ? end : block->End();
      visit(block, uvm_model::PageMask::Range(static_cast<int>((address - block->base) / uvm_model::kPageBytes),
                                              static_cast<int>((stop - address) / uvm_model::kPageBytes)));
      address = stop;
    }
  }

 private:
  struct Range {
    uint64_t end = 0;
    uvm_model::Policy policy;
  };
  using Ranges = std::map<uint64_t, Range>;  // by address

  Ranges::const_iterator RangeAt(uint64_t address) const;
  template <typename Differs>
  void SplitIf(uint64_t address, Differs differs) {
    const auto it = RangeAt(address);
    if (it != ranges_.end() && it->first != address && differs(it->second.policy)) Split(address);
  }
  void Split(uint64_t address);
  TrackedBlock* Make(uint64_t address);
  TrackedBlock* Find(uint64_t address) const;
  void Forget(uint64_t address, uint64_t end);
  template <typename Visit>
  void ForEachExisting(uint64_t address, uint64_t end, Visit visit) {
    for (uint64_t base = address / uvm_model::kBlockBytes * uvm_model::kBlockBytes; base < end;
         base += uvm_model::kBlockBytes) {
      const auto it = blocks_.find(base);
      if (it == blocks_.end()) continue;
      for (TrackedBlock* block = it->second; block != nullptr; block = block->next_in_block) {
        if (block->Begin() < end && block->End() > address) visit(block);
      }
    }
  }

  OnRemove on_remove_;
  void* context_;
  Ranges ranges_;
  std::unordered_map<uint64_t, TrackedBlock*> blocks_;  // by base: the first of a chain
  std::unordered_map<TrackedBlock*, std::unique_ptr<TrackedBlock>> owners_;
  TrackedBlock* last_ = nullptr;
};

}  // namespace uvmtrace::reconstruct
