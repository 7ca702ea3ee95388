// uvmtrace-report: reads traces, prints their report.
//
// Exit status: 0 a readable trace, even a damaged one; 2 wrong usage; 3 a file that cannot be read. The report goes to
// stdout, everything else to stderr. 1 is for what is not the trace's fault: stdout cannot be written, no memory.
#include <fmt/format.h>
#include <malloc.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "analyzer/findings/bottom_half_time.h"
#include "analyzer/findings/report_builder.h"
#include "analyzer/present/json.h"
#include "analyzer/present/text.h"
#include "analyzer/read/run_files.h"

namespace uvmtrace::analyzer {
namespace {

constexpr int kExitFailure = 1;  // not the trace's fault: the report cannot be written, memory ran out
constexpr int kExitUsage = 2;
constexpr int kExitUnreadable = 3;

struct Arguments {
  std::vector<std::string> traces;
  std::string format = "text";
  size_t top = 20;
  bool stacks = false;
  bool tree = false;
  std::vector<std::string> sections;
  std::string bottom_half_flame;
  SymbolOptions symbols;
  ReadOptions read;
  std::string from;
  std::string to;
};

// "1.5s", "250ms", "10us", "7ns", or seconds. False if it is no time.
bool ParseTime(const std::string& text, std::optional<uint64_t>* time_ns) {
  if (text.empty()) return true;
  char* unit = nullptr;
  const double number = std::strtod(text.c_str(), &unit);
  const std::string name = unit;
  const double scale = name.empty() || name == "s" ? 1e9
                       : name == "ms"              ? 1e6
                       : name == "us"              ? 1e3
                       : name == "ns"              ? 1
                                                   : 0;
  if (unit == text.c_str() || scale == 0 || !(number >= 0) || number * scale > 1e18) return false;
  *time_ns = static_cast<uint64_t>(number * scale);
  return true;
}

size_t TerminalWidth() {
  if (isatty(STDOUT_FILENO) == 0) return 0;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool WantsColor() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0') &&
         (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
}

// False if the reader went away or the disk is full; a reader that went away (head, less) wants no message.
bool WriteAll(const std::string& text) {
  const char* next = text.data();
  size_t left = text.size();
  while (left > 0) {
    const ssize_t written = write(STDOUT_FILENO, next, left);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      if (errno == EPIPE) return true;
      fmt::print(stderr, "uvmtrace-report: stdout: {}. Check the disk that it is redirected to.\n",
                 std::strerror(errno));
      return false;
    }
    next += written;
    left -= static_cast<size_t>(written);
  }
  return true;
}

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

// A folder stands for its newest run. False with a message if it has none.
bool ExpandFolders(std::vector<std::string>* traces) {
  std::vector<std::string> expanded;
  for (const std::string& path : *traces) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      expanded.push_back(path);
      continue;
    }
    RunFiles found;
    const Status status = FindNewestRun(path, &found);
    if (!status.ok()) {
      fmt::print(stderr, "uvmtrace-report: {}\n", status.message());
      return false;
    }
    if (found.other_runs > 0) {
      fmt::print(stderr, "uvmtrace-report: {}: the newest run, {} of {} traces. Name the files of another one.\n", path,
                 found.files.size(), found.files.size() + found.other_runs);
    }
    if (found.empty_files > 0) {
      fmt::print(stderr,
                 "uvmtrace-report: {}: {} empty, of a process whose recording was never begun, or begins just now. It "
                 "is missing here.\n",
                 path,
                 found.empty_files == 1 ? "one *.pb file is" : fmt::format("{} *.pb files are", found.empty_files));
    }
    expanded.insert(expanded.end(), found.files.begin(), found.files.end());
  }
  if (expanded.size() == 1 && traces->size() == 1 && expanded == *traces) {
    if (const size_t siblings = CountSiblings(expanded.front()); siblings > 0) {
      fmt::print(stderr,
                 "uvmtrace-report: {}: one process of a run; {} more {} beside it. Name the folder to see them all.\n",
                 expanded.front(), siblings, siblings == 1 ? "trace is" : "traces are");
    }
  }
  *traces = std::move(expanded);
  return true;
}

// One file given twice would count everything twice.
bool IsGivenTwice(const std::vector<std::string>& traces, std::string* twice) {
  std::set<std::string> seen;
  for (const std::string& path : traces) {
    std::error_code error;
    const std::filesystem::path real = std::filesystem::canonical(path, error);
    if (seen.insert(error ? path : real.string()).second) continue;
    *twice = path;
    return true;
  }
  return false;
}

