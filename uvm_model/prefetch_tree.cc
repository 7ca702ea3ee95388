#include "uvm_model/prefetch_tree.h"

#include <algorithm>

namespace uvm_model {
namespace {

struct Region {
  int first;
  int end;
};

PageMask ToMask(Region region) { return PageMask::Range(region.first, region.end - region.first); }

// The big pages that lie inside of the range; empty if there is none.
Region BigPagesInside(Region range) {
  const int first = (range.first + kPagesPerBigPage - 1) / kPagesPerBigPage * kPagesPerBigPage;
  const int end = range.end / kPagesPerBigPage * kPagesPerBigPage;
  return first < end ? Region{first, end} : Region{0, 0};
}

// A fault on one page counts as a fault on its whole big page, because the GPU maps 64 KiB at once. The pieces of the
// range before its first and behind its last big page are filled as if they were big pages. A range without any is
// filled as a whole.
PageMask GrowToBigPages(const PageMask& faulted, Region range, Region big_pages, const PageMask& thrashing) {
  PageMask grown;
  for (int page = faulted.FindNext(0); page < kPagesPerBlock;) {
    Region piece = range;
    if (big_pages.end != 0) {
      const int big_page = page / kPagesPerBigPage * kPagesPerBigPage;
      piece = page < big_pages.first  ? Region{range.first, big_pages.first}
              : page >= big_pages.end ? Region{big_pages.end, range.end}
                                      : Region{big_page, big_page + kPagesPerBigPage};
    }
    if (!thrashing.IntersectsRange(piece.first, piece.end)) grown |= ToMask(piece);
    page = faulted.FindNext(piece.end);
  }
  return grown;
}

}  // namespace

PageMask PrefetchPages(int first_page, int page_count, const PageMask& resident, const PageMask& faulted, int threshold,
                       const PageMask& thrashing) {
  const Region range = {first_page, first_page + page_count};
  const Region big_pages = BigPagesInside(range);
  const PageMask tree = resident | faulted | GrowToBigPages(faulted, range, big_pages, thrashing);
  // Leaves are numbered from the 64 KiB boundary below the range, or from its first page if it holds no big page.
  const int origin = big_pages.end == 0 ? range.first : range.first / kPagesPerBigPage * kPagesPerBigPage;
  const int leaves = range.end - origin;
  // The driver takes a node that begins before the range to begin as many pages behind the range's first page as that
  // lies behind the boundary (compute_prefetch_region; an H100 with 580.159 does so). Those pages are left out.
  const int missing = range.first - origin;

  PageMask prefetch;
  const PageMask reasons = faulted - thrashing;
  for (int page = reasons.FindNext(0); page < kPagesPerBlock; page = reasons.FindNext(page + 1)) {
    // Its node would be the one that its neighbour chose: both climb the same tree.
    if (prefetch.Test(page)) continue;
    Region largest = {0, 0};
    for (int node_pages = 1;; node_pages *= 2) {
      const int first = (page - origin) / node_pages * node_pages;
      const int end = std::min(first + node_pages, leaves);
      const int filled = tree.CountRange(std::max(origin + first, range.first), origin + end);
      if (filled * 100 > (end - first) * threshold) {
        largest = {first < missing ? range.first + missing : origin + first, origin + end};
      }
      if (node_pages >= leaves) break;
    }
    if (largest.end != 0) prefetch |= ToMask(largest);
  }
  return prefetch - faulted - thrashing;
}

}  // namespace uvm_model
