// The driver's tools interface as a test scripts it: trackers, rings, events that are held back until a flush. It
// speaks as the driver of one branch does.
//
// The functions of ToolsCalls carry no pointer, so there is one FakeTools at a time. Descriptors are real ones: they
// are told by device and inode, duplicated and polled.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "driver/tools_interface.h"
#include "tests/unit/driver_fake_branches.h"

namespace uvmtrace {

inline uint64_t RawNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A list that tests and sources use at the same time. Its elements stay where they are.
template <typename T>
class GuardedList {
 public:
  explicit GuardedList(std::recursive_mutex& mutex) : mutex_(mutex) {}
  size_t size() const {
    std::lock_guard guard(mutex_);
    return items_.size();
  }
  T& operator[](size_t i) {
    std::lock_guard guard(mutex_);
    return items_[i];
  }
  void push_back(const T& item) {
    std::lock_guard guard(mutex_);
    items_.push_back(item);
  }
  void clear() {
    std::lock_guard guard(mutex_);
    items_.clear();
  }
  // While the mutex is held.
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::recursive_mutex& mutex_;
  std::deque<T> items_;
};

class FakeTools {
  std::recursive_mutex mutex_;

 public:
  struct Answer {
    int error = 0;
    uint32_t status = 0;
  };
  struct Tracker {
    int va_space = -1;
    bool is_queue = false;
    uint8_t* ring = nullptr;
    uint32_t entries = 0;
    ToolsControl* control = nullptr;
    std::atomic<uint64_t>* counters = nullptr;  // as the kernel writes them
    bool all_processors = false;
    uint64_t enabled = 0;
  };

  // How it answers.
  FakeBranch branch = FakeBranch::k565;
  std::string version;  // what it says that it is; empty: the version of its branch
  int open_error = 0;
  std::map<unsigned long, Answer> refusals;
  uint32_t most_entries = 1u << 30;    // larger rings find no memory
  GuardedList<int> va_spaces{mutex_};  // what find_va_spaces finds
  std::vector<int> other_kinds;        // refused
  std::vector<DeviceUuid> processors = std::vector<DeviceUuid>(33);
  int without_gpus = -1;         // this address space names the CPU alone
  DeviceUuid refused_processor;  // a counters tracker of this GPU
  bool tools_are_files = false;  // descriptors that poll calls ready for ever

  // How it was used.
  GuardedList<Tracker> trackers{mutex_};
  int flushes = 0;
  uint32_t threshold = 0;

  FakeTools() {
    current_ = this;
    va_spaces.push_back(memfd_create("va_space", MFD_CLOEXEC));
    processors[0].bytes[0] = 0xC0;
    processors[1] = Gpu(0);
  }
  ~FakeTools() {
    for (const int one : va_spaces) close(one);
    current_ = nullptr;
  }

  static DeviceUuid Gpu(int ordinal) {
    DeviceUuid uuid;
    uuid.bytes[0] = 0x77;
    uuid.bytes[15] = static_cast<uint8_t>(ordinal);
    return uuid;
  }

  static const ToolsCalls kCalls;

  // An event of address space `va_space`, as the driver sends it: to every queue that asks for the type. At once, or
  // when somebody flushes.
  template <typename Entry>
  void Send(const Entry& entry, size_t va_space = 0, bool held_back = false) {
    std::lock_guard guard(mutex_);
    uint8_t bytes[kToolsEntryBytes] = {};
    memcpy(bytes, &entry, sizeof entry);
    std::string held(reinterpret_cast<char*>(bytes), sizeof bytes);
    if (held_back) return held_.push_back({held, va_space});
    Deliver(held, va_space);
  }
  template <typename Entry>
  void HoldBack(const Entry& entry) {
    Send(entry, 0, true);
  }
  void CountBytes(uint64_t bytes) {
    std::lock_guard guard(mutex_);
    for (Tracker& tracker : trackers) {
      if (tracker.counters != nullptr && tracker.all_processors) tracker.counters[kHostToDeviceBytesIndex] += bytes;
    }
  }
  Tracker* queue(size_t n = 0) {
    std::lock_guard guard(mutex_);
    for (Tracker& tracker : trackers) {
      if (tracker.is_queue && n-- == 0) return &tracker;
    }
    return nullptr;
  }
  bool Asks(ToolsEvent event) {
    std::lock_guard guard(mutex_);
    return (queue()->enabled & ToolsBit(event)) != 0;
  }
  int descriptor_of_queue = -1;

