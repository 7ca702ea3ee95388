// See tools_device.h.
#include "driver/tools_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "driver/directory.h"
#include "driver/proc_file.h"

namespace uvmtrace {
namespace {

// As proc_file.cc: programs are surprised when their next descriptor is not the lowest that they know to be free.
constexpr int kLowestDescriptor = 400;

int OpenToolsDevice() { return open(kToolsDevice, O_RDWR | O_CLOEXEC); }

// Told by the device number, because a container may have the device under another name. Where the device is not there
// any more (the program has changed its root), by the name under which it was opened.
class VaSpaceDevice {
 public:
  VaSpaceDevice() : exists_(stat(kVaSpaceDevice, &device_) == 0 && S_ISCHR(device_.st_mode)) {}

  bool Has(int descriptor) const {
    struct stat status;
    if (fstat(descriptor, &status) != 0) return false;
    if (exists_) return S_ISCHR(status.st_mode) && status.st_rdev == device_.st_rdev;
    char link[64];
    char target[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, target, sizeof target - 1);
    if (length <= 0) return false;
    target[length] = '\0';
    return strcmp(target, kVaSpaceDevice) == 0;
  }

 private:
  struct stat device_;
  bool exists_;
};

size_t FindVaSpaces(int* descriptors, size_t capacity) {
  const VaSpaceDevice device;
  size_t count = 0;
  ForEachEntry("/proc/self/fd", [&](const char* name) {
    if (count == capacity || name[0] < '0' || name[0] > '9') return;
    const int descriptor = atoi(name);
    if (device.Has(descriptor)) descriptors[count++] = descriptor;
  });
  return count;
}

int Control(int descriptor, unsigned long number, void* data) { return ioctl(descriptor, number, data); }

// "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build ...": the first number with a dot.
size_t DriverVersion(char* text, size_t size) {
  char file[512];
  if (ReadSmallFile("/proc/driver/nvidia/version", file, sizeof file) <= 0) return 0;
  char* rest = nullptr;
  for (char* word = strtok_r(file, " \t\n", &rest); word != nullptr; word = strtok_r(nullptr, " \t\n", &rest)) {
    if (word[0] < '0' || word[0] > '9' || strchr(word, '.') == nullptr) continue;
    snprintf(text, size, "%s", word);
    return strlen(text);
  }
  return 0;
}

}  // namespace

const ToolsCalls kKernelTools = {&OpenToolsDevice, &FindVaSpaces, &Control, &DriverVersion};

bool IsVaSpace(const ToolsCalls& calls, int descriptor) {
  const int host_errno = errno;
  bool found = false;
  if (calls.find_va_spaces == kKernelTools.find_va_spaces) {
    found = VaSpaceDevice().Has(descriptor);
  } else {
    int descriptors[kMaxVaSpaceDescriptors];
    const size_t count = calls.find_va_spaces(descriptors, kMaxVaSpaceDescriptors);
    found = std::find(descriptors, descriptors + count, descriptor) != descriptors + count;
  }
  errno = host_errno;
  return found;
}

bool ToolsDescriptor::Keep(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) {
    const int error = errno;
    close(descriptor);
    errno = error;
    return false;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  descriptor_ = descriptor;
  return true;
}

bool ToolsDescriptor::Open(const ToolsCalls& calls) {
  int opened = calls.open_device();
  if (opened < 0) return false;
  const int high = fcntl(opened, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (high >= 0) {
    close(opened);
    opened = high;
  }
  return Keep(opened);
}

bool ToolsDescriptor::Duplicate(int descriptor) {
  int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (copy < 0) copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);  // the limit of descriptors is low
  return copy >= 0 && Keep(copy);
}

bool ToolsDescriptor::StillOurs() const {
  struct stat status;
  return descriptor_ >= 0 && fstat(descriptor_, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

ToolsDescriptor::Same ToolsDescriptor::IsSameFile(int descriptor) const {
  const pid_t pid = getpid();
  const long order = descriptor_ < 0 ? -1 : syscall(SYS_kcmp, pid, pid, KCMP_FILE, descriptor_, descriptor);
  return order < 0 ? Same::kUnknown : order == 0 ? Same::kYes : Same::kNo;
}

bool ToolsDescriptor::Close() {
  const bool ours = StillOurs();
  if (ours) close(descriptor_);
  descriptor_ = -1;
  return ours;
}

// Where the kernel does not compare open files, whatever was not there from the start counts as known: a second tracker
// on the same address space would count everything twice.
bool VaSpaces::IsKnown(int descriptor) const {
  for (size_t i = 0; i < count_; ++i) {
    const ToolsDescriptor::Same same = known_[i].copy.IsSameFile(descriptor);
    if (same == ToolsDescriptor::Same::kYes || same == ToolsDescriptor::Same::kUnknown) return true;
  }
  return std::find(refused_, refused_ + refused_count_, descriptor) != refused_ + refused_count_;
}

size_t VaSpaces::FindNew(const ToolsCalls& calls, int* descriptors, size_t capacity) {
  int found[kMaxVaSpaceDescriptors];
  const size_t found_count = calls.find_va_spaces(found, kMaxVaSpaceDescriptors);
  size_t kept = 0;
  for (size_t i = 0; i < refused_count_; ++i) {
    if (std::find(found, found + found_count, refused_[i]) != found + found_count) refused_[kept++] = refused_[i];
  }
  refused_count_ = kept;
  size_t count = 0;
  for (size_t i = 0; i < found_count && count < capacity; ++i) {
    const bool own =
        std::any_of(known_, known_ + count_, [&](const Known& known) { return known.copy.number() == found[i]; });
    if (!own && !IsKnown(found[i])) descriptors[count++] = found[i];
  }
  return count;
}

void VaSpaces::Accept(int descriptor) {
  if (count_ == kMax) return;
  Known& known = known_[count_++];
  known.number = descriptor;
  known.copy.Duplicate(descriptor);
}

void VaSpaces::Refuse(int descriptor) {
  if (refused_count_ < kMaxVaSpaceDescriptors) refused_[refused_count_++] = descriptor;
}

int VaSpaces::descriptor(size_t index) const {
  const Known& known = known_[index];
  if (!known.copy.open()) return known.number;
  return known.copy.StillOurs() ? known.copy.number() : -1;
}

void VaSpaces::Close() {
  for (size_t i = 0; i < count_; ++i) known_[i].copy.Close();
  count_ = 0;
  refused_count_ = 0;
}

}  // namespace uvmtrace
