#include "analyzer/what_if_command.h"

#include <fmt/format.h>

#include <cstdio>

#include "analyzer/run_input.h"
#include "analyzer/units.h"
#include "analyzer/whatif/what_if.h"

namespace uvmtrace::analyzer {
namespace {

struct Field {
  const char* label;
  const char* name;
  uint64_t Paging::*value;
  std::string (*format)(uint64_t);
};

const Field kFields[] = {
    {"GPU fault entries", "fault_entries", &Paging::fault_entries, FormatCount},
    {"batches of them", "fault_batches", &Paging::fault_batches, FormatCount},
    {"CPU faults", "cpu_faults", &Paging::cpu_faults, FormatCount},
    {"to the GPU by faults", "faulted_bytes", &Paging::faulted_bytes, FormatBytes},
    {"to the GPU by calls", "called_bytes", &Paging::called_bytes, FormatBytes},
    {"to the host", "to_host_bytes", &Paging::to_host_bytes, FormatBytes},
    {"evicted, of that", "evicted_bytes", &Paging::evicted_bytes, FormatBytes},
    {"read in place, at least", "in_place_bytes", &Paging::in_place_bytes, FormatBytes},
    {"the GPU waited for faults", "stall_ns", &Paging::stall_ns, FormatDuration},
    {"CPU time of the BH thread", "bh_ns", &Paging::bh_ns, FormatDuration},
    {"copies and reads, on the link", "call_copy_ns", &Paging::call_copy_ns, FormatDuration},
};

std::string Text(const Answer& answer) {
  std::string text = fmt::format("{:<30}{:>14}{:>20}{:>16}\n", "", "recorded", "replayed as it is", "with the change");
  for (const Field& field : kFields) {
    const uint64_t recorded = answer.recorded.*field.value;
    const uint64_t unchanged = answer.unchanged.*field.value;
    const uint64_t changed = answer.changed.*field.value;
    if (recorded + unchanged + changed == 0) continue;
    text += fmt::format("{:<30}{:>14}{:>20}{:>16}\n", field.label, field.format(recorded), field.format(unchanged),
                        field.format(changed));
  }
  text += fmt::format("\nThe replay without a change is off by {:.1f} % of the bytes and {:.1f} % of the faults.\n",
                      100 * answer.bytes_error, 100 * answer.faults_error);
  if (answer.added_calls > 0) text += fmt::format("Calls that the change adds: {}.\n", FormatCount(answer.added_calls));
  text += answer.rate_known
              ? fmt::format("Bulk copies are taken to run at {}.\n", FormatRate(answer.rate_bytes_per_second))
              : "How fast bulk copies run is not in this trace: their time is not told. Give --link.\n";
  text +=
      "Times of faults are fitted to this trace's own batches. What a prefetch takes may run beside other kernels.\n";
  for (const std::string& note : answer.notes) text += note + "\n";
  return text;
}

std::string Json(const Answer& answer) {
  std::string text = "{\n";
  const auto add = [&](const char* name, const Paging& paging) {
    text += fmt::format("  \"{}\": {{", name);
    for (const Field& field : kFields) {
      text += fmt::format("{}\"{}\": {}", &field == kFields ? "" : ", ", field.name, paging.*field.value);
    }
    text += "},\n";
  };
  add("recorded", answer.recorded);
  add("unchanged", answer.unchanged);
  add("changed", answer.changed);
  return text + fmt::format(
                    "  \"bytes_error\": {:.6f},\n  \"faults_error\": {:.6f},\n  \"added_calls\": {},\n"
                    "  \"bulk_bytes_per_second\": {:.0f}\n}}\n",
                    answer.bytes_error, answer.faults_error, answer.added_calls, answer.rate_bytes_per_second);
}

// SITE@KERNEL; a key of a site has an @ as well, before its hash.
Question::Prefetch ParsePrefetch(const std::string& text) {
  const size_t at = text.rfind('@');
  const bool in_key = at != std::string::npos && text.find(':', at) != std::string::npos;
  if (at == std::string::npos || in_key) return {text, ""};
  return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

int WhatIfCommand(int argc, char** argv) {
  std::vector<std::string> traces;
  std::vector<std::string> prefetches;
  std::vector<std::string> advice;
  std::string format = "text";
  Question question;
  InputOptions input;
  CLI::App app(
      "Says what a change would do, by replaying the trace with it. A SITE is a site's key, or a part of its line.",
      "uvmtrace-report what-if");
  uint64_t capacity = 0;
  double link = 0;
  app.add_option("TRACE", traces, "A trace, or a folder that holds one")->required();
  const auto many = [](CLI::Option* option, const char* type) { option->type_name(type)->allow_extra_args(false); };
  many(app.add_option("--prefetch", prefetches,
                      "Prefetch its memory before each kernel that faults on it; may be repeated"),
       "SITE[@KERNEL]");
  many(app.add_option("--advise", advice, "read-mostly, preferred-host, preferred-gpu or accessed-by; may be repeated"),
       "SITE=ADVICE");
  many(app.add_option("--pinned", question.pinned, "Pinned host memory in its place, read over the link"), "SITE");
  CLI::Option* const with_capacity = app.add_option("--capacity", capacity, "Room for managed memory on the GPU")
                                         ->transform(CLI::AsSizeValue(false))
                                         ->type_name("SIZE");
  CLI::Option* const with_link =
      app.add_option("--link", link, "Bandwidth of the link")->check(CLI::PositiveNumber)->type_name("GB/s");
  app.add_flag("--prefetch-off", question.prefetch_off, "The driver's own prefetcher switched off");
  app.add_option("--format", format, "text or json")->check(CLI::IsMember({"text", "json"}))->capture_default_str();
  AddInputOptions(&app, &input);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (!Finish(&input)) return kExitUsage;
  for (const std::string& text : prefetches) question.prefetches.push_back(ParsePrefetch(text));
  for (const std::string& text : advice) {
    const size_t equals = text.rfind('=');
    question.advice.push_back({text.substr(0, equals), equals == std::string::npos ? "" : text.substr(equals + 1)});
  }
  if (with_capacity->count() > 0) question.capacity_bytes = capacity;
  if (with_link->count() > 0) question.link_bytes_per_second = link * 1e9;
  Run run;
  if (!ReadRun(traces, input.read, &run)) return kExitUnreadable;
  ReportOptions all;
  all.top = 0;
  all.symbols = input.symbols;
  const Report report = BuildReport(run, all);
  Answer answer;
  std::string cause;
  if (!AnswerQuestion(run, report, input.symbols, question, &answer, &cause)) {
    fmt::print(stderr, "uvmtrace-report: what-if: {}.\n", cause);
    return kExitUsage;
  }
  return WriteAll(format == "json" ? Json(answer) : Text(answer)) ? 0 : kExitFailure;
}

}  // namespace uvmtrace::analyzer