 private:
  struct File {
    dev_t device;
    ino_t inode;
    size_t tracker;
  };

  int OpenDevice() {
    if (open_error != 0) {
      errno = open_error;
      return -1;
    }
    int ends[2];
    if (tools_are_files) {
      ends[0] = memfd_create("tools", MFD_CLOEXEC);
    } else {
      if (pipe2(ends, O_CLOEXEC) != 0) return -1;
      writers_.push_back(ends[1]);
    }
    return ends[0];
  }

  size_t FindVaSpaces(int* descriptors, size_t capacity) {
    std::lock_guard guard(mutex_);
    size_t count = 0;
    for (const int one : other_kinds) {
      if (count < capacity) descriptors[count++] = one;
    }
    for (const int one : va_spaces) {
      if (count < capacity) descriptors[count++] = one;
    }
    return count;
  }

  static bool SameFile(int a, int b) {
    struct stat first;
    struct stat second;
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
  }

  File* FindFile(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) return nullptr;
    for (File& file : files_) {
      if (file.device == status.st_dev && file.inode == status.st_ino) return &file;
    }
    return nullptr;
  }

  int Control(int descriptor, unsigned long number, void* data) {
    std::lock_guard guard(mutex_);
    Answer answer;
    if (refusals.count(number) != 0) answer = refusals[number];
    if (answer.error != 0) {
      errno = answer.error;
      return -1;
    }
    switch (number) {
      case kToolsInitEventTracker:
        AnswerTracker(branch, data, [&](const FakeTrackerCommon& argument, uint32_t entry_version) {
          if (answer.status != 0) return answer.status;
          return entry_version == 1 ? Initialize(descriptor, argument) : kFakeInvalidArgument;
        });
        return 0;
      case kToolsSetNotificationThreshold:
        threshold = static_cast<ToolsThreshold*>(data)->entries;
        static_cast<ToolsThreshold*>(data)->status = answer.status;
        return 0;
      case kToolsEnableEvents:
      case kToolsDisableEvents:
      case kToolsEnableCounters: {
        auto* flags = static_cast<ToolsFlags*>(data);
        flags->status = answer.status;
        File* const file = FindFile(descriptor);
        if (file == nullptr) break;
        Tracker& tracker = trackers[file->tracker];
        if (answer.status != 0) return 0;
        if (number == kToolsDisableEvents) {
          tracker.enabled &= ~flags->flags;
        } else {
          tracker.enabled |= flags->flags;
        }
        return 0;
      }
      case kToolsGetProcessorTable:
        if (!IsVaSpace(descriptor)) break;
        if (without_gpus >= 0 && SameFile(va_spaces[static_cast<size_t>(without_gpus)], descriptor)) {
          std::vector<DeviceUuid> cpu(processors.size());
          cpu[0] = processors[0];
          AnswerTable(branch, data, cpu, answer.status);
        } else {
          AnswerTable(branch, data, processors, answer.status);
        }
        return 0;
      case kToolsFlushEvents: {
        if (!IsVaSpace(descriptor)) break;
        static_cast<ToolsFlush*>(data)->status = answer.status;
        ++flushes;
        std::vector<Held> held;
        held.swap(held_);
        for (const Held& one : held) Deliver(one.bytes, one.va_space);
        return 0;
      }
    }
    errno = EINVAL;
    return -1;
  }

