#include "analyzer/advise_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "analyzer/advise/changes.h"
#include "analyzer/run_input.h"

namespace uvmtrace::analyzer {
namespace {

bool WriteFile(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  const bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int error = errno;
  const bool closed = file != nullptr && std::fclose(file) == 0;
  if (written && closed) return true;
  fmt::print(stderr, "uvmtrace-report: {}: {}. Give -o a file that can be written.\n", path,
             std::strerror(written ? errno : error));
  return false;
}

}  // namespace

int AdviseCommand(int argc, char** argv) {
  std::vector<std::string> traces;
  std::string out;
  InputOptions input;
  CLI::App app("Writes the changes that the findings of a run suggest, for uvmtrace run --apply.",
               "uvmtrace-report advise");
  app.add_option("TRACE", traces, "Trace files, or a folder that holds them")->required();
  app.add_option("-o,--out", out, "File to write; without it, stdout")->type_name("FILE");
  AddInputOptions(&app, &input);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (!Finish(&input)) return kExitUsage;
  Run run;
  if (!ReadRun(traces, input.read, &run)) return kExitUnreadable;
  ReportOptions all;
  all.top = 0;
  all.symbols = input.symbols;
  const Report report = BuildReport(run, all);
  const auto paths = PathsOfSites(run, input.symbols);
  const Changes changes = ChangesOf(report, paths);
  const std::string text = ApplyFileText(report, changes, paths);
  if (out.empty()) return WriteAll(text) ? 0 : kExitFailure;
  if (!WriteFile(out, text)) return kExitFailure;
  fmt::print(stderr, "uvmtrace-report: {}: {} change{}.\n", out, changes.changes.size(),
             changes.changes.size() == 1 ? "" : "s");
  return 0;
}

}  // namespace uvmtrace::analyzer
