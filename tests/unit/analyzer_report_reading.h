// What the tests of the report have in common: from traces in memory to a Report, and the words in it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "analyzer/findings/report_builder.h"
#include "analyzer/present/text.h"
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {

inline constexpr uint64_t kBase = 0x7f0000000000;
inline constexpr uint64_t kStart = 1'000'000'000;

// Each trace is a process of one run.
inline Report ReportOf(const std::vector<std::string>& traces, size_t top = 20) {
  analyzer::Run run;
  for (const std::string& bytes : traces) {
    const TemporaryFile file(bytes);
    run.push_back(std::make_unique<analyzer::ProcessModel>());
    const auto status = run.back()->ReadTrace(file.path());
    EXPECT_TRUE(status.ok()) << status.message();
  }
  analyzer::ReportOptions options;
  options.top = top;
  options.symbols.sysroot = "/nonexistent";
  return analyzer::BuildReport(run, options);
}

inline Report ReportOf(TraceBuilder& trace) { return ReportOf({trace.Finish(kStart + 5'000'000'000)}); }

inline std::string ReasonOf(const Report& report, const std::string& section) {
  for (const auto& empty : report.empty_sections()) {
    if (empty.section() == section) return empty.reason();
  }
  return "";
}

inline std::string Verdict(const Report& report) {
  std::string text;
  for (const auto& sentence : report.verdict()) text += sentence + "\n";
  return text;
}

inline const MemoryRow* MemoryOf(const Report& report, const std::string& kind) {
  for (const auto& row : report.memory()) {
    if (row.kind() == kind) return &row;
  }
  return nullptr;
}

// Every table's rows add up to the totals.
inline void ExpectBalanced(const Report& report) {
  uint64_t groups = 0, cpu_faults = 0, to_device = 0, to_host = 0, between = 0, evicted = 0, refaulted = 0;
  for (const auto& row : report.allocations()) {
    groups += row.gpu_fault_groups();
    cpu_faults += row.cpu_faults();
    to_device += row.host_to_device_bytes();
    to_host += row.device_to_host_bytes();
    between += row.device_to_device_bytes();
    evicted += row.evicted_bytes();
    refaulted += row.refaulted_bytes();
  }
  EXPECT_EQ(groups, report.totals().gpu_fault_groups());
  EXPECT_EQ(cpu_faults, report.totals().cpu_faults());
  EXPECT_EQ(to_device, report.totals().host_to_device_bytes());
  EXPECT_EQ(to_host, report.totals().device_to_host_bytes());
  EXPECT_EQ(between, report.totals().device_to_device_bytes());
  EXPECT_EQ(evicted, report.totals().evicted_bytes());
  EXPECT_EQ(refaulted, report.oversubscription().refaulted_bytes());
  uint64_t rows_to_device = 0, rows_to_host = 0;
  for (const auto& row : report.migrations()) {
    if (row.direction() == "host_to_device") rows_to_device += row.bytes();
    if (row.direction() == "device_to_host") rows_to_host += row.bytes();
  }
  EXPECT_EQ(rows_to_device, report.totals().host_to_device_bytes());
  EXPECT_EQ(rows_to_host, report.totals().device_to_host_bytes());
  if (report.kernels_size() > 0) {
    uint64_t kernel_groups = 0, kernel_bytes = 0;
    for (const auto& row : report.kernels()) {
      kernel_groups += row.gpu_fault_groups();
      kernel_bytes += row.host_to_device_bytes();
    }
    EXPECT_EQ(kernel_groups, report.totals().gpu_fault_groups());
    // What prefetch calls moved is laid on the calls.
    uint64_t by_calls = 0;
    for (const auto& row : report.migrations()) {
      if (row.direction() == "host_to_device" && row.cause() == "user") by_calls += row.bytes();
    }
    EXPECT_EQ(kernel_bytes + by_calls, report.totals().host_to_device_bytes());
  }
  uint64_t process_groups = 0, process_to_device = 0, calls = 0;
  for (const auto& row : report.processes()) {
    process_groups += row.gpu_fault_groups();
    process_to_device += row.host_to_device_bytes();
  }
  for (const auto& row : report.calls()) calls += row.count();
  EXPECT_EQ(process_groups, report.totals().gpu_fault_groups());
  EXPECT_EQ(process_to_device, report.totals().host_to_device_bytes());
  EXPECT_EQ(calls, report.totals().api_calls());
}

// The text in one line: where it is wrapped is not what a test is about.
inline std::string TextOf(const Report& report) {
  std::string text = analyzer::RenderText(report, {});
  std::string line;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n';
    if (!space || line.empty() || line.back() != ' ') line += space ? ' ' : c;
  }
  return line;
}

}  // namespace uvmtrace::testing
