// uvmtrace-report as a command: exit statuses, streams, formats.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

struct CommandOutcome {
  int status = -1;
  std::string output;
};

CommandOutcome RunCommand(const std::string& command) {
  CommandOutcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> buffer;
  size_t got = 0;
  while ((got = fread(buffer.data(), 1, buffer.size(), pipe)) > 0) outcome.output.append(buffer.data(), got);
  const int status = pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
  return outcome;
}

CommandOutcome RunReport(const std::string& arguments) {
  return RunCommand(std::string(UVMTRACE_REPORT_BINARY) + " " + arguments);
}

TEST(CommandTest, ReadableTraceGivesTheReportOnStdout) {
  const TemporaryFile file(SampleTrace().Finish());
  const CommandOutcome outcome = RunReport("--sysroot /nonexistent " + file.path() + " 2>/dev/null");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output.rfind("SIMULATED: ", 0), 0u) << outcome.output;
  size_t position = 0;
  for (const char* section :
       {"WHAT TO CHANGE", "IN WORDS", "MEMORY BY KIND", "OVERSUBSCRIPTION", "FAULTS", "MIGRATIONS", "KERNELS",
        "ALLOCATIONS BY BYTES MIGRATED", "BOTTOM-HALF THREADS", "CALLS", "HAZARDS", "NOT SEEN", "CAPTURE"}) {
    const size_t found = outcome.output.find(std::string("\n\n") + section + "\n", position);
    EXPECT_NE(found, std::string::npos) << section;
    position = found;
  }
  EXPECT_EQ(outcome.output.find('\033'), std::string::npos);
}

TEST(CommandTest, DamagedTraceIsStillReadable) {
  std::string bytes = SampleTrace().Finish();
  bytes[bytes.size() / 2] ^= 1;
  const TemporaryFile file(bytes.substr(0, bytes.size() - 3));
  EXPECT_EQ(RunReport(file.path() + " 2>&1").status, 0);
}

TEST(CommandTest, UsageErrorsExitWithTwo) {
  const TemporaryFile file(SampleTrace().Finish());
  EXPECT_EQ(RunReport("2>&1").status, 2);
  EXPECT_EQ(RunReport("--format html " + file.path() + " 2>&1").status, 2);
  EXPECT_EQ(RunReport("--no-such-option " + file.path() + " 2>&1").status, 2);
  EXPECT_EQ(RunReport("--top minus " + file.path() + " 2>&1").status, 2);
}

TEST(CommandTest, UnreadableFilesExitWithThreeAndSayWhy) {
  const CommandOutcome missing = RunReport("/nonexistent/t.pb 2>&1 >/dev/null");
  EXPECT_EQ(missing.status, 3);
  EXPECT_EQ(missing.output.rfind("uvmtrace-report: /nonexistent/t.pb: there is no such file.", 0), 0u)
      << missing.output;
  const TemporaryFile empty("");
  EXPECT_EQ(RunReport(empty.path() + " 2>&1").status, 3);
  const TemporaryFile other("not a trace at all, but a text");
  EXPECT_EQ(RunReport(other.path() + " 2>&1").status, 3);
  const TemporaryFile later(Frame("\x28\x01", 0, kRunId, true, 9));
  const CommandOutcome version = RunReport(later.path() + " 2>&1");
  EXPECT_EQ(version.status, 3);
  EXPECT_NE(version.output.find("version 9"), std::string::npos);
  EXPECT_EQ(RunReport("/proc/self/task 2>&1").status, 3);
}

