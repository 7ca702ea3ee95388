#include "uvm_model/prefetch_tree.h"

#include <algorithm>

namespace uvm_model {
namespace {

struct Region {
  int first;
  int end;
};

Region Clip(int first, int pages, int block_first, int block_end) {
  return {std::max(first, block_first), std::min(first + pages, block_end)};
}

PageMask ToMask(Region region) { return PageMask::Range(region.first, region.end - region.first); }

// A fault on one page counts as a fault on its whole big page: the GPU maps 64 KiB at once. At an end of the block that
// does not lie on a 64 KiB boundary the piece up to the boundary is filled instead.
PageMask GrowToBigPages(const PageMask& faulted, int block_first, int block_end) {
  PageMask grown;
  for (int page = faulted.FindNext(0); page < kPagesPerBlock;) {
    const int big_page = page / kPagesPerBigPage * kPagesPerBigPage;
    grown |= ToMask(Clip(big_page, kPagesPerBigPage, block_first, block_end));
    page = faulted.FindNext(big_page + kPagesPerBigPage);
  }
  return grown;
}

}  // namespace

PageMask PrefetchPages(int first_page, int page_count, const PageMask& resident, const PageMask& faulted,
                       int threshold) {
  const int block_end = first_page + page_count;
  const PageMask tree = resident | faulted | GrowToBigPages(faulted, first_page, block_end);

  PageMask prefetch;
  for (int page = faulted.FindNext(0); page < kPagesPerBlock; page = faulted.FindNext(page + 1)) {
    Region largest = {0, 0};
    for (int node_pages = 1; node_pages <= kPagesPerBlock; node_pages *= 2) {
      const Region node = Clip(page / node_pages * node_pages, node_pages, first_page, block_end);
      const int filled = (tree & ToMask(node)).Count();
      if (filled * 100 > (node.end - node.first) * threshold) largest = node;
    }
    if (largest.end == 0) continue;
    prefetch |= ToMask(largest);
    // The driver stops here as well: the pages behind can be in no larger region.
    if (largest.end == block_end) break;
  }
  return prefetch - faulted;
}

}  // namespace uvm_model
