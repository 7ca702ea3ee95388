// Sources: proc(5) for meminfo, cgroups(7) for the paths, the kernel's Documentation/admin-guide/cgroup-v2.rst for
// memory.max, memory.current and the inactive_file row of memory.stat (cache that the kernel gives back on demand).
#include "examples/common/host_memory.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "examples/common/program.h"

namespace examples {
namespace {

std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;  // also "max", which is no limit
  return number;
}

// The value behind `key` in a file of "key value" lines.
std::optional<uint64_t> ReadField(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string name;
    uint64_t number = 0;
    if (fields >> name >> number && name == key) return number;
  }
  return std::nullopt;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable_key;
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file"};

// A group's limit binds its children, so every group up to the root of the mount is asked. In a container the mount
// often begins at the container's own group while /proc/self/cgroup names the path outside: the walk then finds only
// the root.
void LimitByGroups(const std::string& mount, std::string path, const GroupFiles& files, HostMemory* memory) {
  while (true) {
    const std::string folder = path == "/" ? mount : mount + path;
    const auto limit = ReadNumber(folder + "/" + files.limit);
    const auto usage = ReadNumber(folder + "/" + files.usage);
    if (limit && usage) {
      const uint64_t reclaimable = ReadField(folder + "/memory.stat", files.reclaimable_key).value_or(0);
      const uint64_t used = *usage - std::min(*usage, reclaimable);
      const uint64_t left = *limit - std::min(*limit, used);
      if (left < memory->available_bytes) {
        memory->available_bytes = left;
        memory->limited_by = "the memory limit of control group " + path;
      }
    }
    if (path == "/" || path.empty()) return;
    const size_t slash = path.rfind('/');
    path = slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
  }
}

}  // namespace

std::optional<HostMemory> ReadHostMemory(const std::string& root) {
  const auto available_kib = ReadField(root + "/proc/meminfo", "MemAvailable:");
  if (!available_kib) return std::nullopt;
  HostMemory memory{*available_kib * 1024, "MemAvailable"};

  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "<id>:<controllers>:<path>"
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      LimitByGroups(root + "/sys/fs/cgroup", path, kVersion2, &memory);
    } else if (controllers.find(",memory,") != std::string::npos) {
      LimitByGroups(root + "/sys/fs/cgroup/memory", path, kVersion1, &memory);
    }
  }
  return memory;
}

void RequireHostMemory(uint64_t needed_bytes, const std::string& purpose, const std::string& root) {
  constexpr uint64_t kLeastMargin = 256ull << 20;
  const auto memory = ReadHostMemory(root);
  if (!memory) {
    throw Refused("cannot tell how much host memory is left: no MemAvailable in " + root +
                  "/proc/meminfo; mount /proc to run this");
  }
  const uint64_t margin = std::max(kLeastMargin, needed_bytes / 16);
  if (memory->available_bytes >= margin && memory->available_bytes - margin >= needed_bytes) return;
  throw Refused(purpose + " needs " + FormatBytes(needed_bytes) + " of host memory and a margin of " +
                FormatBytes(margin) + ", but only " + FormatBytes(memory->available_bytes) + " are available (" +
                memory->limited_by + "); ask for less");
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), value == static_cast<uint64_t>(value) ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

}  // namespace examples
