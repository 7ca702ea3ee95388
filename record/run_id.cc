// See run_id.h.
#include "record/run_id.h"

#include <stdio.h>
#include <unistd.h>

#include <string_view>

#include "record/hash_index.h"
#include "record/proc_file.h"

namespace uvmtrace {
namespace {

constexpr int kDeepestTree = 256;

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && std::string_view(text.data(), prefix.size()) == prefix;
}

// Whether the process was started with uvmtrace in it. /proc/<pid>/environ is the environment at exec: a shell that
// only exports LD_PRELOAD for its children is not traced. Unreadable (another user's) counts as not.
bool IsTraced(const char* proc, int pid, WireBuffer& file) {
  char path[512];
  snprintf(path, sizeof(path), "%s/%d/environ", proc, pid);
  if (!ReadProcFile(path, file)) return false;
  std::string_view rest = AsText(file);
  while (!rest.empty()) {
    const size_t end = rest.find('\0');
    const std::string_view entry(rest.data(), end == std::string_view::npos ? rest.size() : end);
    if ((StartsWith(entry, "LD_PRELOAD=") || StartsWith(entry, "CUDA_INJECTION64_PATH=")) &&
        entry.find("libuvmtrace") != std::string_view::npos) {
      return true;
    }
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  return false;
}

struct Stat {
  int parent_pid = 0;
  uint64_t start_ticks = 0;
};

// Fields 4 and 22 of /proc/<pid>/stat. They are counted from the last ')': the name in field 2 may hold blanks and
// parentheses.
bool ReadStat(const char* proc, int pid, WireBuffer& file, Stat& stat) {
  char path[512];
  snprintf(path, sizeof(path), "%s/%d/stat", proc, pid);
  if (!ReadProcFile(path, file)) return false;
  std::string_view rest = AsText(file);
  const size_t name_end = rest.rfind(')');
  if (name_end == std::string_view::npos) return false;
  rest.remove_prefix(name_end + 1);
  for (int field = 3; field <= 22; ++field) {
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    if (rest.empty()) return false;
    if (field == 4) stat.parent_pid = static_cast<int>(ParseDecimal(rest));
    if (field == 22) stat.start_ticks = ParseDecimal(rest);
    const size_t end = rest.find(' ');
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end);
  }
  return true;
}

}  // namespace

uint64_t RunId(const char* proc, int pid) {
  WireBuffer file;
  int root = pid;
  Stat root_stat;
  if (ReadStat(proc, pid, file, root_stat)) {
    for (int depth = 0; depth < kDeepestTree && root_stat.parent_pid > 0; ++depth) {
      const int parent = root_stat.parent_pid;
      Stat parent_stat;
      if (!IsTraced(proc, parent, file) || !ReadStat(proc, parent, file, parent_stat)) break;
      root = parent;
      root_stat = parent_stat;
    }
  }
  uint64_t id = MixHash(MixHash(0, static_cast<uint64_t>(root)), root_stat.start_ticks);
  // A pid and a start time since boot come again after a reboot, and on every machine.
  char path[512];
  snprintf(path, sizeof(path), "%s/sys/kernel/random/boot_id", proc);
  if (ReadProcFile(path, file)) {
    for (const char c : AsText(file)) id = MixHash(id, static_cast<uint8_t>(c));
  }
  file.Free();
  return id == 0 ? 1 : id;
}

uint64_t RunId() { return RunId("/proc", getpid()); }

}  // namespace uvmtrace
