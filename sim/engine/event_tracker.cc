#include "sim/engine/event_tracker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

namespace uvmsim {
namespace {

constexpr int kLowestDescriptor = 600;

uint32_t Load(const uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }
void Store(uint32_t& word, uint32_t value) { __atomic_store_n(&word, value, __ATOMIC_RELEASE); }

}  // namespace

uint32_t PinnedMemory::Pin(uint64_t address, size_t bytes, size_t kept) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t length = (bytes + page - 1) / page * page;
  if (address == 0 || address % page != 0 || address + length < address) return kStatusInvalidAddress;
  void* const there = reinterpret_cast<void*>(address);
  if (msync(there, length, MS_ASYNC) != 0) return kStatusInvalidArgument;  // part of it is not mapped
  const int file = memfd_create("uvmsim-tools", MFD_CLOEXEC);
  if (file < 0) return kStatusNoMemory;
  void* view = MAP_FAILED;
  if (ftruncate(file, static_cast<off_t>(length)) == 0) {
    view = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  if (view != MAP_FAILED) {
    memcpy(view, there, kept);
    if (mmap(there, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
      munmap(view, length);
      view = MAP_FAILED;
    }
  }
  close(file);
  if (view == MAP_FAILED) return kStatusNoMemory;
  madvise(view, length, MADV_DONTFORK);
  madvise(there, length, MADV_DONTFORK);
  view_ = view;
  bytes_ = length;
  return kStatusOk;
}

void PinnedMemory::Unpin() {
  if (view_ != nullptr) munmap(view_, bytes_);
  view_ = nullptr;
}

int EventTracker::Open() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
  struct stat status;
  if (fstat(ends[0], &status) != 0) {
    const int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return -1;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  // Out of the way of the host's own descriptors, where there is room.
  pipe_ = fcntl(ends[1], F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (pipe_ >= 0) {
    close(ends[1]);
  } else {
    pipe_ = ends[1];
  }
  return ends[0];
}

// The host may have closed our end, as programs do that become daemons, and the number may be another file's by now.
bool EventTracker::HasPipe() const {
  struct stat status;
  return pipe_ >= 0 && fstat(pipe_, &status) == 0 && Is(status);
}

EventTracker::~EventTracker() {
  if (HasPipe()) close(pipe_);
}

bool EventTracker::Orphaned() const {
  if (!HasPipe()) return true;
  pollfd writer = {pipe_, 0, 0};
  return poll(&writer, 1, 0) == 1 && (writer.revents & (POLLERR | POLLNVAL)) != 0;
}

uint32_t EventTracker::Initialize(const InitEventTrackerArgument& argument) {
  if (initialized_) return kStatusInvalidArgument;
  if (argument.queue_entries != 0) {
    if (argument.queue_entries > UINT_MAX || argument.queue_entries < 2 ||
        !std::has_single_bit(argument.queue_entries)) {
      return kStatusInvalidArgument;
    }
    uint32_t status = queue_.Pin(argument.queue, argument.queue_entries * sizeof(ToolsEntry), 0);
    if (status == kStatusOk) status = control_.Pin(argument.control, sizeof(ToolsControl), sizeof(ToolsControl));
    if (status != kStatusOk) {
      queue_.Unpin();
      return status;
    }
  } else {
    constexpr size_t kBytes = kToolsCounters * sizeof(uint64_t);
    const uint32_t status = control_.Pin(argument.control, kBytes, kBytes);
    if (status != kStatusOk) return status;
  }
  entries_ = static_cast<uint32_t>(argument.queue_entries);
  threshold_ = entries_ / 2;
  all_processors_ = argument.all_processors != 0;
  memcpy(processor_, argument.processor, sizeof processor_);
  initialized_ = true;
  return kStatusOk;
}

void EventTracker::Enqueue(const ToolsEntry& entry) {
  if (!is_queue() || ((enabled >> entry.type) & 1) == 0) return;
  auto& control = *static_cast<ToolsControl*>(control_.view());
  // The reader can write anything there.
  const uint32_t mask = entries_ - 1;
  const uint32_t get = Load(control.get_behind) & mask;
  const uint32_t put = Load(control.put_behind) & mask;
  if (((get - put) & mask) == 1) {  // one entry always stays free
    __atomic_fetch_add(&control.dropped[entry.type], 1, __ATOMIC_RELAXED);
    return;
  }
  static_cast<ToolsEntry*>(queue_.view())[put] = entry;
  Store(control.put_ahead, (put + 1) & mask);
  Store(control.put_behind, (put + 1) & mask);
  if (!readable_) UpdateReadable();
}

void EventTracker::SetThreshold(uint32_t entries) {
  threshold_ = entries;
  UpdateReadable();
}

bool EventTracker::UpdateReadable() {
  if (!is_queue()) return false;
  const auto& control = *static_cast<const ToolsControl*>(control_.view());
  const uint32_t unread = (Load(control.put_behind) - Load(control.get_ahead)) & (entries_ - 1);
  const bool readable = unread >= threshold_;
  if (readable == readable_ || !HasPipe()) return readable_;
  if (readable) {
    readable_ = write(pipe_, "", 1) == 1;
  } else {
    // A reading end of our own, for a moment: the reader's may have any number by now.
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", pipe_);
    const int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char bytes[16];
    while (reader >= 0 && read(reader, bytes, sizeof bytes) > 0) {
    }
    if (reader >= 0) close(reader);
    readable_ = reader < 0;
  }
  return readable_;
}

void EventTracker::Count(ToolsCounter counter, uint64_t amount, const uint8_t (&processor)[16], bool in_total) {
  if (!is_counters() || amount == 0 || ((enabled >> counter) & 1) == 0) return;
  // Not one or the other: the driver compares the uuid also when all processors are counted.
  if (!(all_processors_ && in_total) && memcmp(processor_, processor, sizeof processor_) != 0) return;
  __atomic_fetch_add(static_cast<uint64_t*>(control_.view()) + counter, amount, __ATOMIC_RELAXED);
}

}  // namespace uvmsim
