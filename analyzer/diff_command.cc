#include "analyzer/diff_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "analyzer/compare/diff_text.h"
#include "analyzer/compare/report_diff.h"
#include "analyzer/present/json.h"
#include "analyzer/run_input.h"

namespace uvmtrace::analyzer {
namespace {

bool ReadVersion(const std::vector<std::string>& paths, const InputOptions& options, Version* version) {
  for (const std::string& path : paths) {
    version->names.push_back(path);
    if (!ReadReport(path, options, &version->runs.emplace_back())) return false;
  }
  return true;
}

}  // namespace

void AddGateOption(CLI::App* app, std::vector<std::string>* gates) {
  app->add_option("--fail-if", *gates,
                  "Exit with 1 if this holds, as in 'totals.host_to_device_bytes > 10GiB'; may be repeated")
      ->type_name("EXPR")
      ->allow_extra_args(false);
}

bool ParseGates(const std::vector<std::string>& texts, bool with_base, std::vector<Gate>* gates) {
  for (const std::string& text : texts) {
    std::string error;
    auto gate = ParseGate(text, &error);
    if (gate && gate->of_change && !with_base) error = "needs a run to compare with: use uvmtrace-report diff";
    if (!error.empty()) {
      fmt::print(stderr, "uvmtrace-report: --fail-if '{}': {}.\n", text, error);
      return false;
    }
    gates->push_back(std::move(*gate));
  }
  return true;
}

std::vector<GateRow> EvaluateAll(const std::vector<Gate>& gates, const std::vector<Report>& base,
                                 const std::vector<Report>& changed) {
  std::vector<GateRow> rows;
  for (const Gate& gate : gates) rows.push_back(Evaluate(gate, base, changed));
  return rows;
}

int Judge(const std::vector<GateRow>& gates) {
  int status = 0;
  for (const GateRow& gate : gates) {
    if (!gate.has_failed()) {
      fmt::print(stderr, "uvmtrace-report: --fail-if '{}' cannot be told: {}.\n", gate.expression(), gate.note());
      if (status == 0) status = kExitUsage;
    } else if (gate.failed()) {
      fmt::print(stderr, "uvmtrace-report: --fail-if '{}' holds: it is {:.10g}.\n", gate.expression(), gate.value());
      status = kExitFailure;
    }
  }
  return status;
}

int DiffCommand(int argc, char** argv) {
  std::vector<std::string> runs;
  std::vector<std::string> more_base;
  std::vector<std::string> gate_texts;
  std::string format = "text";
  double threshold = 2;
  DiffTextOptions text;
  InputOptions input;
  CLI::App app("Says what changed between two versions of a program. Further runs of each tell a change from noise.",
               "uvmtrace-report diff");
  app.add_option("BASE NEW", runs, "A run before the change, and runs after it: traces, folders, or reports in JSON")
      ->required();
  app.add_option("--base", more_base, "Another run before the change; may be repeated")
      ->type_name("RUN")
      ->allow_extra_args(false);
  app.add_option("--format", format, "text, markdown (for a pull request) or json")
      ->check(CLI::IsMember({"text", "markdown", "json"}))
      ->capture_default_str();
  app.add_option("--threshold", threshold, "Changes of less than this many per cent are none")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  app.add_option("--top", text.top, "Rows of each section; 0 for all")->capture_default_str();
  AddGateOption(&app, &gate_texts);
  AddInputOptions(&app, &input);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (runs.size() < 2) {
    fmt::print(stderr, "uvmtrace-report: diff takes two runs at least: BASE NEW.\n");
    return kExitUsage;
  }
  std::vector<Gate> gates;
  if (!Finish(&input) || !ParseGates(gate_texts, true, &gates)) return kExitUsage;
  more_base.insert(more_base.begin(), runs.front());
  runs.erase(runs.begin());
  Version base;
  Version changed;
  if (!ReadVersion(more_base, input, &base) || !ReadVersion(runs, input, &changed)) return kExitUnreadable;

  Diff diff = Compare(base, changed, threshold / 100);
  const std::vector<GateRow> judged = EvaluateAll(gates, base.runs, changed.runs);
  for (const GateRow& gate : judged) *diff.add_gates() = gate;
  text.width = TerminalWidth();
  text.color = WantsColor();
  const std::string out = format == "json"       ? RenderJson(diff)
                          : format == "markdown" ? RenderMarkdown(diff, text)
                                                 : RenderText(diff, text);
  if (!WriteAll(out)) return kExitFailure;
  return Judge(judged);
}

}  // namespace uvmtrace::analyzer
