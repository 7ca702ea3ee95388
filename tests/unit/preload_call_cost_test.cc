// The estimate of what our part of the calls costs: of how many calls which are timed, and for how many each stands.
#include <gtest/gtest.h>

#include "preload/base/call_cost.h"

namespace uvmtrace {
namespace {

struct Estimate {
  uint64_t ns = 0;
  int timed = 0;
};

// Makes `calls` calls of which call i takes cost(i), and adds up what CallTiming makes of those that it times.
template <typename Cost>
Estimate RunCalls(CallTiming& timing, int calls, Cost cost) {
  Estimate estimate;
  for (int i = 0; i < calls; ++i) {
    if (!timing.Due()) continue;
    ++estimate.timed;
    const uint64_t cost_ns = cost(i);
    estimate.ns += timing.Add(cost_ns) * cost_ns;
  }
  return estimate;
}

TEST(CallCost, FewCallsAreAllTimed) {
  CallTiming timing;
  const Estimate estimate = RunCalls(timing, 10, [](int) { return 70; });
  EXPECT_EQ(estimate.timed, 10);
  EXPECT_EQ(estimate.ns, 700u);
}

TEST(CallCost, ManyCallsAreEstimatedFromOneIn64) {
  CallTiming timing;
  const Estimate estimate = RunCalls(timing, 64'000, [](int) { return 70; });
  EXPECT_NEAR(estimate.timed, 1016, 2);
  EXPECT_NEAR(static_cast<double>(estimate.ns), 64'000 * 70.0, 64 * 70.0);
}

TEST(CallCost, TheFirstCallsCountForThemselvesAlone) {
  CallTiming timing;
  // A ring is made in the first one, the unwinder gets warm in the others.
  const Estimate estimate = RunCalls(timing, 64'016, [](int i) { return i == 0 ? 3'000'000 : i < 16 ? 50'000 : 100; });
  EXPECT_NEAR(static_cast<double>(estimate.ns), 3'000'000 + 15 * 50'000 + 64'000 * 100.0, 64 * 100.0);
}

TEST(CallCost, AnInterruptedCallDoesNotStandForOthers) {
  CallTiming timing;
  int timed = 0;
  // Every 40th of the timed calls waits for a time slice.
  const Estimate estimate = RunCalls(timing, 640'000, [&](int) { return ++timed % 40 == 0 ? 4'000'000 : 100; });
  const double interrupted = estimate.timed / 40 * 4'000'000.0;
  EXPECT_NEAR(static_cast<double>(estimate.ns), 640'000 * 100.0 + interrupted, 0.03 * static_cast<double>(estimate.ns));
}

TEST(CallCost, WithoutASessionTheClockIsSeldomRead) {
  CallTiming timing;
  int due = 0;
  for (int i = 0; i < 6400; ++i) {
    if (!timing.Due()) continue;
    ++due;
    timing.Skip();
  }
  EXPECT_EQ(due, 100);
}

}  // namespace
}  // namespace uvmtrace
