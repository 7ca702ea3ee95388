// From the addresses of a stack to the id of its definition in the trace, which holds names only.
//
// A thread in a loop gives the same addresses again and again: a small table of recent stacks answers those. Others are
// named through the kernel's symbols, which are read at the first sample, and stacks of the same names are defined
// once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/kernel_symbols.h"
#include "record/interner.h"

namespace uvmtrace {

class KernelStacks {
 public:
  // `symbols_path` is kept.
  void SetSymbolsPath(const char* symbols_path) { symbols_path_ = symbols_path; }

  // The id that Recorder::DefineKernelStack gave. 0: no memory for another stack, or, if symbols_missing(), no names.
  uint32_t Find(std::span<const uint64_t> addresses);

  // The symbols could not be read; `access` says why, `error` is the errno of kUnreadable.
  bool symbols_missing() const { return loaded_ && access_ != KernelSymbols::Access::kReadable; }
  KernelSymbols::Access access() const { return access_; }
  int error() const { return error_; }

  // Gives the symbols back. The stacks stay known.
  void FreeSymbols();

 private:
  struct Recent {
    uint64_t hash;  // of 64 bits: that two stacks share it is less likely than a broken memory
    uint64_t id;
  };
  static constexpr size_t kRecentStacks = 2048;

  uint32_t Name(std::span<const uint64_t> addresses);

  const char* symbols_path_ = "/proc/kallsyms";
  KernelSymbols symbols_;
  bool loaded_ = false;
  KernelSymbols::Access access_ = KernelSymbols::Access::kReadable;
  int error_ = 0;
  StackInterner named_;          // of string ids
  GrowableArray<uint32_t> ids_;  // of the trace, by the number that named_ gives
  Recent recent_[kRecentStacks] = {};
};

}  // namespace uvmtrace
