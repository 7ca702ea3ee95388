// A small file of /proc that is read again and again.
//
// It is kept open and read at offset 0: no open and no path walk for each sample. A program may close descriptors that
// are not its own (closefrom before an exec, daemons), and open its own under the same number: the file is therefore
// told by device and inode before each reading, and a descriptor that is not ours any longer is neither read nor
// closed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace uvmtrace {

// Reads at most size - 1 bytes, ends them with a NUL. Returns the length, or -1 with errno.
ssize_t ReadSmallFile(const char* path, char* buffer, size_t size);

// "Permission denied" for EACCES.
struct ErrorText {
  explicit ErrorText(int error);
  char buffer[64];
  const char* text;
};

class ProcFile {
 public:
  void SetPath(const char* path);
  const char* path() const { return path_; }

  // Like ReadSmallFile. Opens the file when it is not open, and again when the descriptor was taken away.
  ssize_t Read(char* buffer, size_t size);

  // Changes with each opening: what was known about the file by its path is to be looked at again.
  uint32_t openings() const { return openings_; }

  void Close();

 private:
  bool Open();
  bool StillOurs() const;

  char path_[256] = {};
  uint32_t openings_ = 0;
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace uvmtrace
