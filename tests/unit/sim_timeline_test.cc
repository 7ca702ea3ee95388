// When work runs on the virtual clock: what waits for what, and what does not.
#include <gtest/gtest.h>

#include "sim/engine/timeline.h"

namespace uvmsim {
namespace {

TEST(Resource, WorkThatWantsTheSameWaits) {
  Resource link;
  EXPECT_EQ(link.Reserve(0, 10), 10);
  EXPECT_EQ(link.Reserve(0, 10), 20);
  EXPECT_EQ(link.Reserve(100, 5), 105);
}

TEST(Resource, LaterSubmittedWorkUsesTheGapsThatItFitsIn) {
  Resource link;
  link.Reserve(0, 10);
  link.Reserve(30, 10);
  EXPECT_EQ(link.Reserve(0, 20), 30) << "exactly the gap";
  EXPECT_EQ(link.Reserve(0, 1), 41) << "no gap is left";
  Resource other;
  other.Reserve(10, 10);
  EXPECT_EQ(other.Reserve(0, 11), 31) << "the gap before is too short";
  EXPECT_EQ(other.Reserve(0, 10), 10);
}

TEST(Resource, NothingTakesNoTime) {
  Resource link;
  link.Reserve(0, 10);
  EXPECT_EQ(link.Reserve(5, 0), 5);
}

Demand Copy(double to_device_ns, double to_host_ns) {
  Demand demand;
  demand.to_device_ns = to_device_ns;
  demand.to_host_ns = to_host_ns;
  return demand;
}

TEST(GpuTimeline, TheLinksTwoDirectionsOverlap) {
  GpuTimeline gpu;
  EXPECT_EQ(gpu.Schedule(0, Copy(100, 0)), 100);
  EXPECT_EQ(gpu.Schedule(0, Copy(0, 80)), 80);
}

TEST(GpuTimeline, ReadsInPlaceAndCopiesShareTheLink) {
  GpuTimeline gpu;
  gpu.Schedule(0, Copy(100, 0));
  Demand kernel = Copy(50, 0);
  kernel.memory_ns = 5;
  EXPECT_EQ(gpu.Schedule(0, kernel), 155);
}

TEST(GpuTimeline, FaultsOfTwoStreamsTakeTurnsInTheBottomHalf) {
  GpuTimeline gpu;
  Demand faults;
  faults.service_ns = 70;
  faults.to_device_ns = 20;
  EXPECT_EQ(gpu.Schedule(0, faults), 70);
  EXPECT_EQ(gpu.Schedule(0, faults), 140);
  EXPECT_EQ(gpu.Schedule(0, Copy(25, 0)), 65) << "a copy runs beside them, once the link is free";
}

TEST(GpuTimeline, AKernelOnDeviceMemoryDelaysNoCopy) {
  GpuTimeline gpu;
  Demand kernel;
  kernel.memory_ns = 1000;
  EXPECT_EQ(gpu.Schedule(0, kernel), 1000);
  EXPECT_EQ(gpu.Schedule(0, Copy(100, 0)), 100);
}

}  // namespace
}  // namespace uvmsim
