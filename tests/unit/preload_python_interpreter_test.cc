// Which interpreters are read, in which way, and which are left alone: decided by version and by what is exported.
#include <gtest/gtest.h>

#include <string>

#include "preload/stacks/python_interpreter.h"

namespace uvmtrace {
namespace {

template <typename Function>
void Have(Function** function) {
  *function = reinterpret_cast<Function*>(1);
}

PythonApi LayoutApi() {
  PythonApi api{};
  Have(&api.address_to_line);
  Have(&api.code_type);
  Have(&api.string_type);
  return api;
}

PythonApi WholeApi() {
  PythonApi api = LayoutApi();
  Have(&api.current_thread_state);
  Have(&api.gil_held);
  Have(&api.frame_of);
  Have(&api.frame_back);
  Have(&api.frame_code);
  Have(&api.frame_line);
  Have(&api.attribute);
  Have(&api.as_utf8);
  Have(&api.interpreter_of);
  Have(&api.main_interpreter);
  Have(&api.increment);
  Have(&api.decrement);
  Have(&api.fetch_error);
  Have(&api.restore_error);
  Have(&api.disable_collector);
  Have(&api.enable_collector);
  return api;
}

TEST(PythonDecisions, AKnownVersionIsReadByItsLayoutOnceThatIsChecked) {
  for (int minor = 9; minor <= 14; ++minor) {
    const std::string version = "3." + std::to_string(minor) + ".1 (main, Oct  7 2025, 12:00:00) [GCC 14.2.0]";
    const PythonDecision decision = DecidePython(version, LayoutApi());
    EXPECT_EQ(decision.way, PythonWay::kUnchecked) << version;
    EXPECT_EQ(decision.minor, minor);
    ASSERT_NE(decision.layout, nullptr);
    EXPECT_EQ(decision.layout->minor, minor);
  }
}

TEST(PythonDecisions, AVersionOfTheFutureIsReadThroughTheApi) {
  for (const char* version : {"3.15.0a1+ (main) [GCC]", "3.15.0", "3.100.0 (x)"}) {
    const PythonDecision decision = DecidePython(version, WholeApi());
    EXPECT_EQ(decision.way, PythonWay::kApi) << version;
    EXPECT_EQ(decision.layout, nullptr);
    EXPECT_STREQ(decision.reason, kOnlyWithGil);
  }
}

TEST(PythonDecisions, AVersionOfTheFutureWithoutAWholeApiIsLeftAlone) {
  const PythonDecision decision = DecidePython("3.15.0", LayoutApi());
  EXPECT_EQ(decision.way, PythonWay::kRefused);
  EXPECT_STREQ(decision.reason, "this version is not known");
  PythonApi no_collector = WholeApi();
  no_collector.disable_collector = nullptr;
  EXPECT_EQ(DecidePython("3.15.0", no_collector).way, PythonWay::kRefused);
}

TEST(PythonDecisions, AStrippedInterpreterOfAKnownVersionIsReadThroughTheApi) {
  PythonApi api = WholeApi();
  api.address_to_line = nullptr;
  EXPECT_EQ(DecidePython("3.14.0", api).way, PythonWay::kApi);
}

TEST(PythonDecisions, FreeThreadedBuildsAreLeftAlone) {
  for (const char* version :
       {"3.13.0 experimental free-threading build (main, Oct  7 2024) [GCC 13.2.0]",
        "3.14.0 free-threading build (main, Oct  7 2025, 12:00:00) [GCC 14.2.0]", "3.15.0a1 free-threading build"}) {
    const PythonDecision decision = DecidePython(version, WholeApi());
    EXPECT_EQ(decision.way, PythonWay::kRefused) << version;
    EXPECT_NE(std::string(decision.reason).find("free-threaded"), std::string::npos);
  }
}

// Whatever a distributor writes into its version: only such builds export what merges two reference counts.
TEST(PythonDecisions, FreeThreadedBuildsThatDoNotSaySoAreLeftAlone) {
  PythonApi api = WholeApi();
  api.free_threaded = true;
  EXPECT_EQ(DecidePython("3.14.0 (main) [GCC]", api).way, PythonWay::kRefused);
}

TEST(PythonDecisions, OldAndForeignVersionsHaveNoLayout) {
  for (const char* version :
       {"2.7.18", "3.8.18 (default)", "", "3", "3.", "3.x", "30.14.0", "4.14.0", "3.14159265358979323846"}) {
    const PythonDecision decision = DecidePython(version, LayoutApi());
    EXPECT_EQ(decision.way, PythonWay::kRefused) << version;
    EXPECT_EQ(decision.layout, nullptr) << version;
  }
}

}  // namespace
}  // namespace uvmtrace
