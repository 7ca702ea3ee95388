#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "preload/base/config.h"

namespace uvmtrace {
namespace {

std::vector<std::string>& Warnings() {
  static std::vector<std::string> warnings;
  return warnings;
}

Config Read(std::vector<const char*> environment) {
  Warnings().clear();
  environment.push_back(nullptr);
  Config config;
  ReadConfig(environment.data(), &config, [](const char* line) { Warnings().push_back(line); });
  return config;
}

TEST(PreloadConfig, DefaultsWithoutVariables) {
  const Config config = Read({"PATH=/bin", "HOME=/root"});
  EXPECT_STREQ(config.out, "trace.pb");
  EXPECT_EQ(config.detail, Detail::kExact);
  EXPECT_EQ(config.source, Source::kAuto);
  EXPECT_EQ(config.stack_frames, 32);
  EXPECT_EQ(config.buffer_bytes, size_t{64} << 20);
  EXPECT_EQ(config.log, LogLevel::kWarn);
  EXPECT_TRUE(config.kernels);
  EXPECT_TRUE(config.children);
  EXPECT_EQ(config.bottom_half_stacks, Config::BottomHalfStacks::kByDetail);
  EXPECT_EQ(config.drain_period_us, 1000u);
  EXPECT_EQ(config.sample_period_us, 10'000u);
  EXPECT_TRUE(Warnings().empty());
}

TEST(PreloadConfig, EveryVariable) {
  const Config config =
      Read({"UVMTRACE_OUT=/x/%h.%p", "UVMTRACE_DETAIL=calls", "UVMTRACE_STACKS=128", "UVMTRACE_BUFFER_MB=4096",
            "UVMTRACE_SOURCE=queue", "UVMTRACE_LOG=debug", "UVMTRACE_CHILDREN=0", "UVMTRACE_KERNELS=0",
            "UVMTRACE_BH_STACKS=0", "UVMTRACE_DRAIN_US=500", "UVMTRACE_SAMPLE_MS=20"});
  EXPECT_STREQ(config.out, "/x/%h.%p");
  EXPECT_EQ(config.detail, Detail::kCalls);
  EXPECT_EQ(config.source, Source::kQueue);
  EXPECT_EQ(config.stack_frames, 128);
  EXPECT_EQ(config.buffer_bytes, size_t{4} << 30);
  EXPECT_EQ(config.log, LogLevel::kDebug);
  EXPECT_FALSE(config.children);
  EXPECT_FALSE(config.kernels);
  EXPECT_EQ(config.bottom_half_stacks, Config::BottomHalfStacks::kOff);
  EXPECT_EQ(config.drain_period_us, 500u);
  EXPECT_EQ(config.sample_period_us, 20'000u);
  EXPECT_TRUE(Warnings().empty());
}

TEST(PreloadConfig, EveryDetailHasItsName) {
  for (const Detail detail : {Detail::kFull, Detail::kCalls, Detail::kLight, Detail::kSampled, Detail::kExact}) {
    const std::string variable = std::string("UVMTRACE_DETAIL=") + DetailName(detail);
    EXPECT_EQ(Read({variable.c_str()}).detail, detail) << variable;
    EXPECT_TRUE(Warnings().empty());
  }
  EXPECT_EQ(Read({"UVMTRACE_SOURCE=cupti"}).source, Source::kCupti);
  EXPECT_EQ(Read({"UVMTRACE_SOURCE=auto"}).source, Source::kAuto);
}

TEST(PreloadConfig, WhatOlderScriptsSetIsTheDefaultWithoutAWarning) {
  EXPECT_EQ(Read({"UVMTRACE_DETAIL=auto", "UVMTRACE_MAX_OVERHEAD=25"}).detail, Detail::kExact);
  EXPECT_TRUE(Warnings().empty());
}

TEST(PreloadConfig, NullEnvironment) {
  Config config;
  ReadConfig(nullptr, &config, [](const char*) { FAIL(); });
  EXPECT_EQ(config.stack_frames, 32);
}

TEST(PreloadConfig, SimulatorVariablesAreNotOurs) {
  Read({"UVMTRACE_SIM_PROFILE=tiny", "UVMTRACE_SIM_ANYTHING=1"});
  EXPECT_TRUE(Warnings().empty());
}

TEST(PreloadConfig, UnknownNameIsOneLineThatNamesIt) {
  Read({"UVMTRACE_STAKCS=3", "UVMTRACE_=1"});
  ASSERT_EQ(Warnings().size(), 2u);
  EXPECT_NE(Warnings()[0].find("UVMTRACE_STAKCS"), std::string::npos);
  EXPECT_EQ(Warnings()[0].find('\n'), std::string::npos);
}

TEST(PreloadConfig, PrefixOfAKnownNameIsUnknown) {
  Read({"UVMTRACE_LO=info", "UVMTRACE_LOGS=info"});
  EXPECT_EQ(Warnings().size(), 2u);
}

class MalformedValue : public testing::TestWithParam<const char*> {};

TEST_P(MalformedValue, KeepsTheDefaultAndSaysSo) {
  const Config config = Read({GetParam()});
  const Config defaults;
  EXPECT_EQ(Warnings().size(), 1u) << GetParam();
  EXPECT_STREQ(config.out, defaults.out);
  EXPECT_EQ(config.detail, defaults.detail);
  EXPECT_EQ(config.source, defaults.source);
  EXPECT_EQ(config.stack_frames, defaults.stack_frames);
  EXPECT_EQ(config.buffer_bytes, defaults.buffer_bytes);
  EXPECT_EQ(config.log, defaults.log);
  EXPECT_EQ(config.drain_period_us, defaults.drain_period_us);
  EXPECT_EQ(config.sample_period_us, defaults.sample_period_us);
}

INSTANTIATE_TEST_SUITE_P(PreloadConfig, MalformedValue,
                         testing::Values("UVMTRACE_OUT=", "UVMTRACE_DETAIL=", "UVMTRACE_DETAIL=FULL",
                                         "UVMTRACE_DETAIL=light,full", "UVMTRACE_SOURCE=", "UVMTRACE_SOURCE=both",
                                         "UVMTRACE_STACKS=", "UVMTRACE_STACKS=129", "UVMTRACE_STACKS=-1",
                                         "UVMTRACE_STACKS=+1", "UVMTRACE_STACKS= 1", "UVMTRACE_STACKS=1 ",
                                         "UVMTRACE_STACKS=0x10", "UVMTRACE_STACKS=99999999999999999999999",
                                         "UVMTRACE_BUFFER_MB=3", "UVMTRACE_BUFFER_MB=4097", "UVMTRACE_BUFFER_MB=64M",
                                         "UVMTRACE_LOG=loud", "UVMTRACE_LOG=", "UVMTRACE_DRAIN_US=99",
                                         "UVMTRACE_CHILDREN=2", "UVMTRACE_KERNELS=no",
                                         "UVMTRACE_KERNELS=", "UVMTRACE_DRAIN_US=1000001", "UVMTRACE_SAMPLE_MS=0",
                                         "UVMTRACE_SAMPLE_MS=1e3"));

TEST(PreloadConfig, ValueThatIsTooLongIsCutInTheWarningNotInTheFile) {
  const std::string variable = "UVMTRACE_OUT=" + std::string(PATH_MAX, 'x');
  const Config config = Read({variable.c_str()});
  EXPECT_STREQ(config.out, "trace.pb");
  ASSERT_EQ(Warnings().size(), 1u);
  EXPECT_LT(Warnings()[0].size(), 300u);
}

TEST(PreloadConfig, ValueMayHoldAnEqualsSign) { EXPECT_STREQ(Read({"UVMTRACE_OUT=a=b.pb"}).out, "a=b.pb"); }

TEST(PreloadConfig, LastOfTwoWins) { EXPECT_EQ(Read({"UVMTRACE_STACKS=1", "UVMTRACE_STACKS=2"}).stack_frames, 2); }

}  // namespace
}  // namespace uvmtrace
