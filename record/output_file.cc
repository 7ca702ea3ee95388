// See output_file.h.
#include "record/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "record/chunk_format.h"
#include "record/diagnostics.h"

namespace uvmtrace {
namespace {

void SleepMs(long ms) {
  const timespec duration = {0, ms * 1'000'000};
  nanosleep(&duration, nullptr);
}

bool LockIsHeldByAnother(int file) { return flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; }

// The run id of the file's first chunk; false if it does not begin with one.
bool ReadRunId(int file, uint64_t& run_id) {
  uint8_t frame[kChunkFrameBytes];
  if (pread(file, frame, sizeof(frame), 0) != static_cast<ssize_t>(sizeof(frame))) return false;
  if (frame[0] != kChunkTag || memcmp(frame + kMagicOffset, kMagic, sizeof(kMagic)) != 0) return false;
  memcpy(&run_id, frame + kRunIdOffset, sizeof(run_id));
  return true;
}

bool PathIsFile(const char* path, int file) {
  struct stat by_path;
  struct stat by_file;
  return lstat(path, &by_path) == 0 && fstat(file, &by_file) == 0 && by_path.st_dev == by_file.st_dev &&
         by_path.st_ino == by_file.st_ino;
}

// Whether something stands there that is no trace.
bool IsForeign(const char* path) {
  const int file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return errno != ENOENT;
  uint64_t run_id;
  const bool is_trace = ReadRunId(file, run_id);
  close(file);
  return !is_trace;
}

void LogForeign(const char* path, const char* foreign) {
  Log(LogLevel::kWarn,
      "cannot create the trace %s: %s is there and is not a trace. Move it, or set UVMTRACE_OUT to another file. "
      "Nothing "
      "is recorded.",
      path, foreign);
}

void LogOpenError(const char* path, int error) {
  switch (error) {
    case ENOENT:
      Log(LogLevel::kWarn,
          "cannot create the trace %s: its folder does not exist. Create it, or set UVMTRACE_OUT. Nothing is recorded.",
          path);
      return;
    case EACCES:
    case EPERM:
    case EROFS:
      Log(LogLevel::kWarn,
          "cannot create the trace %s: %s. Set UVMTRACE_OUT to a file in a folder that this user can write. Nothing is "
          "recorded.",
          path, strerrordesc_np(error));
      return;
    case ELOOP:
      Log(LogLevel::kWarn,
          "cannot create the trace %s: it is a symbolic link. Remove it, or set UVMTRACE_OUT. Nothing is recorded.",
          path);
      return;
    default:
      Log(LogLevel::kWarn, "cannot create the trace %s: %s. Set UVMTRACE_OUT to another file. Nothing is recorded.",
          path, strerrordesc_np(error));
  }
}

}  // namespace

void MakeFileName(const char* host, char* out, size_t out_bytes) {
  size_t used = 0;
  for (; *host != 0 && used + 1 < out_bytes; ++host) {
    const bool plain = (*host >= 'a' && *host <= 'z') || (*host >= 'A' && *host <= 'Z') ||
                       (*host >= '0' && *host <= '9') || *host == '-' || *host == '_' || (*host == '.' && used != 0);
    out[used++] = plain ? *host : '_';
  }
  out[used] = 0;
}

bool ExpandPathTemplate(const char* path_template, int pid, const char* host, char* out, size_t out_bytes) {
  char host_name[HOST_NAME_MAX + 2];
  MakeFileName(host, host_name, sizeof(host_name));
  size_t used = 0;
  for (const char* in = path_template; *in != 0; ++in) {
    char number[16];
    char one[2] = {*in, 0};
    const char* piece = one;
    if (in[0] == '%' && in[1] == 'p') {
      snprintf(number, sizeof(number), "%d", pid);
      piece = number;
    } else if (in[0] == '%' && in[1] == 'h') {
      piece = host_name;
    }
    if (in[0] == '%' && (in[1] == 'p' || in[1] == 'h' || in[1] == '%')) ++in;
    const size_t bytes = strlen(piece);
    if (used + bytes >= out_bytes) return false;
    memcpy(out + used, piece, bytes);
    used += bytes;
  }
  out[used] = 0;
  return used != 0;
}

bool InsertPid(const char* path, int pid, int number, char* out, size_t out_bytes) {
  const char* slash = strrchr(path, '/');
  const char* name = slash == nullptr ? path : slash + 1;
  const char* dot = strrchr(name, '.');
  // A leading dot hides a file and begins no extension.
  const size_t stem = dot == nullptr || dot == name ? strlen(path) : static_cast<size_t>(dot - path);
  const int length =
      number > 1 ? snprintf(out, out_bytes, "%.*s.%d.%d%s", static_cast<int>(stem), path, pid, number, path + stem)
                 : snprintf(out, out_bytes, "%.*s.%d%s", static_cast<int>(stem), path, pid, path + stem);
  return length > 0 && static_cast<size_t>(length) < out_bytes;
}

bool OutputFile::OpenDevice() {
  const int file = open(path_, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) {
    LogOpenError(path_, errno);
    return false;
  }
  is_device_ = true;
  return KeepOpen(file);
}

bool OutputFile::KeepOpen(int file) {
  // A high number, so that the host's own files keep the numbers that they would have without us.
  const int high = fcntl(file, F_DUPFD_CLOEXEC, 500);
  if (high >= 0) {
    close(file);
    file = high;
  }
  struct stat status;
  if (fstat(file, &status) != 0) {
    close(file);
    return false;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  file_ = file;
  return true;
}

OutputFile::Attempt OutputFile::TakeEmpty() {
  const int file = open(path_, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) {
    LogOpenError(path_, errno);
    return Attempt::kFailed;
  }
  struct stat status;
  if (LockIsHeldByAnother(file) || fstat(file, &status) != 0 || status.st_size != 0 || !PathIsFile(path_, file)) {
    close(file);
    return Attempt::kTaken;
  }
  return KeepOpen(file) ? Attempt::kOpened : Attempt::kFailed;
}

OutputFile::Attempt OutputFile::TryOpen(uint64_t run_id) {
  // Only another process that is in this function at the same time makes a further round necessary.
  for (int round = 0; round < 100; ++round) {
    const int created = open(path_, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (created >= 0) {
      // One that finds the file while it is still empty locks it for a moment to see whether it is alive.
      bool taken = LockIsHeldByAnother(created);
      for (int i = 0; i < 100 && taken; ++i) {
        SleepMs(1);
        taken = LockIsHeldByAnother(created);
      }
      if (taken) {
        close(created);
        return Attempt::kTaken;
      }
      return KeepOpen(created) ? Attempt::kOpened : Attempt::kFailed;
    }
    if (errno != EEXIST) {
      LogOpenError(path_, errno);
      return Attempt::kFailed;
    }

    struct stat status;
    if (lstat(path_, &status) != 0) continue;
    if (S_ISCHR(status.st_mode) && major(status.st_rdev) == 1 &&
        (minor(status.st_rdev) == 3 || minor(status.st_rdev) == 7)) {
      return OpenDevice() ? Attempt::kOpened : Attempt::kFailed;
    }
    if (!S_ISREG(status.st_mode)) {
      Log(LogLevel::kWarn, "cannot write the trace to %s: it is %s. Set UVMTRACE_OUT to a file. Nothing is recorded.",
          path_,
          S_ISLNK(status.st_mode)    ? "a symbolic link"
          : S_ISDIR(status.st_mode)  ? "a folder"
          : S_ISFIFO(status.st_mode) ? "a fifo"
                                     : "not a regular file");
      return Attempt::kFailed;
    }

    const int old = open(path_, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (old < 0) {
      if (errno == ENOENT) continue;
      LogOpenError(path_, errno);
      return Attempt::kFailed;
    }
    uint64_t old_run_id = 0;
    const bool has_run_id = ReadRunId(old, old_run_id);
    if (LockIsHeldByAnother(old) || (has_run_id && old_run_id == run_id)) {
      close(old);
      return Attempt::kTaken;
    }
    // From here the old file is locked by us (where the file system can lock), so nobody else renames it; whoever
    // renamed it just before has put a new file in its place.
    if (!PathIsFile(path_, old)) {
      close(old);
      continue;
    }
    // Empty: perhaps created by a process that is about to lock it. After 200 ms, made by mktemp, or the remains of a
    // process that was killed: nothing is lost by writing there.
    if (status.st_size == 0) {
      close(old);
      if (round < 40) {
        SleepMs(5);
        continue;
      }
      return TakeEmpty();
    }
    char old_path[kPathBytes + 8];
    snprintf(old_path, sizeof(old_path), "%s.old", path_);
    const char* const foreign = !has_run_id ? path_ : IsForeign(old_path) ? old_path : nullptr;
    if (foreign != nullptr) {
      close(old);
      LogForeign(path_, foreign);
      return Attempt::kFailed;
    }
    const int renamed = rename(path_, old_path);
    const int error = errno;
    close(old);
    if (renamed != 0 && error != ENOENT) {
      LogOpenError(path_, error);
      return Attempt::kFailed;
    }
  }
  Log(LogLevel::kWarn,
      "cannot create the trace %s: other processes keep creating it. Put %%p into UVMTRACE_OUT. Nothing is recorded.",
      path_);
  return Attempt::kFailed;
}

bool OutputFile::Open(const char* path_template, uint64_t run_id) {
  if (getauxval(AT_SECURE) != 0) {
    // Whoever started it chose UVMTRACE_OUT, and has not the right to write there as this process does.
    Log(LogLevel::kWarn,
        "this program runs with raised privileges (setuid, setgid or capabilities). Nothing is recorded.");
    return false;
  }
  utsname names;
  char expanded[kPathBytes];
  const int pid = getpid();
  if (!ExpandPathTemplate(path_template, pid, uname(&names) == 0 ? names.nodename : "unknown", expanded,
                          sizeof(expanded))) {
    Log(LogLevel::kWarn,
        "cannot create the trace: UVMTRACE_OUT is empty or longer than %zu bytes. Nothing is recorded.",
        sizeof(expanded));
    return false;
  }
  memcpy(path_, expanded, sizeof(path_));
  Attempt attempt = TryOpen(run_id);
  for (int number = 1; attempt == Attempt::kTaken && number <= 1000; ++number) {
    if (!InsertPid(expanded, pid, number, path_, sizeof(path_))) {
      LogOpenError(expanded, ENAMETOOLONG);
      return false;
    }
    attempt = TryOpen(run_id);
  }
  if (attempt == Attempt::kTaken) LogOpenError(path_, EEXIST);
  if (attempt != Attempt::kOpened) path_[0] = 0;
  return attempt == Attempt::kOpened;
}

// A daemon closes every file that it did not open, and its next file gets our number: writing on would destroy it.
bool OutputFile::StillOurs() {
  struct stat status;
  if (file_ >= 0 && fstat(file_, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_) return true;
  file_ = -1;  // not ours to close
  const int file = open(path_, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return false;
  if (fstat(file, &status) != 0 || status.st_dev != device_ || status.st_ino != inode_) {
    close(file);
    return false;
  }
  LockIsHeldByAnother(file);  // takes the lock again
  return KeepOpen(file);
}

int OutputFile::Write(const void* data, size_t size) {
  if (!StillOurs()) return EBADF;
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  size_t written = 0;
  while (written < size) {
    const ssize_t result = write(file_, bytes + written, size - written);
    if (result >= 0) {
      written += static_cast<size_t>(result);
      if (result > 0) continue;
      errno = ENOSPC;  // a write of nothing, again and again, would be a busy loop
    }
    if (errno == EINTR) continue;
    const int error = errno;
    // Back to the last whole chunk, so that the file stays one valid message and the next chunk has its place.
    if (written != 0 && !is_device_ && ftruncate(file_, static_cast<off_t>(bytes_written_)) != 0) {
      Log(LogLevel::kWarn, "cannot remove a partial chunk from %s: %s; the report will skip it", path_,
          strerrordesc_np(errno));
      bytes_written_.fetch_add(written, std::memory_order_relaxed);
    }
    return error;
  }
  bytes_written_.fetch_add(size, std::memory_order_relaxed);
  return 0;
}

void OutputFile::Close() {
  if (file_ >= 0) close(file_);
  file_ = -1;
}

}  // namespace uvmtrace