  bool IsVaSpace(int descriptor) const {
    for (const int one : va_spaces) {
      if (SameFile(one, descriptor)) return true;
    }
    return false;
  }

  // The status.
  uint32_t Initialize(int descriptor, const FakeTrackerCommon& argument) {
    if (!IsVaSpace(static_cast<int>(argument.va_space_descriptor))) return 0x16;
    const DeviceUuid none;
    if (memcmp(&refused_processor, &none, sizeof none) != 0 &&
        memcmp(argument.processor, &refused_processor, sizeof none) == 0) {
      return kFakeInvalidArgument;
    }
    if (argument.queue_entries > most_entries) return 0x51;
    Tracker tracker;
    for (size_t i = 0; i < va_spaces.size(); ++i) {
      if (SameFile(va_spaces[i], static_cast<int>(argument.va_space_descriptor)))
        tracker.va_space = static_cast<int>(i);
    }
    tracker.is_queue = argument.queue_entries != 0;
    tracker.ring = reinterpret_cast<uint8_t*>(argument.queue);
    tracker.entries = static_cast<uint32_t>(argument.queue_entries);
    if (tracker.is_queue) {
      tracker.control = reinterpret_cast<ToolsControl*>(argument.control);
      if (descriptor_of_queue < 0) descriptor_of_queue = descriptor;
    } else {
      tracker.counters = reinterpret_cast<std::atomic<uint64_t>*>(argument.control);
    }
    tracker.all_processors = argument.all_processors != 0;
    struct stat file;
    fstat(descriptor, &file);
    files_.push_back({file.st_dev, file.st_ino, trackers.size()});
    trackers.push_back(tracker);
    return 0;
  }

  void Deliver(const std::string& bytes, size_t va_space) {
    const auto type = static_cast<uint8_t>(bytes[0]);
    for (Tracker& tracker : trackers) {
      if (!tracker.is_queue || ((tracker.enabled >> (type & 63)) & 1) == 0) continue;
      if (tracker.va_space != static_cast<int>(va_space) && type != static_cast<uint8_t>(ToolsEvent::kReplay)) continue;
      ToolsControl& control = *tracker.control;
      const uint32_t mask = tracker.entries - 1;
      const uint32_t get = __atomic_load_n(&control.get_behind, __ATOMIC_ACQUIRE) & mask;
      const uint32_t put = control.put_behind & mask;
      if (((tracker.entries + get - put) & mask) == 1) {
        __atomic_add_fetch(&control.dropped[type & 63], 1, __ATOMIC_RELAXED);
        continue;
      }
      memcpy(tracker.ring + size_t{put} * kToolsEntryBytes, bytes.data(), kToolsEntryBytes);
      __atomic_store_n(&control.put_ahead, (put + 1) & mask, __ATOMIC_RELEASE);
      __atomic_store_n(&control.put_behind, (put + 1) & mask, __ATOMIC_RELEASE);
    }
  }

  struct Held {
    std::string bytes;
    size_t va_space;
  };

  static inline FakeTools* current_ = nullptr;
  std::vector<File> files_;
  std::vector<int> writers_;
  std::vector<Held> held_;
};

// The name of a test on a driver of this branch.
inline std::string FakeBranchName(const testing::TestParamInfo<FakeBranch>& info) {
  static constexpr const char* kNames[] = {"Driver515", "Driver550", "Driver560", "Driver565"};
  return kNames[static_cast<int>(info.param)];
}

inline const ToolsCalls FakeTools::kCalls = {
    [] { return current_->OpenDevice(); },
    [](int* descriptors, size_t capacity) { return current_->FindVaSpaces(descriptors, capacity); },
    [](int descriptor, unsigned long number, void* data) { return current_->Control(descriptor, number, data); },
    [](char* text, size_t size) -> size_t {
      const std::string& set = current_->version;
      snprintf(text, size, "%s", set.empty() ? FakeVersion(current_->branch) : set.c_str());
      return strlen(text);
    }};

}  // namespace uvmtrace
