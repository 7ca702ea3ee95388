// When the link's counters are read, and when a reading may hide a wrap.
#include <gtest/gtest.h>

#include "driver/link_pace.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kFlowing = uint64_t{1} << 30;
constexpr uint64_t kIdle = 40'000;

LinkPace QuietLink() {
  LinkPace pace;
  for (int i = 0; i < LinkPace::kQuietReadings; ++i) pace.Add(kIdle, LinkPace::kFlowingNs);
  return pace;
}

TEST(LinkPace, WhileBytesFlowNoIntervalHidesAWrap) {
  LinkPace pace;
  EXPECT_LT(pace.period_ns() * 63, uint64_t{1} << 32);  // at 63 bytes a nanosecond
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(pace.Add(i % 2 == 0 ? kFlowing : kIdle, pace.period_ns()));
    EXPECT_EQ(pace.period_ns(), LinkPace::kFlowingNs);
  }
}

TEST(LinkPace, ALateReadingIsUnsureEvenIfItFindsLittle) {
  LinkPace pace;
  pace.Add(kFlowing, LinkPace::kFlowingNs);
  EXPECT_FALSE(pace.Add(kIdle, LinkPace::kWrapNs));
  EXPECT_TRUE(pace.Add(kIdle, LinkPace::kWrapNs + 1));
}

TEST(LinkPace, AQuietLinkIsReadLessOftenAndStaysSure) {
  LinkPace pace = QuietLink();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(pace.period_ns(), LinkPace::kQuietNs);
    EXPECT_FALSE(pace.Add(kIdle, pace.period_ns()));
  }
}

TEST(LinkPace, WhereBytesFlowAgainOneIntervalIsUnsure) {
  LinkPace pace = QuietLink();
  EXPECT_TRUE(pace.Add(kFlowing, LinkPace::kQuietNs));
  EXPECT_EQ(pace.period_ns(), LinkPace::kFlowingNs);
  EXPECT_FALSE(pace.Add(kFlowing, LinkPace::kFlowingNs));
}

}  // namespace
}  // namespace uvmtrace
