// Stands for a disk that takes SLOW_DISK_MS for every write to a trace but the first SLOW_DISK_AFTER (1 if not set):
// preloaded beside the library, whose write(2) it answers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace {

bool IsTrace(int file) {
  char link[64];
  char target[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, target, sizeof(target));
  return length > 3 && memcmp(target + length - 3, ".pb", 3) == 0;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ssize_t write(int file, const void* data, size_t bytes) {
  static std::atomic<int> writes{0};
  const char* const milliseconds = getenv("SLOW_DISK_MS");
  const char* const after = getenv("SLOW_DISK_AFTER");
  const int quick = after == nullptr ? 1 : atoi(after);
  if (file > 2 && milliseconds != nullptr && IsTrace(file) && writes.fetch_add(1) >= quick) {
    usleep(static_cast<useconds_t>(atoi(milliseconds)) * 1000);
  }
  return syscall(SYS_write, file, data, bytes);
}
