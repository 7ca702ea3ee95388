// See kernel_threads.h.
#include "driver/kernel_threads.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/directory.h"
#include "driver/proc_file.h"

namespace uvmtrace {
namespace {

constexpr uint32_t kKernelThreadFlag = 0x00200000;  // PF_KTHREAD of the kernel's sched.h, in stat's field 9

bool IsTid(const char* name) { return name[0] >= '1' && name[0] <= '9'; }

// The name without its newline. False if it cannot be read: the thread may have ended meanwhile.
bool ReadName(const char* root, const char* tid, char* name, size_t size) {
  char path[512];
  snprintf(path, sizeof path, "%s/proc/%s/comm", root, tid);
  const ssize_t length = ReadSmallFile(path, name, size);
  if (length <= 0) return false;
  if (name[length - 1] == '\n') name[length - 1] = '\0';
  return true;
}

bool ReadStat(const char* root, const char* tid, ThreadStat* stat) {
  char path[512];
  char line[1024];
  snprintf(path, sizeof path, "%s/proc/%s/stat", root, tid);
  return ReadSmallFile(path, line, sizeof line) > 0 && ParseThreadStat(line, stat);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool ParseThreadStat(const char* line, ThreadStat* stat) {
  const char* end_of_name = strrchr(line, ')');
  if (end_of_name == nullptr) return false;
  // Fields from 3 (state) on, as proc(5) counts them.
  const char* at = end_of_name + 1;
  for (int field = 3; field <= 22; ++field) {
    while (*at == ' ') ++at;
    if (*at == '\0' || *at == '\n') return false;
    if (field != 3) {
      char* end;
      const unsigned long long value = strtoull(at, &end, 10);
      if (end == at) return false;
      if (field == 9) stat->flags = static_cast<uint32_t>(value);
      if (field == 14) stat->user_ticks = value;
      if (field == 15) stat->system_ticks = value;
      if (field == 22) stat->start_ticks = value;
    }
    while (*at != ' ' && *at != '\0' && *at != '\n') ++at;
  }
  return true;
}

ThreadRole RoleOfName(const char* name, uint32_t* gpu_number) {
  *gpu_number = 0;
  constexpr char kBottomHalf[] = "UVM GPU";
  constexpr char kToolsQueue[] = "UVM Tools Event";  // kernels before 5.17 cut "UVM Tools Event Queue" here
  if (strncmp(name, kToolsQueue, strlen(kToolsQueue)) == 0) {
    const char* rest = name + strlen(kToolsQueue);
    return strncmp(rest, " Queue", strlen(rest)) == 0 ? ThreadRole::kToolsQueue : ThreadRole::kUnknown;
  }
  if (strncmp(name, kBottomHalf, strlen(kBottomHalf)) != 0) return ThreadRole::kUnknown;
  const char* at = name + strlen(kBottomHalf);
  uint32_t number = 0;
  while (*at >= '0' && *at <= '9' && number < 1000) number = number * 10 + static_cast<uint32_t>(*at++ - '0');
  if (number == 0 || strcmp(at, " BH") != 0) return ThreadRole::kUnknown;
  *gpu_number = number;
  return ThreadRole::kBottomHalf;
}

void SearchDriverThreads(const char* root, ThreadSearch* search) {
  *search = ThreadSearch{};
  const bool real_root = root[0] == '\0';
  char path[512];
  snprintf(path, sizeof path, "%s/proc", root);
  search->proc_error = ForEachEntry(path, [&](const char* tid) {
    if (!IsTid(tid)) return;
    FoundThread found;
    if (!ReadName(root, tid, found.name, sizeof found.name)) return;
    if (strcmp(tid, "2") == 0 && strcmp(found.name, "kthreadd") == 0) search->kernel_threads_visible = true;
    found.role = RoleOfName(found.name, &found.gpu_number);
    ThreadStat stat;
    if (found.role == ThreadRole::kUnknown || !ReadStat(root, tid, &stat)) return;
    if (real_root && (stat.flags & kKernelThreadFlag) == 0) return;
    if (search->count == kMaxDriverThreads) return;
    found.tid = static_cast<uint32_t>(strtoul(tid, nullptr, 10));
    found.start_ticks = stat.start_ticks;
    if (found.role == ThreadRole::kBottomHalf) ++search->bottom_halves;
    search->kernel_threads_visible = true;
    search->threads[search->count++] = found;
  });
  search->proc_readable = search->proc_error == 0;
}

bool ParseGpuUuid(const char* text, uint8_t uuid[16]) {
  if (strncmp(text, "UVM-", 4) == 0) text += 4;
  if (strncmp(text, "GPU-", 4) != 0) return false;
  text += 4;
  for (int byte = 0; byte < 16; ++byte) {
    if (byte == 4 || byte == 6 || byte == 8 || byte == 10) {
      if (*text++ != '-') return false;
    }
    const int high = HexDigit(text[0]);
    const int low = high < 0 ? -1 : HexDigit(text[1]);
    if (low < 0) return false;
    uuid[byte] = static_cast<uint8_t>(high * 16 + low);
    text += 2;
  }
  return *text == '\0' || *text == '/';
}

bool FindGpuOfThread(const char* root, uint32_t gpu_number, size_t bottom_halves, uint8_t uuid[16], char* reason,
                     size_t reason_size) {
  char folder[512];
  char link[640];
  char target[256];
  snprintf(folder, sizeof folder, "%s/proc/driver/nvidia-uvm/gpus", root);
  snprintf(link, sizeof link, "%s/%u", folder, (gpu_number - 1) * 8 + 1);
  const ssize_t length = readlink(link, target, sizeof target - 1);
  if (length > 0) {
    target[length] = '\0';
    if (ParseGpuUuid(target, uuid)) return true;
  }
  // One thread and one GPU belong together, whatever the link says.
  size_t gpus = 0;
  uint8_t only[16] = {};
  const int error = ForEachEntry(folder, [&](const char* name) {
    uint8_t parsed[16];
    if (!ParseGpuUuid(name, parsed)) return;
    memcpy(only, parsed, sizeof only);
    ++gpus;
  });
  if (error == 0 && gpus == 1 && bottom_halves == 1) {
    memcpy(uuid, only, sizeof only);
    return true;
  }
  if (error != 0) {
    snprintf(reason, reason_size, "%s cannot be read (%s)", folder, ErrorText(error).text);
  } else {
    snprintf(reason, reason_size, "%s names no GPU, and there are %zu GPUs for %zu threads", link, gpus, bottom_halves);
  }
  return false;
}

}  // namespace uvmtrace
