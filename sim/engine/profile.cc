#include "sim/engine/profile.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace uvmsim {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Fitted to 195 us per 2 MiB block, faulted in without eviction, on an H200 (driver 580.159.04, PCIe Gen5), walked as
// the simulator walks: six services of 64 KiB faults.
CostModel H200Cost() {
  CostModel cost;
  cost.batch_ns = 8'000;
  cost.block_ns = 2'000;
  cost.cpu_fault_ns = 20'000;
  cost.mapped_page_ns = 70;
  cost.page_ns = 35;
  cost.copy_ns = 1'000;
  cost.first_touch_ns = 60'000;
  cost.evict_ns = 25'000;
  cost.host_to_device_bytes_per_ns = 51;
  cost.device_to_host_bytes_per_ns = 51;
  cost.device_to_device_bytes_per_ns = 200;
  return cost;
}

const Profile kProfiles[] = {
    // 64 MiB, so that a test can be over its capacity in a moment.
    {"tiny", "Simulated Tiny GPU", 64 * kMiB, 8, 0, 4, H200Cost(), 1, 8192},
    // 80e9 bytes: what an "80 GB" A100 has left beside its context, in whole blocks.
    {"a100-80g", "Simulated A100 80GB", uint64_t{38'147} * 2 * kMiB, 8, 0, 108, CostModel(), 1, 8192},
    {"h200", "Simulated H200", uint64_t{141'000'000'000} / (2 * kMiB) * (2 * kMiB), 9, 0, 132, H200Cost(), 1, 8192},
};

void Complain(const char* variable, const char* value, const char* expected) {
  fprintf(stderr, "uvmsim: %s is \"%s\"; expected %s. The default is used.\n", variable, value, expected);
}

bool ParseNumber(const char* text, double* value, const char** rest) {
  char* end = nullptr;
  *value = strtod(text, &end);
  *rest = end;
  return end != text && *value >= 0 && *value < 1e18;
}

void ReadMemory(uint64_t* bytes) {
  const char* text = getenv("UVMTRACE_SIM_MEMORY");
  if (text == nullptr || *text == '\0') return;
  static constexpr struct {
    const char* suffix;
    double factor;
  } kUnits[] = {{"", 1},     {"B", 1},    {"KiB", 1024}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"KB", 1000},
                {"MB", 1e6}, {"GB", 1e9}, {"K", 1024},   {"M", 1048576.0},   {"G", 1073741824.0}};
  double value = 0;
  const char* rest = nullptr;
  if (ParseNumber(text, &value, &rest)) {
    for (const auto& unit : kUnits) {
      const double asked = value * unit.factor;
      if (strcmp(rest, unit.suffix) == 0 && asked >= 2.0 * kMiB && asked < 1e15) {
        *bytes = static_cast<uint64_t>(asked) / (2 * kMiB) * (2 * kMiB);
        return;
      }
    }
  }
  Complain("UVMTRACE_SIM_MEMORY", text, "bytes, or a size like 64MiB or 80GB, at least 2MiB");
}

void ReadNumber(const char* variable, double lowest, double highest, const char* expected, double* value) {
  const char* text = getenv(variable);
  if (text == nullptr || *text == '\0') return;
  double parsed = 0;
  const char* rest = nullptr;
  if (ParseNumber(text, &parsed, &rest) && *rest == '\0' && parsed >= lowest && parsed <= highest) {
    *value = parsed;
  } else {
    Complain(variable, text, expected);
  }
}

}  // namespace

Profile LoadProfile() {
  Profile profile = kProfiles[0];
  const char* name = getenv("UVMTRACE_SIM_PROFILE");
  if (name != nullptr && *name != '\0') {
    bool found = false;
    for (const Profile& candidate : kProfiles) {
      if (strcmp(candidate.name, name) == 0) {
        profile = candidate;
        found = true;
      }
    }
    if (!found) Complain("UVMTRACE_SIM_PROFILE", name, "tiny, a100-80g or h200");
  }
  ReadMemory(&profile.memory_bytes);
  ReadNumber("UVMTRACE_SIM_H2D_GBPS", 0.001, 1e6, "gigabytes (1e9 bytes) per second",
             &profile.cost.host_to_device_bytes_per_ns);
  ReadNumber("UVMTRACE_SIM_D2H_GBPS", 0.001, 1e6, "gigabytes (1e9 bytes) per second",
             &profile.cost.device_to_host_bytes_per_ns);
  ReadNumber("UVMTRACE_SIM_TIME_SCALE", 0, 1e6, "a factor, 0 for no waiting", &profile.time_scale);
  double entries = profile.tools_queue_entries;
  ReadNumber("UVMTRACE_SIM_QUEUE_ENTRIES", 1, 1 << 24, "a number of entries, 1 to 16777216", &entries);
  profile.tools_queue_entries = static_cast<uint32_t>(entries);
  return profile;
}

}  // namespace uvmsim
