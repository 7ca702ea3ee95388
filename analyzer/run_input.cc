#include "analyzer/run_input.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <thread>

#include "analyzer/read/run_files.h"

namespace uvmtrace::analyzer {
namespace {

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

// "512M", "4G", or MiB. False if it is no size, or less than anything can be read with.
bool ParseSize(const std::string& text, uint64_t* bytes) {
  if (text.empty()) return true;
  char* unit = nullptr;
  const double number = std::strtod(text.c_str(), &unit);
  const std::string name = unit;
  const double scale = name.empty() || name == "M" || name == "MiB" ? 0x1p20
                       : name == "G" || name == "GiB"               ? 0x1p30
                                                                    : 0;
  if (unit == text.c_str() || !(number * scale >= 0x1p25) || number * scale > 0x1p50) return false;
  *bytes = static_cast<uint64_t>(number * scale);
  return true;
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

bool LooksLikeJson(const std::string& path) { return path.size() > 5 && path.substr(path.size() - 5) == ".json"; }

bool ReadJson(const std::string& path, Report* report) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  if (file && google::protobuf::util::JsonStringToMessage(text, report, options).ok()) return true;
  fmt::print(stderr,
             "uvmtrace-report: {}: is no report in JSON. Make one with uvmtrace-report --format json --top 0 TRACE.\n",
             path);
  return false;
}

}  // namespace

void AddInputOptions(CLI::App* app, InputOptions* options) {
  app->add_option("--sysroot", options->symbols.sysroot, "Where the files of the traced machine are")->type_name("DIR");
  app->add_option("--debug-dir", options->symbols.debug_dirs, "Where separate debug files are; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app->add_option("--phase", options->read.phase, "Only what happened in phases of this name")->type_name("NAME");
  app->add_option("--phase-marker", options->read.phase_marker,
                  "Each launch of a kernel with this in its name begins a phase")
      ->type_name("KERNEL");
  app->add_option("--from", options->from, "Only what happened from then on, since the start: 1.5s, 250ms")
      ->type_name("TIME");
  app->add_option("--to", options->to, "Only what happened before then")->type_name("TIME");
  app->add_option("--skip-frame", options->symbols.skipped_frames,
                  "A part of a function, file or module that is never the line to name; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app->add_option(
         "--migrations", options->read.migrations,
         "Migrations as they were recorded, or reconstructed from the faults; without it, recorded where all were")
      ->transform(CLI::CheckedTransformer(std::map<std::string, MigrationChoice>{
          {"recorded", MigrationChoice::kRecorded}, {"reconstructed", MigrationChoice::kReconstructed}}))
      ->type_name("recorded|reconstructed");
  app->add_option("--max-memory", options->max_memory,
                  "Memory to take at most, as 4G; by default 512M, and a quarter of the machine's to reconstruct "
                  "migrations. What is then not told apart, the report says")
      ->type_name("SIZE");
  app->add_option("--threads", options->read.threads, "Threads that read; 0 for one on each core")
      ->capture_default_str();
}

bool Finish(InputOptions* options) {
  if (options->max_memory.empty()) {
    const auto pages = static_cast<uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 0L));
    options->read.reconstruction_bytes = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / 4;
  }
  if (!ParseSize(options->max_memory, &options->read.max_memory_bytes)) {
    fmt::print(stderr, "uvmtrace-report: --max-memory takes a size of 32M or more, as 512M or 4G.\n");
    return false;
  }
  if (ParseTime(options->from, &options->read.from_ns) && ParseTime(options->to, &options->read.to_ns)) return true;
  fmt::print(stderr, "uvmtrace-report: --from and --to take a time since the start, as 1.5s or 250ms.\n");
  return false;
}

bool ReadRun(std::vector<std::string> paths, const ReadOptions& given, Run* run) {
  if (!ExpandFolders(&paths)) return false;
  std::string twice;
  if (IsGivenTwice(paths, &twice)) {
    fmt::print(stderr, "uvmtrace-report: {}: is given twice. Name each trace once.\n", twice);
    return false;
  }
  // Files side by side; what cores are left reads within a file.
  const size_t files = paths.size();
  const unsigned cores = given.threads != 0 ? given.threads : std::max(1u, std::thread::hardware_concurrency());
  ReadOptions options = given;
  // All models stay until the report is made.
  options.max_memory_bytes = given.max_memory_bytes / std::max<size_t>(files, 1);
  options.reconstruction_bytes = given.reconstruction_bytes / std::max<size_t>(files, 1);
  options.threads = std::max(1u, cores / static_cast<unsigned>(std::min<size_t>(files, cores)));
  std::vector<Status> statuses(files, Status::Ok());
  for (size_t i = 0; i < files; ++i) run->push_back(std::make_unique<ProcessModel>());
  std::atomic<size_t> next{0};
  const auto read = [&] {
    for (size_t i = next++; i < files; i = next++) statuses[i] = (*run)[i]->ReadTrace(paths[i], options);
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

bool ReadReport(const std::string& path, const InputOptions& options, Report* report) {
  if (LooksLikeJson(path)) return ReadJson(path, report);
  Run run;
  if (!ReadRun({path}, options.read, &run)) return false;
  ReportOptions all;
  all.top = 0;
  all.symbols = options.symbols;
  *report = BuildReport(run, all);
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

}  // namespace uvmtrace::analyzer