// A folder with today's run of two processes, yesterday's, its rotated file, notes and a link.
TEST(CommandTest, AFolderIsTheNewestRunInIt) {
  std::string folder = ::testing::TempDir() + "uvmtrace_run_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const auto write = [&folder](const std::string& name, uint32_t pid, uint64_t run_id, uint64_t started_s) {
    TraceOptions options;
    options.pid = pid;
    options.started_realtime_ns = started_s * 1'000'000'000;
    TraceBuilder builder(options);
    builder.EndChunk();
    std::string bytes = builder.Finish();
    const auto frame = static_cast<size_t>(builder.frames().size() > 1 ? builder.frames()[1] : bytes.size());
    // One chunk is enough; its run id is the tests' own but for this.
    const std::string body = bytes.substr(38, frame - 38);
    std::ofstream(folder + "/" + name, std::ios::binary) << Frame(body, 0, run_id);
  };
  write("trace.pb", 10, 77, 2000);
  write("trace.12.pb", 12, 77, 2005);
  write("old.pb", 20, 66, 1000);
  write("old.21.pb", 21, 66, 3000);  // its server runs on, and started a worker just now
  write("trace.pb.old", 30, 99, 9000);
  std::ofstream(folder + "/notes.txt") << "nothing";
  std::ofstream(folder + "/empty.pb");
  ASSERT_EQ(symlink((folder + "/old.pb").c_str(), (folder + "/link.pb").c_str()), 0);

  const CommandOutcome report = RunReport("--format json " + folder + " 2>/dev/null");
  EXPECT_EQ(report.status, 0);
  EXPECT_NE(report.output.find("trace.pb"), std::string::npos);
  EXPECT_NE(report.output.find("trace.12.pb"), std::string::npos);
  EXPECT_EQ(report.output.find("old."), std::string::npos) << report.output;
  const CommandOutcome said = RunReport(folder + " 2>&1 >/dev/null");
  EXPECT_NE(said.output.find("2 of 4 traces"), std::string::npos) << said.output;
  EXPECT_NE(said.output.find("one *.pb file is empty"), std::string::npos) << said.output;
  const CommandOutcome one = RunReport(folder + "/trace.pb 2>&1 >/dev/null");
  EXPECT_NE(one.output.find("1 more trace is beside it"), std::string::npos) << one.output;
  std::filesystem::copy_file(folder + "/old.pb", folder + "/copy.pb");
  std::filesystem::remove(folder + "/old.21.pb");
  EXPECT_EQ(RunReport(folder + "/old.pb 2>&1 >/dev/null").output, "") << "a copy was taken for a process";
  EXPECT_EQ(RunReport(folder + "/trace.pb " + folder + "/trace.12.pb 2>&1 >/dev/null").output, "");

  const CommandOutcome none = RunReport("/proc/self/task 2>&1");
  EXPECT_EQ(none.status, 3);
  EXPECT_NE(none.output.find("no trace is in this folder"), std::string::npos) << none.output;
  std::filesystem::remove_all(folder);
}

TEST(CommandTest, OneUnreadableFileAmongSeveralIsAnError) {
  const TemporaryFile file(SampleTrace().Finish());
  EXPECT_EQ(RunReport(file.path() + " /nonexistent/t.pb 2>&1").status, 3);
}

TEST(CommandTest, ClosedPipeIsQuiet) {
  const TemporaryFile file(SampleTrace().Finish());
  // 141 would be a death by SIGPIPE.
  const CommandOutcome outcome =
      RunCommand("bash -c '" + std::string(UVMTRACE_REPORT_BINARY) + " " + file.path() + " 2>&1 >/dev/full | cat; " +
                 UVMTRACE_REPORT_BINARY + " " + file.path() + " | true; exit ${PIPESTATUS[0]}'");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.output.find("No space left on device"), std::string::npos);
}

TEST(CommandTest, AGateFailsTheCommandAndStillPrintsTheReport) {
  const TemporaryFile file(SampleTrace().Finish());
  const CommandOutcome failed = RunReport("--fail-if 'totals.api_calls > 0' " + file.path() + " 2>/dev/null");
  EXPECT_EQ(failed.status, 1);
  EXPECT_NE(failed.output.find("WHAT TO CHANGE"), std::string::npos);
  EXPECT_NE(RunReport("--fail-if 'totals.api_calls > 0' " + file.path() + " 2>&1 >/dev/null").output.find("holds"),
            std::string::npos);
  EXPECT_EQ(RunReport("--fail-if 'totals.api_calls < 0' " + file.path() + " 2>&1").status, 0);
  EXPECT_EQ(RunReport("--fail-if 'totals.nothing < 0' " + file.path() + " 2>&1").status, 2);
  EXPECT_EQ(RunReport("--fail-if 'diff.totals.api_calls > 0' " + file.path() + " 2>&1").status, 2);
  // A trace with fault groups alone does not know the driver's own count.
  EXPECT_EQ(RunReport("--fail-if 'totals.gpu_faults > 0' " + file.path() + " 2>&1").status, 2);
}

