// Which pages the driver moves along with those that faulted: the tree prefetcher of uvm_perf_prefetch.c.
//
// A full binary tree over the pages of a block; a node whose pages are, or are about to be, resident on the destination
// by more than `threshold` percent is filled up. Source: NVIDIA/open-gpu-kernel-modules, kernel-open/nvidia-uvm/
// uvm_perf_prefetch.c; the constants are the same in driver branches 515 to 595.
#pragma once

#include "uvm_model/page_mask.h"

namespace uvm_model {

// The pages to move besides `faulted`. `first_page` and `page_count` are the part of the block that belongs to the
// driver's range; nodes are clipped to it. `resident` is what the destination already has. Pages that are already
// resident may be in the answer: the caller knows which of them still need mapping. A thrashing page keeps its 64 KiB
// from being filled, is no reason to prefetch, and is not prefetched. `threshold` 100 switches prefetching off.
PageMask PrefetchPages(int first_page, int page_count, const PageMask& resident, const PageMask& faulted, int threshold,
                       const PageMask& thrashing = {});

}  // namespace uvm_model
