// The trace file: which one it is, and how chunks get into it.
//
//   the path is free                           created (0600), locked with flock for the life of the process
//   a trace of an earlier run                  renamed to <path>.old, then created
//   an empty file                              taken as it is
//   any other file, here or at <path>.old      refused: what is not a trace is neither renamed nor overwritten
//   a file of this run, or one being written   another process of the run: <name>.<pid>.<extension> is taken instead
//   /dev/null, /dev/full                       opened
//   a symbolic link, fifo, folder, device      refused
//   the process has raised privileges          refused
//
// What stands for %h is a name within a folder, whatever the host calls itself.
//
// Every problem is one line on stderr with the path, the reason and what to do.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace uvmtrace {

class OutputFile {
 public:
  static constexpr size_t kPathBytes = 4096;

  // `path_template`: %p is the pid, %h the host name, %% a percent sign.
  bool Open(const char* path_template, uint64_t run_id);

  // 0, or the errno of what went wrong. Everything or nothing: after a failure the file ends where it ended before.
  int Write(const void* data, size_t size);

  void Close();

  const char* path() const { return path_; }
  // Any thread.
  uint64_t bytes_written() const { return bytes_written_.load(std::memory_order_relaxed); }

 private:
  enum class Attempt : uint8_t { kOpened, kFailed, kTaken };

  Attempt TryOpen(uint64_t run_id);
  Attempt TakeEmpty();
  bool OpenDevice();
  bool KeepOpen(int file);
  bool StillOurs();

  int file_ = -1;
  bool is_device_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::atomic<uint64_t> bytes_written_{0};
  char path_[kPathBytes] = {};
};

// Exposed for tests. The host's name without what means something in a path.
void MakeFileName(const char* host, char* out, size_t out_bytes);
// False: the result does not fit.
bool ExpandPathTemplate(const char* path_template, int pid, const char* host, char* out, size_t out_bytes);
// Puts ".<pid>" (and ".<number>" if it is above 1) before the extension of the file's name.
bool InsertPid(const char* path, int pid, int number, char* out, size_t out_bytes);

}  // namespace uvmtrace