// Files side by side; what cores are left reads within a file. False with a message if one cannot be read.
bool ReadAll(const Arguments& arguments, Run* run) {
  std::string twice;
  if (IsGivenTwice(arguments.traces, &twice)) {
    fmt::print(stderr, "uvmtrace-report: {}: is given twice. Name each trace once.\n", twice);
    return false;
  }
  const size_t files = arguments.traces.size();
  const unsigned cores =
      arguments.read.threads != 0 ? arguments.read.threads : std::max(1u, std::thread::hardware_concurrency());
  ReadOptions options = arguments.read;
  options.threads = std::max(1u, cores / static_cast<unsigned>(std::min<size_t>(files, cores)));
  std::vector<Status> statuses(files, Status::Ok());
  for (size_t i = 0; i < files; ++i) run->push_back(std::make_unique<ProcessModel>());
  std::atomic<size_t> next{0};
  const auto read = [&] {
    for (size_t i = next++; i < files; i = next++) statuses[i] = (*run)[i]->ReadTrace(arguments.traces[i], options);
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min<size_t>(files, cores); ++i) threads.emplace_back(read);
  read();
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) {
    if (status.ok()) continue;
    fmt::print(stderr, "uvmtrace-report: {}\n", status.message());
    return false;
  }
  return true;
}

int Report(Arguments arguments) {
  if (!ExpandFolders(&arguments.traces)) return kExitUnreadable;
  Run run;
  if (!ReadAll(arguments, &run)) return kExitUnreadable;
  ReportOptions options;
  options.top = arguments.top;
  options.symbols = arguments.symbols;
  if (!arguments.bottom_half_flame.empty() && !WriteFlame(run, arguments.bottom_half_flame)) return kExitFailure;
  const uvmtrace::Report report = BuildReport(run, options);
  if (arguments.format == "json") {
    const std::string json = RenderJson(report);
    if (json.empty()) {
      fmt::print(stderr, "uvmtrace-report: the report cannot be written as JSON. Report this with the trace.\n");
      return kExitFailure;
    }
    return WriteAll(json) ? 0 : kExitFailure;
  }
  TextOptions text;
  text.width = TerminalWidth();
  text.color = WantsColor();
  text.stacks = arguments.stacks;
  text.top = arguments.top;
  text.tree = arguments.tree;
  text.sections = arguments.sections;
  return WriteAll(RenderText(report, text)) ? 0 : kExitFailure;
}

int Main(int argc, char** argv) {
  // A closed pipe is an error of write(2), not the end of this process.
  std::signal(SIGPIPE, SIG_IGN);
  // What grows while a trace is read grows again for the next part of it: giving pages back in between costs a quarter
  // of the time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 16 << 20);
  Arguments arguments;
  CLI::App app(
      "Explains traces that libuvmtrace.so recorded. Several traces are one run; a folder is the newest run in it.",
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
  app.add_option("--sysroot", arguments.symbols.sysroot, "Where the files of the traced machine are")->type_name("DIR");
  app.add_option("--debug-dir", arguments.symbols.debug_dirs, "Where separate debug files are; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app.add_option("--bh-flame", arguments.bottom_half_flame,
                 "Also write the call stacks of the driver's bottom-half threads there, folded for a flame graph")
      ->type_name("FILE");
  app.add_option("--phase", arguments.read.phase, "Only what happened in phases of this name")->type_name("NAME");
  app.add_option("--phase-marker", arguments.read.phase_marker,
                 "Each launch of a kernel with this in its name begins a phase")
      ->type_name("KERNEL");
  app.add_option("--from", arguments.from, "Only what happened from then on, since the start: 1.5s, 250ms")
      ->type_name("TIME");
  app.add_option("--to", arguments.to, "Only what happened before then")->type_name("TIME");
  app.add_option("--skip-frame", arguments.symbols.skipped_frames,
                 "A part of a function, file or module that is never the line to name; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_option(
         "--migrations", arguments.read.migrations,
         "Migrations as they were recorded, or reconstructed from the faults; without it, recorded where all were")
      ->transform(CLI::CheckedTransformer(std::map<std::string, MigrationChoice>{
          {"recorded", MigrationChoice::kRecorded}, {"reconstructed", MigrationChoice::kReconstructed}}))
      ->type_name("recorded|reconstructed");
  app.add_option("--threads", arguments.read.threads, "Threads that read; 0 for one on each core")
      ->capture_default_str();
  app.set_version_flag("--version", "uvmtrace-report " UVMTRACE_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kExitUsage;
  }
  if (!ParseTime(arguments.from, &arguments.read.from_ns) || !ParseTime(arguments.to, &arguments.read.to_ns)) {
    fmt::print(stderr, "uvmtrace-report: --from and --to take a time since the start, as 1.5s or 250ms.\n");
    return kExitUsage;
  }
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
