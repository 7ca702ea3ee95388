#include "sim/engine/profile.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

#include "sim/engine/lacks.h"
#include "sim/include/uvmsim_profiles.h"

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
  cost.refault_ns = 60'000;  // this and the next: as on the A100, by the ratio of their first touches; never measured
  cost.refetch_ns = 17'000;
  cost.evict_ns = 25'000;
  cost.host_to_device_bytes_per_ns = 51;
  cost.device_to_host_bytes_per_ns = 51;
  cost.device_to_device_bytes_per_ns = 200;
  return cost;
}

// Fitted to five values of the blog "Profile CUDA UVM Performance" (A100 80 GB, PCIe Gen4, driver 535.161.07), which
// `uvmsim table a100-80g` names and holds the model to; 80e9 bytes are 38,147 blocks. The defaults of CostModel are
// from other hardware, so that what the host's CPU does is scaled by one factor.
CostModel A100Cost() {
  constexpr double kHostFactor = 1.100;  // 19.0 s of naive prefill, the middle of 21.06 (k = 4) and 17.13 (k = 40)
  CostModel cost;
  cost.batch_ns *= kHostFactor;
  cost.block_ns *= kHostFactor;
  cost.cpu_fault_ns *= kHostFactor;
  cost.mapped_page_ns *= kHostFactor;
  cost.page_ns *= kHostFactor;
  cost.first_touch_ns *= kHostFactor;
  cost.refault_ns = 183'900;  // 42.1 s of naive second cycle: 37.98 (k = 40) by the same way to the middle
  cost.refetch_ns = 52'400;   // 18.16 s of prefetched second cycle (k = 40)
  // 3.54 s of prefetched prefill (k = 40): 92.8 us a block, one of which starts the copy.
  cost.host_to_device_bytes_per_ns = 22.85;
  cost.device_to_host_bytes_per_ns = 22.85;
  cost.device_to_device_bytes_per_ns = 200;  // NVLink; not fitted to anything
  return cost;
}

// The blog's page-locked copies ran at 20.7 GB/s each way; its pageable ones at 11.7 in the steady second cycle.
constexpr LinkModel kA100Link = {20.7, 20.7, 11.7, 11.7, 20.0, 8, 1500, 200, 0.3};
// Measured on an H200: 19.4 ms/GiB page-locked, 109-122 and 57-73 pageable, 20.9 in place, 72 ms to pin 256 MiB.
constexpr LinkModel kH200Link = {55.3, 55.3, 9.3, 16.5, 51.4, 10, 4000, 350, 0.28};

const Profile kProfiles[] = {
    // 64 MiB, so that a test can be over its capacity in a moment.
    {kUvmsimProfiles[0], "Simulated Tiny GPU", 64 * kMiB, 8, 0, 4, H200Cost(), kH200Link, 1, 8192, 1},
    // The same, and the heap, the stacks and mapped files fault and migrate as well.
    {kUvmsimProfiles[1], "Simulated HMM GPU", 64 * kMiB, 8, 0, 4, H200Cost(), kH200Link, 1, 8192, 1, true},
    // 80e9 bytes: what an "80 GB" A100 has left beside its context, in whole blocks.
    {kUvmsimProfiles[2], "Simulated A100 80GB", uint64_t{38'147} * 2 * kMiB, 8, 0, 108, A100Cost(), kA100Link, 1, 8192,
     1},
    {kUvmsimProfiles[3], "Simulated H200", uint64_t{141'000'000'000} / (2 * kMiB) * (2 * kMiB), 9, 0, 132, H200Cost(),
     kH200Link, 1, 8192},
};

static_assert(std::size(kProfiles) == std::size(kUvmsimProfiles));

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

const Profile* FindProfile(const char* name) {
  for (const Profile& profile : kProfiles) {
    if (strcmp(profile.name, name) == 0) return &profile;
  }
  return nullptr;
}

Profile LoadProfile() {
  Profile profile = kProfiles[0];
  const char* name = getenv("UVMTRACE_SIM_PROFILE");
  if (name != nullptr && *name != '\0') {
    const Profile* found = FindProfile(name);
    if (found != nullptr) profile = *found;
    if (found == nullptr) Complain("UVMTRACE_SIM_PROFILE", name, "tiny, hmm, a100-80g or h200");
  }
  ReadMemory(&profile.memory_bytes);
  // One number for one direction of the link: what else goes that way becomes faster or slower with it.
  double factor = profile.cost.host_to_device_bytes_per_ns;
  ReadNumber("UVMTRACE_SIM_H2D_GBPS", 0.001, 1e6, "gigabytes (1e9 bytes) per second",
             &profile.cost.host_to_device_bytes_per_ns);
  factor = profile.cost.host_to_device_bytes_per_ns / factor;
  for (double* rate : {&profile.link.pinned_to_device, &profile.link.pageable_to_device, &profile.link.in_place}) {
    *rate *= factor;
  }
  factor = profile.cost.device_to_host_bytes_per_ns;
  ReadNumber("UVMTRACE_SIM_D2H_GBPS", 0.001, 1e6, "gigabytes (1e9 bytes) per second",
             &profile.cost.device_to_host_bytes_per_ns);
  factor = profile.cost.device_to_host_bytes_per_ns / factor;
  for (double* rate : {&profile.link.pinned_to_host, &profile.link.pageable_to_host}) *rate *= factor;
  ReadNumber("UVMTRACE_SIM_TIME_SCALE", 0, 1e6, "a factor, 0 for no waiting", &profile.time_scale);
  double entries = profile.tools_queue_entries;
  ReadNumber("UVMTRACE_SIM_QUEUE_ENTRIES", 1, 1 << 24, "a number of entries, 1 to 16777216", &entries);
  profile.tools_queue_entries = static_cast<uint32_t>(entries);
  double gpus = profile.gpus;
  ReadNumber("UVMTRACE_SIM_GPUS", 1, kMaxDevices, "a number of GPUs, 1 to 4", &gpus);
  profile.gpus = static_cast<int>(gpus);
  ForEachLack(Lacks(), [](std::string_view word) {
    for (const LackName& entry : kLackNames) {
      if (entry.name == word) return;
    }
    Complain("UVMTRACE_SIM_LACKS", std::string(word).c_str(), "words of sim/README.md, separated by commas");
  });
  return profile;
}

}  // namespace uvmsim
