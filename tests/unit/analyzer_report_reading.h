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
