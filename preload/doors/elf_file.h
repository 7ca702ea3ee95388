// A loaded ELF file, read in memory as the loader reads it.
//
// No function of the C library is called here: see libc_symbols.cc, which needs that.
#pragma once

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

struct ElfFile {
  uintptr_t base = 0;
  const ElfW(Dyn) * dynamic = nullptr;
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const char* soname = nullptr;  // null: the file names none
  const uint32_t* gnu_hash = nullptr;
  const uint32_t* sysv_hash = nullptr;
  const uint16_t* versions = nullptr;
  // The relocations that name a symbol: of data, and of calls.
  const ElfW(Rela) * data_relocations = nullptr;
  size_t data_relocation_count = 0;
  const ElfW(Rela) * call_relocations = nullptr;
  size_t call_relocation_count = 0;

  bool readable() const { return symbols != nullptr && strings != nullptr; }
};

// `dynamic` is the file's PT_DYNAMIC in memory. Not for the vDSO, whose addresses the loader leaves as they are.
ElfFile ReadElfFile(uintptr_t base, const ElfW(Dyn) * dynamic);

// The address of the default version of a symbol that the file defines; null if it defines none.
void* FindDefinition(const ElfFile& file, const char* name);

bool EqualNames(const char* a, const char* b);
// The part of a path behind the last slash.
const char* BaseName(const char* path);

}  // namespace uvmtrace
