// See run_id.h.
#include "record/run_id.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
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

// The topmost ancestor in an unbroken line of traced processes. False if not even the process itself can be seen.
bool FindRoot(const char* proc, int pid, WireBuffer& file, int& root, Stat& root_stat) {
  root = pid;
  if (!ReadStat(proc, pid, file, root_stat)) return false;
  for (int depth = 0; depth < kDeepestTree && root_stat.parent_pid > 0; ++depth) {
    const int parent = root_stat.parent_pid;
    Stat parent_stat;
    if (!IsTraced(proc, parent, file) || !ReadStat(proc, parent, file, parent_stat)) break;
    root = parent;
    root_stat = parent_stat;
  }
  return true;
}

// As /proc numbers it, which in a pid namespace of its own may be otherwise than getpid() does.
int PidInProc() {
  char target[32];
  const ssize_t length = readlink("/proc/self", target, sizeof(target) - 1);
  return length > 0 ? static_cast<int>(ParseDecimal({target, static_cast<size_t>(length)})) : getpid();
}

constinit std::atomic<uint64_t> known_id{0};

}  // namespace

uint64_t RunId(const char* proc, int pid) {
  WireBuffer file;
  int root = pid;
  Stat root_stat;
  uint64_t id = 0;
  if (FindRoot(proc, pid, file, root, root_stat)) {
    id = MixHash(MixHash(0, static_cast<uint64_t>(root)), root_stat.start_ticks);
  } else {
    // Nothing can be seen (/proc is hidden): a run of its own, not that of whoever had the pid before.
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    id = MixHash(MixHash(static_cast<uint64_t>(pid), static_cast<uint64_t>(now.tv_sec)),
                 static_cast<uint64_t>(now.tv_nsec));
  }
  // All this comes again after a reboot, and on every machine.
  char path[512];
  snprintf(path, sizeof(path), "%s/sys/kernel/random/boot_id", proc);
  if (ReadProcFile(path, file)) {
    for (const char c : AsText(file)) id = MixHash(id, static_cast<uint8_t>(c));
  }
  file.Free();
  return id == 0 ? 1 : id;
}

uint64_t RunId() {
  uint64_t id = known_id.load(std::memory_order_relaxed);
  if (id == 0) {
    id = RunId("/proc", PidInProc());
    known_id.store(id, std::memory_order_relaxed);
  }
  return id;
}

bool IsRunRoot(const char* proc, int pid) {
  WireBuffer file;
  int root = pid;
  Stat root_stat;
  const bool seen = FindRoot(proc, pid, file, root, root_stat);
  file.Free();
  return !seen || root == pid;
}

bool IsRunRoot() { return IsRunRoot("/proc", PidInProc()); }

}  // namespace uvmtrace
