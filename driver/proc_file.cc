// See proc_file.h.
#include "driver/proc_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace uvmtrace {
namespace {

// Programs are surprised when their next descriptor is not the lowest that they know to be free.
constexpr int kLowestDescriptor = 400;

}  // namespace

ErrorText::ErrorText(int error) : buffer{}, text(strerror_r(error, buffer, sizeof buffer)) {}

ssize_t ReadSmallFile(const char* path, char* buffer, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const ssize_t got = read(fd, buffer, size - 1);
  const int error = errno;
  close(fd);
  errno = error;
  if (got < 0) return -1;
  buffer[got] = '\0';
  return got;
}

void ProcFile::SetPath(const char* path) {
  Close();
  snprintf(path_, sizeof path_, "%s", path);
}

bool ProcFile::Open() {
  int fd = open(path_, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (high >= 0) {
    close(fd);
    fd = high;
  }
  struct stat status;
  if (fstat(fd, &status) != 0) {
    close(fd);
    return false;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  ++openings_;
  fd_ = fd;
  return true;
}

bool ProcFile::StillOurs() const {
  struct stat status;
  return fd_ >= 0 && fstat(fd_, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

ssize_t ProcFile::Read(char* buffer, size_t size) {
  if (!StillOurs()) {
    fd_ = -1;
    if (!Open()) return -1;
  }
  const ssize_t got = pread(fd_, buffer, size - 1, 0);
  if (got < 0) return -1;
  buffer[got] = '\0';
  return got;
}

void ProcFile::Close() {
  if (StillOurs()) close(fd_);
  fd_ = -1;
}

}  // namespace uvmtrace
