// Runs when the first of all look-ups is made, which may be that of a sanitizer's or a heap profiler's runtime that is
// about to find the functions which it interposes: nothing that somebody may interpose is called before, not even
// dl_iterate_phdr or strcmp, and CMake keeps the compiler from calling them and from instrumenting this file.
#include "preload/doors/libc_symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>

#include <atomic>

// Placed by the linker at the two ends of this library.
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));
extern "C" const char _end __attribute__((visibility("hidden")));

namespace uvmtrace {
namespace {

bool Equal(const char* a, const char* b) {
  while (*a == *b && *a != '\0') {
    ++a;
    ++b;
  }
  return *a == *b;
}

const char* FileName(const char* path) {
  const char* name = path;
  for (; *path != '\0'; ++path) {
    if (*path == '/') name = path + 1;
  }
  return name;
}

uint32_t GnuHash(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

// The tables of one loaded file. d_ptr is an address in memory for every file but the vDSO.
struct Tables {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const uint32_t* hash = nullptr;
  const uint16_t* versions = nullptr;
};

// DT_GNU_HASH: bucket count, first symbol, bloom words, bloom shift; bloom filter; buckets; chains.
void* Find(const Tables& tables, uintptr_t base, const char* name) {
  const uint32_t bucket_count = tables.hash[0];
  const uint32_t first_symbol = tables.hash[1];
  const uint32_t* const buckets =
      reinterpret_cast<const uint32_t*>(reinterpret_cast<const uint64_t*>(tables.hash + 4) + tables.hash[2]);
  const uint32_t* const chains = buckets + bucket_count;
  if (bucket_count == 0) return nullptr;
  const uint32_t wanted = GnuHash(name);
  uint32_t index = buckets[wanted % bucket_count];
  if (index < first_symbol) return nullptr;
  for (;; ++index) {
    const uint32_t hash = chains[index - first_symbol];
    const ElfW(Sym)& symbol = tables.symbols[index];
    constexpr uint16_t kHiddenVersion = 0x8000;  // an old one, for old programs
    const bool is_default = tables.versions == nullptr || (tables.versions[index] & kHiddenVersion) == 0;
    if ((hash | 1) == (wanted | 1) && is_default && symbol.st_shndx != SHN_UNDEF &&
        Equal(tables.strings + symbol.st_name, name)) {
      return reinterpret_cast<void*>(base + symbol.st_value);
    }
    if ((hash & 1) != 0) return nullptr;
  }
}

Tables TablesOf(const link_map& file) {
  Tables tables;
  for (const ElfW(Dyn)* entry = file.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const uintptr_t address = entry->d_un.d_ptr;
    if (entry->d_tag == DT_SYMTAB) tables.symbols = reinterpret_cast<const ElfW(Sym)*>(address);
    if (entry->d_tag == DT_STRTAB) tables.strings = reinterpret_cast<const char*>(address);
    if (entry->d_tag == DT_GNU_HASH) tables.hash = reinterpret_cast<const uint32_t*>(address);
    if (entry->d_tag == DT_VERSYM) tables.versions = reinterpret_cast<const uint16_t*>(address);
  }
  return tables;
}

constinit std::atomic<DlsymFunction> libc_dlsym{nullptr};
constinit std::atomic<DlvsymFunction> libc_dlvsym{nullptr};

}  // namespace

// The loader's list of files, as a debugger reads it. No lock is needed: the C library, and what stands before it in
// the list, were there when the process started and stay.
void* LibcFunction(const char* name) {
  for (const link_map* file = _r_debug.r_map; file != nullptr; file = file->l_next) {
    if (file->l_name == nullptr) continue;
    const char* const file_name = FileName(file->l_name);
    if (!Equal(file_name, "libc.so.6") && !Equal(file_name, "libdl.so.2")) continue;
    const Tables tables = TablesOf(*file);
    if (tables.symbols == nullptr || tables.strings == nullptr || tables.hash == nullptr) continue;
    void* const found = Find(tables, file->l_addr, name);
    if (found != nullptr) return found;
  }
  return nullptr;
}

DlsymFunction LibcDlsym() {
  DlsymFunction found = libc_dlsym.load(std::memory_order_acquire);
  if (found != nullptr) return found;
  found = reinterpret_cast<DlsymFunction>(LibcFunction("dlsym"));
  libc_dlsym.store(found, std::memory_order_release);
  return found;
}

DlvsymFunction LibcDlvsym() {
  DlvsymFunction found = libc_dlvsym.load(std::memory_order_acquire);
  if (found != nullptr) return found;
  found = reinterpret_cast<DlvsymFunction>(LibcFunction("dlvsym"));
  libc_dlvsym.store(found, std::memory_order_release);
  return found;
}

bool IsOwnAddress(const void* address) { return address >= &__ehdr_start && address < &_end; }

namespace {

// Where a function of the loader goes on to. Another library behind us in the preload list may interpose it as well.
void* FindReal(const char* name) {
  const int host_errno = errno;
  void* const next = LibcDlsym()(RTLD_NEXT, name);
  void* const found = next != nullptr && !IsOwnAddress(next) ? next : LibcFunction(name);
  errno = host_errno;
  return found;
}

}  // namespace
}  // namespace uvmtrace

// For dlsym.S.
#define UVMTRACE_FOR_ASSEMBLER extern "C" __attribute__((visibility("hidden"))) void*

UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlsym() { return uvmtrace::FindReal("dlsym"); }
UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlvsym() { return uvmtrace::FindReal("dlvsym"); }
UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlopen() { return uvmtrace::FindReal("dlopen"); }
UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlmopen() { return uvmtrace::FindReal("dlmopen"); }
