#include "preload/run_id.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <string_view>

namespace uvmtrace {
namespace {

struct Ancestor {
  pid_t parent = 0;
  uint64_t start_ticks = 0;
};

ssize_t ReadFile(const char* path, char* text, size_t size) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  size_t length = 0;
  while (length < size - 1) {
    const ssize_t got = read(file, text + length, size - 1 - length);
    if (got <= 0) break;
    length += static_cast<size_t>(got);
  }
  close(file);
  text[length] = '\0';
  return static_cast<ssize_t>(length);
}

// Fields 4 and 22 of /proc/<pid>/stat; the name in field 2 may hold spaces and parentheses.
bool ReadAncestor(pid_t pid, Ancestor* ancestor) {
  char path[64];
  char text[1024];
  snprintf(path, sizeof(path), "/proc/%d/stat", static_cast<int>(pid));
  if (ReadFile(path, text, sizeof(text)) <= 0) return false;
  const char* at = strrchr(text, ')');
  if (at == nullptr) return false;
  ++at;
  for (int field = 3; field <= 22 && at != nullptr; ++field) {
    at = strchr(at, ' ');
    if (at == nullptr) return false;
    ++at;
    if (field == 4) ancestor->parent = static_cast<pid_t>(strtol(at, nullptr, 10));
    if (field == 22) ancestor->start_ticks = strtoull(at, nullptr, 10);
  }
  return true;
}

// The environment that the process was started with. 64 KiB hold all but odd ones; a variable beyond is not seen, and
// the process then counts as the first of its run.
bool StartedWithLibrary(pid_t pid) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/environ", static_cast<int>(pid));
  static constexpr size_t kSize = 64 * 1024;
  char* const text = static_cast<char*>(malloc(kSize));
  if (text == nullptr) return false;
  const ssize_t length = ReadFile(path, text, kSize);
  bool found = false;
  for (ssize_t at = 0; at < length && !found;) {
    const std::string_view variable(text + at);
    found = (variable.starts_with("LD_PRELOAD=") || variable.starts_with("CUDA_INJECTION64_PATH=")) &&
            variable.find("libuvmtrace") != std::string_view::npos;
    at += static_cast<ssize_t>(variable.size()) + 1;
  }
  free(text);
  return found;
}

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash ^= value;
  hash *= 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

}  // namespace

uint64_t FindRunId() {
  pid_t pid = getpid();
  Ancestor ancestor;
  ReadAncestor(pid, &ancestor);
  for (int generation = 0; generation < 64 && ancestor.parent > 1; ++generation) {
    Ancestor above;
    const pid_t parent = ancestor.parent;
    if (!StartedWithLibrary(parent) || !ReadAncestor(parent, &above)) break;
    pid = parent;
    ancestor = above;
  }
  char boot[64] = "";
  ReadFile("/proc/sys/kernel/random/boot_id", boot, sizeof(boot));
  uint64_t hash = Mix(static_cast<uint64_t>(pid), ancestor.start_ticks);
  for (const char* at = boot; *at != '\0'; ++at) hash = Mix(hash, static_cast<unsigned char>(*at));
  return hash != 0 ? hash : 1;
}

}  // namespace uvmtrace
