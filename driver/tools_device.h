// Descriptors of the driver that live among a program's own.
//
// A program may close descriptors that are not its own (closefrom before an exec, daemons), and open its own under the
// same number. A descriptor is therefore told by device and inode before each use, and one that is not ours any longer
// is neither used nor closed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "driver/tools_interface.h"

namespace uvmtrace {

inline constexpr const char* kToolsDevice = "/dev/nvidia-uvm-tools";
inline constexpr const char* kVaSpaceDevice = "/dev/nvidia-uvm";
inline constexpr size_t kMaxVaSpaceDescriptors = 64;

// Whether a descriptor of the program is an address space of the driver. Keeps errno.
bool IsVaSpace(const ToolsCalls& calls, int descriptor);

class ToolsDescriptor {
 public:
  // The tools device, under a high number. False with errno.
  bool Open(const ToolsCalls& calls);
  // A duplicate of a descriptor of the program, under a high number. False with errno.
  bool Duplicate(int descriptor);

  bool open() const { return descriptor_ >= 0; }
  bool StillOurs() const;
  int number() const { return descriptor_; }
  enum class Same : uint8_t { kNo, kYes, kUnknown };
  // Whether `descriptor` is the same open file; unknown where the kernel does not tell (kcmp).
  Same IsSameFile(int descriptor) const;

  // Closes it if it is still ours. Returns whether it was.
  bool Close();

 private:
  bool Keep(int descriptor);

  int descriptor_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// The address spaces of the driver that this process has: descriptors of /dev/nvidia-uvm that take a tracker. A process
// has one, and beside it descriptors of other kinds that take none; two when it carries two CUDA libraries, and another
// one when CUDA was opened anew.
class VaSpaces {
 public:
  static constexpr size_t kMax = 4;

  // Descriptors that were neither accepted nor refused, at most `capacity`.
  // Several may be one address space: a program's descriptor and a duplicate of it, ours among them. So ask IsKnown
  // again before each is opened.
  size_t FindNew(const ToolsCalls& calls, int* descriptors, size_t capacity);
  bool IsKnown(int descriptor) const;
  // A tracker was bound to it: keeps a duplicate, for the program may close its own. The tracker itself keeps the
  // address space alive, so the duplicate changes nothing for the driver.
  void Accept(int descriptor);
  // It is none. Its number is remembered while it is in use.
  void Refuse(int descriptor);

  size_t count() const { return count_; }
  bool full() const { return count_ == kMax; }
  // What ioctls on address space `index` go to; -1 when it was taken away.
  int descriptor(size_t index) const;

  void Close();

 private:
  struct Known {
    ToolsDescriptor copy;
    int number = -1;
  };

  Known known_[kMax];
  size_t count_ = 0;
  int refused_[kMaxVaSpaceDescriptors] = {};
  size_t refused_count_ = 0;
};

}  // namespace uvmtrace
