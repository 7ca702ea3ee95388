// What uvmtrace-report's verbs share: options that say what to read, reading it, and writing the answer.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "analyzer/findings/report_builder.h"

namespace uvmtrace::analyzer {

inline constexpr int kExitFailure = 1;  // a gate failed, the answer cannot be written, or memory ran out
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreadable = 3;

struct InputOptions {
  SymbolOptions symbols;
  ReadOptions read;
  std::string from;
  std::string to;
  std::string max_memory;
};

void AddInputOptions(CLI::App* app, InputOptions* options);
// Parses what CLI11 leaves as text. False, with a message on stderr, if it makes no sense.
bool Finish(InputOptions* options);

// Reads traces of one run; a folder stands for its newest run. False, with a message on stderr, if one cannot be read.
bool ReadRun(std::vector<std::string> paths, const ReadOptions& options, Run* run);

// The report of one run: a trace, a folder, or a report in JSON that was printed before. `top` 0: all rows.
bool ReadReport(const std::string& path, const InputOptions& options, Report* report);

size_t TerminalWidth();  // 0: stdout is no terminal
bool WantsColor();
// To stdout. False, with a message on stderr, if the disk is full; a reader that went away (head, less) wants no
// message.
bool WriteAll(const std::string& text);

}  // namespace uvmtrace::analyzer
