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

// limit - usage of the group in `folder`, or UINT64_MAX.
uint64_t LeftInGroup(const char* folder, const char* limit_file, const char* usage_file) {
  char path[PATH_MAX];
  char text[64];
  uint64_t limit = 0;
  uint64_t usage = 0;
  snprintf(path, sizeof path, "%.3000s/%s", folder, limit_file);
  if (ReadSmallFile(path, text, sizeof text) <= 0 || !NumberAfter(text, "", &limit)) return UINT64_MAX;
  snprintf(path, sizeof path, "%.3000s/%s", folder, usage_file);
  if (ReadSmallFile(path, text, sizeof text) <= 0 || !NumberAfter(text, "", &usage)) return UINT64_MAX;
  return limit > usage ? limit - usage : 0;
}

// A container often sees its own group as the root, under whatever path /proc/self/cgroup tells: both are looked at,
// and all groups above, for each has a limit of its own.
uint64_t LeftInGroups(const char* root, const char* mount, const char* group, const char* limit, const char* usage) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%.500s%s%.2000s", root, mount, group);
  const size_t shortest = strlen(root) + strlen(mount);
  uint64_t left = UINT64_MAX;
  while (true) {
    left = std::min(left, LeftInGroup(folder, limit, usage));
    char* const slash = strrchr(folder, '/');
    if (slash == nullptr || static_cast<size_t>(slash - folder) < shortest) return left;
    *slash = '\0';
  }
}

}  // namespace

uint64_t MemoryLeftBytes(const char* root) {
  char path[PATH_MAX];
  char text[4096];
  uint64_t left = UINT64_MAX;
  snprintf(path, sizeof path, "%.500s/proc/meminfo", root);
  uint64_t kibibytes = 0;
  if (ReadSmallFile(path, text, sizeof text) > 0 && NumberAfter(text, "MemAvailable:", &kibibytes)) {
    left = kibibytes * 1024;
  }
  snprintf(path, sizeof path, "%.500s/proc/self/cgroup", root);
  if (ReadSmallFile(path, text, sizeof text) <= 0) return left;
  // Lines such as "0::/user.slice" and "8:memory:/docker/1234".
  for (char* line = text; line != nullptr && *line != '\0';) {
    char* const end = strchr(line, '\n');
    if (end != nullptr) *end = '\0';
    char* const controllers = strchr(line, ':');
    char* const group = controllers != nullptr ? strchr(controllers + 1, ':') : nullptr;
    if (group != nullptr) {
      *group = '\0';
      const char* const folder = strcmp(group + 1, "/") == 0 ? "" : group + 1;
      if (controllers[1] == '\0') {
        left = std::min(left, LeftInGroups(root, "/sys/fs/cgroup", folder, "memory.max", "memory.current"));
      } else if (strstr(controllers + 1, "memory") != nullptr) {
        left = std::min(left, LeftInGroups(root, "/sys/fs/cgroup/memory", folder, "memory.limit_in_bytes",
                                           "memory.usage_in_bytes"));
      }
    }
    line = end != nullptr ? end + 1 : nullptr;
  }
  return left;
}

}  // namespace uvmtrace
