// One-line messages of the recorder on stderr: "uvmtrace: <text>".
//
// The host program owns stdout, stdio's locks and the process's signals. So a line is formatted into a fixed buffer and
// leaves with one write(2); errno is kept, and a closed stderr pipe raises no SIGPIPE in the host.
#pragma once

#include <cstdint>

namespace uvmtrace {

// UVMTRACE_LOG. A message is printed if its level is at most the one that is set; kWarn is the default.
enum class LogLevel : uint8_t { kQuiet = 0, kWarn = 1, kInfo = 2, kDebug = 3 };

void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// printf-like, without a newline at the end; what does not fit into 1000 bytes is cut. Not for hot paths. Safe from any
// thread; not from a signal handler (snprintf).
void Log(LogLevel level, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace uvmtrace
