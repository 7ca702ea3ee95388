// What `uvmtrace check` says, from what its child found: pure, so that a test can take each thing away.
//
// A row is one line: what was looked at, how it is, and for each lack the command that would cure it. The recorder's
// own reasons are printed as they are, because they name what they met; the cures are a table, because a user wants a
// command.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "preload/launcher/probe.h"
#include "preload/launcher/source_states.h"

namespace uvmtrace::launcher {

struct Limits {
  uint64_t locked_bytes = UINT64_MAX;       // RLIMIT_MEMLOCK; UINT64_MAX: none
  uint64_t group_limit_bytes = UINT64_MAX;  // of the control group that has the least left
  uint64_t group_used_bytes = 0;
};

struct Findings {
  Answers answers;
  SourceStates states;
  Limits limits;
  std::string ended;  // how the child ended, where not by itself
};

enum class RowState { kOk, kLack, kUntried };

struct Row {
  const char* name;
  const char* key;  // in JSON
  bool needed;      // by the detail "exact", to be complete
  RowState state = RowState::kOk;
  std::string text = {};
  std::string cure = {};
};

struct Verdict {
  std::vector<Row> rows;  // nine
  bool complete = false;
  std::vector<std::string> recorded;
  std::vector<std::string> not_recorded;
};

Verdict Judge(const Findings& findings);

// Ten lines.
std::string AsText(const Verdict& verdict);
std::string AsJson(const Verdict& verdict);

}  // namespace uvmtrace::launcher
