// See proc_file.h.
#include "record/proc_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace uvmtrace {

bool ReadProcFile(const char* path, WireBuffer& out, size_t limit_bytes) {
  out.Clear();
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  bool good = true;
  while (out.size() < limit_bytes) {
    char block[4096];
    const ssize_t got = read(file, block, sizeof(block));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      good = got == 0;
      break;
    }
    out.AppendRaw(block, static_cast<size_t>(got));
  }
  close(file);
  return good && !out.failed();
}

uint64_t ParseDecimal(std::string_view text) {
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') break;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

}  // namespace uvmtrace
