#include "analyzer/tune_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "analyzer/run_input.h"
#include "analyzer/tune/tuning.h"

namespace uvmtrace::analyzer {
namespace {

// The launcher stands beside this program.
std::string Launcher() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string() : (self.parent_path() / "uvmtrace").string();
}

std::string MakeFolder(std::string folder) {
  std::error_code error;
  if (folder.empty()) {
    std::string name = (std::filesystem::temp_directory_path(error) / "uvmtrace-tune-XXXXXX").string();
    return mkdtemp(name.data()) == nullptr ? std::string() : name;
  }
  std::filesystem::create_directories(folder, error);
  return error ? std::string() : folder;
}

}  // namespace

int TuneCommand(int argc, char** argv) {
  TuningOptions options;
  std::string out = "tuned.apply";
  std::string keep;
  int seconds = 600;
  CLI::App app("Finds out which changes help: runs the program without and with each, and keeps what does.",
               "uvmtrace tune");
  app.add_option("-o,--out", out, "The file of the changes that were kept")->capture_default_str();
  app.add_option("--rounds", options.rounds, "How often each configuration runs, in turn with the one beside it")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--time", seconds, "Seconds after which no further run is begun")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--changes", options.most_changes, "Changes to try at most")
      ->check(CLI::Range(1, 24))
      ->capture_default_str();
  app.add_option("--keep", keep, "Leave traces, outputs and files of changes in this folder")->type_name("DIR");
  app.allow_extras();
  app.footer("Every other option is one of uvmtrace run.");
  char** const own_end = std::find_if(argv, argv + argc, [](const char* word) { return std::strcmp(word, "--") == 0; });
  try {
    app.parse(static_cast<int>(own_end - argv), argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  for (char** word = own_end; word < argv + argc; ++word) {
    if (word != own_end) options.trial.program.emplace_back(*word);
  }
  if (options.trial.program.empty()) {
    fmt::print(stderr, "uvmtrace: no program was given. Usage: uvmtrace tune [options] -- program [args...]\n");
    return kExitUsage;
  }
  options.trial.run_options = app.remaining();
  options.trial.launcher = Launcher();
  options.time = std::chrono::seconds(seconds);
  options.folder = MakeFolder(keep);
  if (options.folder.empty()) {
    fmt::print(stderr, "uvmtrace: the folder for the runs cannot be made. Give --keep one that can be written.\n");
    return kExitFailure;
  }
  Tuning tuning(options);
  const bool done = tuning.Run();
  int status = done ? 0 : kExitFailure;
  if (done) {
    std::ofstream file(out);
    std::vector<Change> kept = tuning.kept();
    for (Change& change : kept) change.certain = true;  // it was tried
    file << ApplyFileText(tuning.base().trials.front().report, {std::move(kept), {}}, tuning.paths());
    file.close();
    if (!WriteAll(TuningText(tuning))) status = kExitFailure;
    if (!file) {
      fmt::print(stderr, "uvmtrace: {} cannot be written. Give -o a file that can.\n", out);
      status = kExitFailure;
    } else {
      fmt::print("\n{}: {} changes. Use it: uvmtrace run --apply {} -- ...\n", out, tuning.kept().size(), out);
    }
  }
  std::error_code error;
  if (keep.empty() && done) std::filesystem::remove_all(options.folder, error);
  return status;
}

}  // namespace uvmtrace::analyzer
