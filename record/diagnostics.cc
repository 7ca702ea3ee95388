// See diagnostics.h.
#include "record/diagnostics.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace uvmtrace {
namespace {

constinit std::atomic<LogLevel> g_level{LogLevel::kWarn};

// A write to a pipe that nobody reads sends SIGPIPE to the writing thread, which would end the host. It is blocked for
// the write, and taken back if this write raised it.
void WriteToStderr(const char* text, size_t size) {
  sigset_t pipe_set;
  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  const bool was_pending = sigismember(&pending, SIGPIPE) == 1;
  sigset_t old_mask;
  if (pthread_sigmask(SIG_BLOCK, &pipe_set, &old_mask) != 0) return;
  ssize_t written;
  do {
    written = write(STDERR_FILENO, text, size);
  } while (written < 0 && errno == EINTR);
  if (written < 0 && errno == EPIPE && !was_pending) {
    const timespec no_wait = {0, 0};
    while (sigtimedwait(&pipe_set, nullptr, &no_wait) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &old_mask, nullptr);
}

}  // namespace

void SetLogLevel(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }

bool LogEnabled(LogLevel level) {
  return level != LogLevel::kQuiet && level <= g_level.load(std::memory_order_relaxed);
}

void Log(LogLevel level, const char* format, ...) {
  if (!LogEnabled(level)) return;
  const int saved_errno = errno;
  char line[1024] = "uvmtrace: ";
  constexpr size_t kPrefix = 10;
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(line + kPrefix, sizeof(line) - kPrefix - 1, format, arguments);
  va_end(arguments);
  if (length >= 0) {
    size_t end = kPrefix + static_cast<size_t>(length);
    if (end > sizeof(line) - 2) end = sizeof(line) - 2;
    line[end] = '\n';
    WriteToStderr(line, end + 1);
  }
  errno = saved_errno;
}

}  // namespace uvmtrace
