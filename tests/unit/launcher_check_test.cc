// What `uvmtrace check` says of machines that the simulator cannot be, from reasons that the recorder itself words.
#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "driver/bh_profiler_access.h"
#include "driver/tools_advice.h"
#include "preload/launcher/check_rows.h"
#include "record/wire.h"

namespace uvmtrace::launcher {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// A machine that has everything.
Findings Whole() {
  Findings findings;
  findings.answers = {{"device", "NVIDIA H200"}, {"devices", "1"}, {"driver", "580.95.05"}, {"cuda", "13.0"}};
  for (const char* source : {"driver_queue", "exact_counters", "cupti", "bh_threads", "bh_samples", "link_counters"}) {
    findings.states[source] = {SourceStateKind::kActive, ""};
  }
  return findings;
}

const Row& Find(const Verdict& verdict, std::string_view key) {
  return *std::find_if(verdict.rows.begin(), verdict.rows.end(), [&](const Row& row) { return row.key == key; });
}

bool Contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST(LauncherCheck, AMachineThatHasEverythingIsComplete) {
  const Verdict verdict = Judge(Whole());
  EXPECT_TRUE(verdict.complete);
  EXPECT_TRUE(verdict.not_recorded.empty());
  const std::string text = AsText(verdict);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 10) << text;
  EXPECT_TRUE(Contains(text, "580.95.05 (branch 580)")) << text;
  EXPECT_FALSE(Contains(text, "Cure")) << text;
}

// Each refusal of perf_event_open that has a cure.
TEST(LauncherCheck, StacksThatMayNotBeSampledNameTheirCure) {
  char name[] = "/tmp/uvmtrace-check-test-XXXXXX";
  const std::string root = mkdtemp(name);
  ASSERT_EQ(system(("mkdir -p " + root + "/proc/self " + root + "/proc/sys/kernel").c_str()), 0);
  std::ofstream(root + "/proc/sys/kernel/perf_event_paranoid") << "2\n";
  struct Case {
    const char* seccomp;
    int error;
    const char* cure;
  };
  for (const Case& lack : {Case{"0", EACCES, "run as root; in a container: docker run --pid=host --cap-add PERFMON"},
                           Case{"2", EPERM, "seccomp=unconfined"}}) {
    std::ofstream(root + "/proc/self/status")
        << "Name:\tx\nCapEff:\t0000000000000000\nSeccomp:\t" << lack.seccomp << "\n";
    char reason[512];
    DescribeOpenError(root.c_str(), lack.error, reason, sizeof reason);
    Findings findings = Whole();
    findings.states["bh_samples"] = {SourceStateKind::kUnavailable, reason};
    const Verdict verdict = Judge(findings);
    EXPECT_EQ(Find(verdict, "bh_samples").state, RowState::kLack);
    EXPECT_TRUE(Contains(Find(verdict, "bh_samples").cure, lack.cure)) << reason;
    EXPECT_TRUE(verdict.complete) << "the default detail samples no stacks";
  }
  ASSERT_EQ(system(("rm -r " + root).c_str()), 0);
}

TEST(LauncherCheck, ADeviceThatMayNotBeOpenedNamesItsCure) {
  for (const auto& [error, cure] :
       {std::pair{ENOENT, "nvidia-modprobe"}, std::pair{EACCES, "chmod"}, std::pair{EPERM, "--device"}}) {
    char reason[512];
    DescribeNoDevice(error, reason, sizeof reason);
    Findings findings = Whole();
    findings.states["driver_queue"] = {SourceStateKind::kUnavailable, reason};
    const Verdict verdict = Judge(findings);
    EXPECT_FALSE(verdict.complete);
    EXPECT_TRUE(Contains(Find(verdict, "driver_queue").cure, cure)) << reason;
  }
}

TEST(LauncherCheck, ALibcuptiThatIsNotThereMayComeWithTheProgram) {
  Findings findings = Whole();
  findings.states["cupti"] = {SourceStateKind::kUnavailable, "no libcupti was found beside libcudart"};
  const Verdict verdict = Judge(findings);
  EXPECT_FALSE(verdict.complete);
  EXPECT_TRUE(Contains(Find(verdict, "cupti").cure, "cuda-cupti"));
  EXPECT_TRUE(Contains(Find(verdict, "cupti").text, "PyTorch"));
}

TEST(LauncherCheck, ANarrowContainerNamesItsCure) {
  Findings findings = Whole();
  findings.limits.group_limit_bytes = 256 * kMiB;
  findings.limits.group_used_bytes = 200 * kMiB;
  const Verdict verdict = Judge(findings);
  EXPECT_EQ(Find(verdict, "limits").state, RowState::kLack);
  EXPECT_TRUE(Contains(Find(verdict, "limits").text, "56 MiB are left"));
  EXPECT_TRUE(Contains(Find(verdict, "limits").cure, "--memory"));
  findings.limits.group_limit_bytes = 4096 * kMiB;
  EXPECT_EQ(Find(Judge(findings), "limits").state, RowState::kOk);
}

TEST(LauncherCheck, AChildThatDiesIsNoCompleteRecording) {
  Findings findings = Whole();
  findings.ended = " was killed by signal 11";
  const Verdict verdict = Judge(findings);
  EXPECT_FALSE(verdict.complete);
  EXPECT_TRUE(Contains(AsText(verdict), "signal 11"));
  EXPECT_FALSE(Judge({}).complete);
}

TEST(LauncherCheck, JsonEscapesWhatALibrarySays) {
  Findings findings = Whole();
  findings.answers["error"] = "say \"no\" \\ \t";
  EXPECT_TRUE(Contains(AsJson(Judge(findings)), "say \\\"no\\\" \\\\ \\u0009")) << AsJson(Judge(findings));
}

std::string Message(uint32_t field, const std::string& body) {
  std::string text;
  uint8_t bytes[2 * kMaxVarintBytes];
  uint8_t* end = PutVarint(bytes, WireTag(field, WireType::kLength));
  end = PutVarint(end, body.size());
  return text.append(bytes, end) + body;
}

// A trace may end anywhere, and holds fields that the launcher does not know.
TEST(LauncherCheck, TheLastStateOfASourceCountsAndATornTraceIsRead) {
  const auto state = [](const char* name, char kind) {
    return Message(17, Message(1, name) + std::string{'\x10', kind} + Message(3, "why"));
  };
  const std::string trace = Message(1, std::string("\x09") + "UVMTRC\x01\x0a" + state("cupti", 4)) +
                            Message(1, Message(32, "events") + state("cupti", 1) + state("bh_threads", 2));
  const SourceStates states = ParseSourceStates(trace);
  EXPECT_EQ(states.at("cupti").kind, SourceStateKind::kActive);
  EXPECT_EQ(states.at("bh_threads").kind, SourceStateKind::kUnavailable);
  EXPECT_EQ(states.at("bh_threads").reason, "why");
  for (size_t length = 0; length < trace.size(); ++length) ParseSourceStates(trace.substr(0, length));
}

}  // namespace
}  // namespace uvmtrace::launcher
