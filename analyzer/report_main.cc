// uvmtrace-report: reads traces, prints their report, or what differs between runs.
//
// Exit status: 0 a readable trace, even a damaged one; 2 wrong usage; 3 a file that cannot be read. The report goes to
// stdout, everything else to stderr. 1 is a gate (--fail-if) that failed, or stdout that cannot be written, or no
// memory.
#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "analyzer/advise_command.h"
#include "analyzer/diff_command.h"
#include "analyzer/findings/bottom_half_time.h"
#include "analyzer/findings/report_builder.h"
#include "analyzer/present/json.h"
#include "analyzer/present/text.h"
#include "analyzer/run_input.h"
#include "analyzer/tune_command.h"
#include "analyzer/what_if_command.h"

namespace uvmtrace::analyzer {
namespace {

struct Arguments {
  std::vector<std::string> traces;
  std::string format = "text";
  size_t top = 20;
  bool stacks = false;
  bool tree = false;
  std::vector<std::string> sections;
  std::string bottom_half_flame;
  std::vector<std::string> gates;
  InputOptions input;
};

// An empty file where there is nothing to write: a script that goes on from here finds what it looks for.
bool WriteFlame(const Run& run, const std::string& path) {
  const std::string folded = FoldedStacks(run);
  if (folded.empty()) fmt::print(stderr, "uvmtrace-report: {} is empty: {}.\n", path, WhyNoStacks(run));
  std::FILE* const file = std::fopen(path.c_str(), "w");
  const bool written = file != nullptr && std::fwrite(folded.data(), 1, folded.size(), file) == folded.size();
  const int error = errno;
  const bool closed = file != nullptr && std::fclose(file) == 0;
  if (written && closed) return true;
  fmt::print(stderr, "uvmtrace-report: {}: {}. Give --bh-flame a file that can be written.\n", path,
             std::strerror(written ? errno : error));
  return false;
}

// Gates see every row, not only those that are printed.
int JudgeReport(const std::vector<Gate>& gates, const Run& run, ReportOptions options) {
  if (gates.empty()) return 0;
  options.top = 0;
  return Judge(EvaluateAll(gates, {}, {BuildReport(run, options)}));
}

int Report(const Arguments& arguments) {
  std::vector<Gate> gates;
  if (!ParseGates(arguments.gates, false, &gates)) return kExitUsage;
  Run run;
  if (!ReadRun(arguments.traces, arguments.input.read, &run)) return kExitUnreadable;
  ReportOptions options;
  options.top = arguments.top;
  options.symbols = arguments.input.symbols;
  if (!arguments.bottom_half_flame.empty() && !WriteFlame(run, arguments.bottom_half_flame)) return kExitFailure;
  const uvmtrace::Report report = BuildReport(run, options);
  if (arguments.format == "json") {
    const std::string json = RenderJson(report);
    if (json.empty()) {
      fmt::print(stderr, "uvmtrace-report: the report cannot be written as JSON. Report this with the trace.\n");
      return kExitFailure;
    }
    if (!WriteAll(json)) return kExitFailure;
    return JudgeReport(gates, run, options);
  }
  TextOptions text;
  text.width = TerminalWidth();
  text.color = WantsColor();
  text.stacks = arguments.stacks;
  text.top = arguments.top;
  text.tree = arguments.tree;
  text.sections = arguments.sections;
  if (!WriteAll(RenderText(report, text))) return kExitFailure;
  return JudgeReport(gates, run, options);
}

int Main(int argc, char** argv) {
  // A closed pipe is an error of write(2), not the end of this process.
  std::signal(SIGPIPE, SIG_IGN);
  // What grows while a trace is read grows again for the next part of it: giving pages back in between costs a quarter
  // of the time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 16 << 20);
  if (argc > 1 && std::strcmp(argv[1], "diff") == 0) return DiffCommand(argc - 1, argv + 1);
  if (argc > 1 && std::strcmp(argv[1], "advise") == 0) return AdviseCommand(argc - 1, argv + 1);
  if (argc > 1 && std::strcmp(argv[1], "what-if") == 0) return WhatIfCommand(argc - 1, argv + 1);
  if (argc > 1 && std::strcmp(argv[1], "tune") == 0) return TuneCommand(argc - 1, argv + 1);
  Arguments arguments;
  CLI::App app(
      "Explains traces that libuvmtrace.so recorded. Several traces are one run; a folder is the newest run in it.\n"
      "uvmtrace-report diff BASE NEW says what changed between two versions of a program.\n"
      "uvmtrace-report what-if TRACE --prefetch SITE says what a change would do to faults and bytes.\n"
      "uvmtrace-report advise TRACE -o FILE writes what to change as a file that uvmtrace run --apply takes.",
      "uvmtrace-report");
  app.add_option("TRACE", arguments.traces, "Trace files, or a folder that holds them")->required();
  app.add_option("--format", arguments.format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--top", arguments.top, "Rows of long tables; 0 for all")->capture_default_str();
  app.add_flag("--stacks", arguments.stacks, "Print the call stack under each allocation");
  app.add_flag("--tree", arguments.tree, "Print the tree of call paths that allocated");
  app.add_option("--section", arguments.sections, "Print this section alone; may be repeated")
      ->type_name("NAME")
      ->check(CLI::IsMember(SectionNames()))
      ->allow_extra_args(false);
  app.add_option("--bh-flame", arguments.bottom_half_flame,
                 "Also write the call stacks of the driver's bottom-half threads there, folded for a flame graph")
      ->type_name("FILE");
  AddGateOption(&app, &arguments.gates);
  AddInputOptions(&app, &arguments.input);
  app.set_version_flag("--version", "uvmtrace-report " UVMTRACE_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kExitUsage;
  }
  if (!Finish(&arguments.input)) return kExitUsage;
  return Report(arguments);
}

}  // namespace
}  // namespace uvmtrace::analyzer

int main(int argc, char** argv) {
  try {
    return uvmtrace::analyzer::Main(argc, argv);
  } catch (const std::exception& error) {
    // Memory ran out, most likely; everything that a trace can contain is handled where it is read.
    fmt::print(stderr, "uvmtrace-report: {}. Free some memory, or report this with the trace.\n", error.what());
    return uvmtrace::analyzer::kExitFailure;
  }
}
