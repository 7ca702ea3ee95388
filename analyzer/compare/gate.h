// Gates: --fail-if 'totals.host_to_device_bytes > 10GiB', 'findings[prefetch_late].count > 0', 'diff.fault_stall >
// +5%'.
//
//   [diff.]PATH OPERATOR VALUE
//
// PATH names a field of report.proto: messages by dots, rows of a section by [KEY], where KEY is the whole key of a row
// or its first part; numbers of several rows are added up. `count` is the number of rows, `fault_stall` is short for
// totals.fault_service_ns. OPERATOR is > >= < <= == or !=. VALUE has a unit (KiB MiB GiB KB MB GB ns us ms s) or none;
// after `diff.` it is the change, in % or absolute.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "proto/diff.pb.h"
#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

struct Gate {
  enum class Comparison { kGreater, kGreaterOrEqual, kLess, kLessOrEqual, kEqual, kNotEqual };

  std::string text;
  std::vector<std::string> path;  // of field names
  std::optional<std::string> key;
  bool of_change = false;
  Comparison comparison = Comparison::kGreater;
  double value = 0;
  bool relative = false;  // `value` is a fraction
};

// Nothing, and a sentence, where the text is no gate or names a field that does not exist.
std::optional<Gate> ParseGate(const std::string& text, std::string* error);

// What is on the left of the operator, in one run. Absent where the run does not know it.
std::optional<double> ValueOf(const Gate& gate, const Report& report);

// `failed` is absent where the number is not known: then `note` says why. A change whose runs overlap fails nothing.
GateRow Evaluate(const Gate& gate, const std::vector<Report>& base, const std::vector<Report>& changed);

}  // namespace uvmtrace::analyzer
