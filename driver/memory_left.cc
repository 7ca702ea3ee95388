// See memory_left.h.
#include "driver/memory_left.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "driver/proc_file.h"

namespace uvmtrace {
namespace {

// The number after `key`; false if there is none. "max" is none.
bool NumberAfter(const char* text, const char* key, uint64_t* number) {
  const char* const at = strstr(text, key);
  if (at == nullptr) return false;
  char* end = nullptr;
  *number = strtoull(at + strlen(key), &end, 10);
  return end != at + strlen(key);
}

constexpr uint64_t kUnlimited = UINT64_MAX;

struct Group {
  uint64_t limit = kUnlimited;
  uint64_t used = 0;
  uint64_t Left() const { return limit == kUnlimited ? kUnlimited : limit > used ? limit - used : 0; }
};

Group ReadGroup(const char* folder, const char* limit_file, const char* usage_file) {
  char path[PATH_MAX];
  char text[64];
  Group group;
  snprintf(path, sizeof path, "%.3000s/%s", folder, limit_file);
  if (ReadSmallFile(path, text, sizeof text) <= 0 || !NumberAfter(text, "", &group.limit)) return {};
  snprintf(path, sizeof path, "%.3000s/%s", folder, usage_file);
  if (ReadSmallFile(path, text, sizeof text) <= 0 || !NumberAfter(text, "", &group.used)) return {};
  return group;
}

// A container often sees its own group as the root, under whatever path /proc/self/cgroup tells: both are looked at,
// and all groups above, because each has a limit of its own.
void TakeTightest(const char* root, const char* mount, const char* name, const char* limit, const char* usage,
                  Group* tightest) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%.500s%s%.2000s", root, mount, name);
  const size_t shortest = strlen(root) + strlen(mount);
  while (true) {
    const Group group = ReadGroup(folder, limit, usage);
    if (group.Left() < tightest->Left()) *tightest = group;
    char* const slash = strrchr(folder, '/');
    if (slash == nullptr || static_cast<size_t>(slash - folder) < shortest) return;
    *slash = '\0';
  }
}

// The control group of the process, or one above it, that has the least left.
Group TightestGroup(const char* root) {
  char path[PATH_MAX];
  char text[4096];
  Group tightest;
  snprintf(path, sizeof path, "%.500s/proc/self/cgroup", root);
  if (ReadSmallFile(path, text, sizeof text) <= 0) return tightest;
  // Lines such as "0::/user.slice" and "8:memory:/docker/1234".
  for (char* line = text; line != nullptr && *line != '\0';) {
    char* const end = strchr(line, '\n');
    if (end != nullptr) *end = '\0';
    char* const controllers = strchr(line, ':');
    char* const group = controllers != nullptr ? strchr(controllers + 1, ':') : nullptr;
    if (group != nullptr) {
      *group = '\0';
      const char* const name = strcmp(group + 1, "/") == 0 ? "" : group + 1;
      if (controllers[1] == '\0') {
        TakeTightest(root, "/sys/fs/cgroup", name, "memory.max", "memory.current", &tightest);
      } else if (strstr(controllers + 1, "memory") != nullptr) {
        TakeTightest(root, "/sys/fs/cgroup/memory", name, "memory.limit_in_bytes", "memory.usage_in_bytes", &tightest);
      }
    }
    line = end != nullptr ? end + 1 : nullptr;
  }
  return tightest;
}

// A number of kibibytes of a file such as /proc/meminfo, in bytes; 0: not told.
uint64_t KibibytesAfter(const char* text, const char* key) {
  uint64_t kibibytes = 0;
  return NumberAfter(text, key, &kibibytes) ? kibibytes * 1024 : 0;
}

}  // namespace

HostMemory ReadHostMemory(const char* root) {
  char path[PATH_MAX];
  char text[4096];
  HostMemory memory;
  snprintf(path, sizeof path, "%.500s/proc/meminfo", root);
  if (ReadSmallFile(path, text, sizeof text) > 0) memory.available_bytes = KibibytesAfter(text, "MemAvailable:");
  // The process is real where the machine is the simulator's.
  if (ReadSmallFile("/proc/self/status", text, sizeof text) > 0) {
    memory.resident_bytes = KibibytesAfter(text, "VmRSS:");
    memory.file_bytes = KibibytesAfter(text, "RssFile:");
    memory.locked_bytes = KibibytesAfter(text, "VmLck:");
    memory.pinned_bytes = KibibytesAfter(text, "VmPin:");
  }
  const Group group = TightestGroup(root);
  if (group.limit != kUnlimited) {
    memory.group_limit_bytes = group.limit;
    memory.group_used_bytes = group.used;
  }
  return memory;
}

uint64_t MemoryLeftBytes(const char* root) {
  char path[PATH_MAX];
  char text[4096];
  snprintf(path, sizeof path, "%.500s/proc/meminfo", root);
  const bool told = ReadSmallFile(path, text, sizeof text) > 0;
  const uint64_t available = told ? KibibytesAfter(text, "MemAvailable:") : 0;
  return std::min(available != 0 ? available : kUnlimited, TightestGroup(root).Left());
}

}  // namespace uvmtrace
