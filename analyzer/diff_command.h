// uvmtrace-report diff BASE NEW..., and the gates that fail a build.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "analyzer/compare/gate.h"

namespace uvmtrace::analyzer {

// Returns the exit status of the process.
int DiffCommand(int argc, char** argv);

void AddGateOption(CLI::App* app, std::vector<std::string>* gates);
// False, with a message on stderr, if one is no gate. Gates on a change need `with_base`.
bool ParseGates(const std::vector<std::string>& texts, bool with_base, std::vector<Gate>* gates);
std::vector<GateRow> EvaluateAll(const std::vector<Gate>& gates, const std::vector<Report>& base,
                                 const std::vector<Report>& changed);
// Says on stderr which gates failed. The exit status: 1 if one did, 2 if one could not be told.
int Judge(const std::vector<GateRow>& gates);

}  // namespace uvmtrace::analyzer
