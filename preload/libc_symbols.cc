#include "preload/libc_symbols.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#include <atomic>
#include <string_view>

namespace uvmtrace {
namespace {

struct Search {
  const char* name;
  void* found;
};

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
        strcmp(tables.strings + symbol.st_name, name) == 0) {
      return reinterpret_cast<void*>(base + symbol.st_value);
    }
    if ((hash & 1) != 0) return nullptr;
  }
}

int SearchFile(dl_phdr_info* info, size_t, void* argument) {
  const char* const slash = info->dlpi_name != nullptr ? strrchr(info->dlpi_name, '/') : nullptr;
  const std::string_view file = slash != nullptr ? slash + 1 : "";
  if (file != "libc.so.6" && file != "libdl.so.2") return 0;
  auto* const search = static_cast<Search*>(argument);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    Tables tables;
    for (auto* entry = reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
         entry->d_tag != DT_NULL; ++entry) {
      const uintptr_t address = entry->d_un.d_ptr;
      if (entry->d_tag == DT_SYMTAB) tables.symbols = reinterpret_cast<const ElfW(Sym)*>(address);
      if (entry->d_tag == DT_STRTAB) tables.strings = reinterpret_cast<const char*>(address);
      if (entry->d_tag == DT_GNU_HASH) tables.hash = reinterpret_cast<const uint32_t*>(address);
      if (entry->d_tag == DT_VERSYM) tables.versions = reinterpret_cast<const uint16_t*>(address);
    }
    if (tables.symbols == nullptr || tables.strings == nullptr || tables.hash == nullptr) continue;
    search->found = Find(tables, info->dlpi_addr, search->name);
  }
  return search->found != nullptr ? 1 : 0;
}

constinit std::atomic<DlsymFunction> libc_dlsym{nullptr};
constinit std::atomic<DlvsymFunction> libc_dlvsym{nullptr};

}  // namespace

void* LibcFunction(const char* name) {
  Search search{name, nullptr};
  dl_iterate_phdr(&SearchFile, &search);
  return search.found;
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

}  // namespace uvmtrace
