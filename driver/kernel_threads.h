// Finding the nvidia-uvm driver's threads in /proc, and which GPU a bottom-half thread serves.
//
// "UVM GPU<n> BH": n counts the GPUs in the order in which the driver met them, from 1; it is no CUDA ordinal. The
// driver shows the same number, as 8 (n - 1) + 1, as a symbolic link to the GPU's UUID in /proc/driver/nvidia-uvm/gpus.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "record/event.h"

namespace uvmtrace {

// What /proc/<tid>/stat tells.
struct ThreadStat {
  uint32_t flags = 0;
  uint64_t user_ticks = 0;
  uint64_t system_ticks = 0;
  uint64_t start_ticks = 0;  // after boot: tells a thread from a later one with the same tid
};

// The name in the line may hold spaces and parentheses: parsed from the last ')'. False if the line is none.
bool ParseThreadStat(const char* line, ThreadStat* stat);

// The role of a thread of this name; kUnknown if it is none of the driver's. The bottom half's number n goes to
// *gpu_number, 0 for other roles.
ThreadRole RoleOfName(const char* name, uint32_t* gpu_number);

struct FoundThread {
  uint32_t tid = 0;
  uint64_t start_ticks = 0;
  char name[32] = {};
  ThreadRole role = ThreadRole::kUnknown;
  uint32_t gpu_number = 0;
};

inline constexpr size_t kMaxDriverThreads = 40;  // the driver knows at most 32 GPUs

struct ThreadSearch {
  FoundThread threads[kMaxDriverThreads];
  size_t count = 0;
  size_t bottom_halves = 0;
  bool proc_readable = false;
  int proc_error = 0;
  // Whether kernel threads can be seen at all. A container with its own process ids, or /proc mounted with hidepid, has
  // none.
  bool kernel_threads_visible = false;
};

// Walks <root>/proc once. Under the real root only the kernel's own threads count, whatever a program calls itself.
void SearchDriverThreads(const char* root, ThreadSearch* search);

// The UUID of the GPU that "UVM GPU<gpu_number> BH" serves. False if it is not known; `reason` says why.
// `bottom_halves`: how many such threads there are.
bool FindGpuOfThread(const char* root, uint32_t gpu_number, size_t bottom_halves, uint8_t uuid[16], char* reason,
                     size_t reason_size);

// Reads "GPU-<uuid>" or "UVM-GPU-<uuid>" at the start of `text`.
bool ParseGpuUuid(const char* text, uint8_t uuid[16]);

}  // namespace uvmtrace