TEST(CommandTest, DiffTakesTracesFoldersAndReportsInJson) {
  const TemporaryFile file(SampleTrace().Finish());
  const std::string json = ::testing::TempDir() + "uvmtrace_base.json";
  ASSERT_EQ(RunReport("--format json --top 0 " + file.path() + " > " + json).status, 0);
  const CommandOutcome same = RunReport("diff " + json + " " + file.path() + " 2>&1");
  EXPECT_EQ(same.status, 0) << same.output;
  EXPECT_NE(same.output.find("nothing changed"), std::string::npos) << same.output;
  EXPECT_EQ(RunReport("diff --format json " + json + " " + file.path()).status, 0);
  EXPECT_EQ(RunReport("diff --format markdown " + json + " " + file.path()).status, 0);
  EXPECT_EQ(RunReport("diff --fail-if 'diff.totals.api_calls >= 0' " + json + " " + file.path() + " 2>&1").status, 1);
  EXPECT_EQ(RunReport("diff " + json + " 2>&1").status, 2);
  EXPECT_EQ(RunReport("diff " + json + " /nonexistent.pb 2>&1").status, 3);
  EXPECT_EQ(RunReport("diff " + json + " /nonexistent.json 2>&1").status, 3);
  std::filesystem::remove(json);
}

TEST(CommandTest, VersionAndHelpExitWithZero) {
  EXPECT_EQ(RunReport("--version").status, 0);
  EXPECT_EQ(RunReport("--help").status, 0);
}

TEST(CommandTest, JsonHasTheNamesOfTheContract) {
  const TemporaryFile file(SampleTrace().Finish());
  const CommandOutcome outcome = RunReport("--format json --sysroot /nonexistent " + file.path());
  EXPECT_EQ(outcome.status, 0);
  for (const char* name : {"schema_version",
                           "verdict",
                           "capture",
                           "simulated",
                           "command_line",
                           "clean_end",
                           "bad_chunks",
                           "torn_bytes",
                           "sources",
                           "lost",
                           "devices",
                           "total_memory_bytes",
                           "totals",
                           "api_calls",
                           "gpu_fault_groups",
                           "cpu_faults",
                           "fault_batches",
                           "host_to_device_bytes",
                           "device_to_host_bytes",
                           "device_to_device_bytes",
                           "evicted_bytes",
                           "remote_mapped_bytes",
                           "migrations",
                           "busy_ns",
                           "bytes_per_second",
                           "memory",
                           "live_bytes",
                           "peak_bytes",
                           "calls",
                           "p99_ns",
                           "bh_threads",
                           "utilization",
                           "ns_per_batch",
                           "ns_per_fault_group",
                           "ns_per_mib",
                           "allocations",
                           "site",
                           "stack",
                           "oversubscription",
                           "managed_live_peak_bytes",
                           "device_capacity_bytes",
                           "peak_ratio",
                           "refaulted_bytes"}) {
    EXPECT_NE(outcome.output.find("\"" + std::string(name) + "\":"), std::string::npos) << name;
  }
  EXPECT_EQ(outcome.output.find("\"gpu_faults\""), std::string::npos);
}

TEST(CommandTest, StacksAreShownOnRequest) {
  const TemporaryFile file(SampleTrace().Finish());
  const std::string frame = "program+0x2345";
  EXPECT_EQ(RunReport("--sysroot /nonexistent " + file.path()).output.find(frame), std::string::npos);
  EXPECT_NE(RunReport("--stacks --sysroot /nonexistent " + file.path()).output.find(frame), std::string::npos);
}

}  // namespace
}  // namespace uvmtrace::testing
