// Names for addresses in the kernel, from /proc/kallsyms.
//
// The list has some hundred thousand lines and no sizes: an address belongs to the greatest symbol that is not above
// it. That would give the last function of a module everything that follows it, so symbols of data and the end of the
// kernel's text stand in the table as ends, and no function reaches further than kLongestFunctionBytes. The table takes
// 16 bytes and the name for each function, about 4 MiB; it is made when the first address is to be named.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "record/memory.h"

namespace uvmtrace {

class KernelSymbols {
 public:
  enum class Access {
    kReadable,
    kHidden,      // the file is there and every address in it is zero: kernel.kptr_restrict
    kUnreadable,  // the file cannot be opened or read
    kNoMemory,
  };
  static constexpr uint64_t kLongestFunctionBytes = 64 * 1024;
  static constexpr size_t kMaxDescriptionBytes = 640;

  // Whether Load would find addresses, from the beginning of the file. On kUnreadable, `error` is the errno.
  static Access Peek(const char* path, int* error);

  // Reads the whole file. To be called once, or again after Free.
  Access Load(const char* path, int* error);

  // Load in parts, as text: any number of Add, in pieces that may end within a line, then Seal.
  void Add(std::string_view text);
  Access Seal();

  // "function", or "function [module]", in `buffer`; empty if the address belongs to no function. The names' suffixes
  // (.isra.0, .cold, .part.1) are the compiler's and stay.
  std::string_view Describe(uint64_t address, char (&buffer)[kMaxDescriptionBytes]) const;

  size_t size() const { return entries_.size(); }
  void Free();

 private:
  struct Entry {
    uint64_t address;
    uint32_t name;    // where in text_; ends with a NUL
    uint16_t module;  // where in modules_, from 1; 0: the kernel itself
    uint16_t rank;    // which of several symbols at an address gives the name: the lowest
  };
  static_assert(sizeof(Entry) == 16);
  struct Module {
    char name[64];
    uint32_t name_bytes;
  };
  enum Rank : uint16_t { kGlobal = 0, kLocal = 1, kEnd = 2 };
  static constexpr size_t kLongestLineBytes = 1024;

  void AddLine(std::string_view line);
  uint16_t ModuleNumber(std::string_view name);

  GrowableArray<Entry> entries_{size_t{64} << 20};
  GrowableArray<char> text_{size_t{64} << 20};
  GrowableArray<Module> modules_{size_t{1} << 20};
  char rest_[kLongestLineBytes] = {};  // a line whose end has not come yet
  size_t rest_bytes_ = 0;
  bool rest_too_long_ = false;
  bool any_address_ = false;
  bool no_memory_ = false;
};

}  // namespace uvmtrace
