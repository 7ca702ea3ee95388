// The names in a folder, without memory from the heap: the recorder runs in programs whose allocator may be anything.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace uvmtrace {

// Calls visit(name) for each entry but "." and "..". Returns 0, or the errno of what failed.
template <typename Visit>
int ForEachEntry(const char* path, Visit visit) {
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  // struct linux_dirent64: inode (8), offset (8), record length (2), type (1), name.
  constexpr long kLengthAt = 16;
  constexpr long kNameAt = 19;
  alignas(8) char entries[16384];
  int error = 0;
  while (true) {
    const long got = syscall(SYS_getdents64, fd, entries, sizeof entries);
    if (got < 0) error = errno;
    if (got <= 0) break;
    for (long at = 0; at < got;) {
      uint16_t length;
      memcpy(&length, entries + at + kLengthAt, sizeof length);
      const char* name = entries + at + kNameAt;
      if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) visit(name);
      at += length;
    }
  }
  close(fd);
  return error;
}

}  // namespace uvmtrace
