// The tree prefetcher against the counts that follow from uvm_perf_prefetch.c, and against a published trace.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "uvm_model/prefetch_tree.h"

namespace uvm_model {
namespace {

// Faults the pages of a whole block one at a time in the given order; the KiB that each service moves.
std::vector<int> ServiceSizes(const std::vector<int>& order, int threshold) {
  std::vector<int> sizes;
  PageMask resident;
  for (int page : order) {
    if (resident.Test(page)) continue;
    PageMask faulted;
    faulted.Set(page);
    const PageMask moved = (faulted | PrefetchPages(0, kPagesPerBlock, resident, faulted, threshold)) - resident;
    sizes.push_back(moved.Count() * 4);
    resident |= moved;
  }
  EXPECT_EQ(resident, PageMask::Range(0, kPagesPerBlock));
  return sizes;
}

std::vector<int> Sequential() {
  std::vector<int> order(kPagesPerBlock);
  for (int i = 0; i < kPagesPerBlock; ++i) order[i] = i;
  return order;
}

TEST(PrefetchTree, SequentialWalkOfABlockTakesTheDriversNumberOfServices) {
  EXPECT_EQ(ServiceSizes(Sequential(), 1), (std::vector<int>{2048}));
  EXPECT_EQ(ServiceSizes(Sequential(), 25), (std::vector<int>{128, 384, 1536}));
  EXPECT_EQ(ServiceSizes(Sequential(), 51), (std::vector<int>{64, 64, 128, 256, 512, 1024}));
  EXPECT_EQ(ServiceSizes(Sequential(), 75).size(), 20u);
  EXPECT_EQ(ServiceSizes(Sequential(), 100), std::vector<int>(512, 4));
}

// DebashisGanguly/gpgpu-sim_UVMSmart: the 64 KiB pieces 1, 3, 5, 7, 0, 8, 16 of a block, as nvprof saw them.
TEST(PrefetchTree, AgreesWithAPublishedTraceOfAGtx1080Ti) {
  PageMask resident;
  std::vector<int> sizes;
  for (int piece : {1, 3, 5, 7, 0, 8, 16}) {
    PageMask faulted;
    faulted.Set(piece * kPagesPerBigPage);
    const PageMask moved = (faulted | PrefetchPages(0, kPagesPerBlock, resident, faulted, 51)) - resident;
    sizes.push_back(moved.Count() * 4);
    resident |= moved;
  }
  EXPECT_EQ(sizes, (std::vector<int>{64, 64, 64, 64, 256, 512, 1024}));
}

TEST(PrefetchTree, OneIsolatedPageBringsItsBigPage) {
  for (int page : {0, 17, 255, 300, 511}) {
    PageMask faulted;
    faulted.Set(page);
    const PageMask moved = faulted | PrefetchPages(0, kPagesPerBlock, {}, faulted, 51);
    EXPECT_EQ(moved, PageMask::Range(page / kPagesPerBigPage * kPagesPerBigPage, kPagesPerBigPage)) << page;
  }
}

TEST(PrefetchTree, RandomOrderTakesAboutFourteenServices) {
  std::mt19937 random(1);
  double services = 0;
  constexpr int kBlocks = 400;
  for (int i = 0; i < kBlocks; ++i) {
    std::vector<int> order = Sequential();
    std::shuffle(order.begin(), order.end(), random);
    services += static_cast<double>(ServiceSizes(order, 51).size());
  }
  EXPECT_NEAR(services / kBlocks, 13.7, 0.3);
}

TEST(PrefetchTree, NeverLeavesThePartOfTheBlockThatIsAllocated) {
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    const int first = static_cast<int>(random() % kPagesPerBlock);
    const int count = 1 + static_cast<int>(random() % static_cast<unsigned>(kPagesPerBlock - first));
    const PageMask all = PageMask::Range(first, count);
    PageMask faulted;
    PageMask resident;
    for (int j = 0; j < 5; ++j) faulted.Set(first + static_cast<int>(random() % static_cast<unsigned>(count)));
    for (int j = 0; j < 40; ++j) resident.Set(first + static_cast<int>(random() % static_cast<unsigned>(count)));
    resident -= faulted;
    const PageMask prefetched = PrefetchPages(first, count, resident, faulted, 51);
    EXPECT_TRUE((prefetched - all).Empty());
    EXPECT_TRUE((prefetched & faulted).Empty());
  }
}

TEST(PageMask, RangesRunsAndSearches) {
  for (int first : {0, 1, 63, 64, 65, 500}) {
    for (int count : {0, 1, 2, 12}) {
      const PageMask mask = PageMask::Range(first, count);
      EXPECT_EQ(mask.Count(), count);
      EXPECT_EQ(mask.Empty(), count == 0);
      EXPECT_EQ(mask.FindNext(0), count == 0 ? kPagesPerBlock : first);
      int runs = 0;
      mask.ForEachRun([&](int begin, int length) {
        ++runs;
        EXPECT_EQ(begin, first);
        EXPECT_EQ(length, count);
      });
      EXPECT_EQ(runs, count == 0 ? 0 : 1);
    }
  }
  EXPECT_EQ(PageMask::Range(0, 512).Count(), 512);
  EXPECT_EQ(PageMask::Range(0, 512).FindNextMissing(0), kPagesPerBlock);
  PageMask odd;
  for (int page = 1; page < kPagesPerBlock; page += 2) odd.Set(page);
  int runs = 0;
  odd.ForEachRun([&](int, int length) { runs += length; });
  EXPECT_EQ(runs, 256);
}

}  // namespace
}  // namespace uvm_model
