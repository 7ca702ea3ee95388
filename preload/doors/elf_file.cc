// See elf_file.h. Compiled without calls that the compiler would add: see CMakeLists.txt.
#include "preload/doors/elf_file.h"

namespace uvmtrace {
namespace {

uint32_t GnuHash(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

uint32_t SysvHash(const char* name) {
  uint32_t hash = 0;
  for (; *name != '\0'; ++name) {
    hash = (hash << 4) + static_cast<unsigned char>(*name);
    const uint32_t high = hash & 0xf0000000u;
    hash = (hash ^ high >> 24) & ~high;
  }
  return hash;
}

bool Defines(const ElfFile& file, uint32_t index, const char* name) {
  constexpr uint16_t kHiddenVersion = 0x8000;  // an old one, for old programs
  const ElfW(Sym)& symbol = file.symbols[index];
  const bool is_default = file.versions == nullptr || (file.versions[index] & kHiddenVersion) == 0;
  return is_default && symbol.st_shndx != SHN_UNDEF && symbol.st_value != 0 &&
         EqualNames(file.strings + symbol.st_name, name);
}

void* AddressOf(const ElfFile& file, uint32_t index) {
  return reinterpret_cast<void*>(file.base + file.symbols[index].st_value);
}

// DT_GNU_HASH: bucket count, first symbol, bloom words, bloom shift; bloom filter; buckets; chains.
void* FindByGnuHash(const ElfFile& file, const char* name) {
  const uint32_t bucket_count = file.gnu_hash[0];
  const uint32_t first_symbol = file.gnu_hash[1];
  const uint32_t bloom_words = file.gnu_hash[2];
  const uint64_t* const bloom = reinterpret_cast<const uint64_t*>(file.gnu_hash + 4);
  const uint32_t* const buckets = reinterpret_cast<const uint32_t*>(bloom + bloom_words);
  const uint32_t* const chains = buckets + bucket_count;
  if (bucket_count == 0 || bloom_words == 0) return nullptr;
  const uint32_t wanted = GnuHash(name);
  const uint64_t mask = uint64_t{1} << (wanted & 63) | uint64_t{1} << (wanted >> file.gnu_hash[3] & 63);
  if ((bloom[wanted / 64 & (bloom_words - 1)] & mask) != mask) return nullptr;
  uint32_t index = buckets[wanted % bucket_count];
  if (index < first_symbol) return nullptr;
  for (;; ++index) {
    const uint32_t hash = chains[index - first_symbol];
    if ((hash | 1) == (wanted | 1) && Defines(file, index, name)) return AddressOf(file, index);
    if ((hash & 1) != 0) return nullptr;
  }
}

// DT_HASH: bucket count, chain count; buckets; chains.
void* FindBySysvHash(const ElfFile& file, const char* name) {
  const uint32_t bucket_count = file.sysv_hash[0];
  if (bucket_count == 0) return nullptr;
  const uint32_t* const buckets = file.sysv_hash + 2;
  const uint32_t* const chains = buckets + bucket_count;
  for (uint32_t index = buckets[SysvHash(name) % bucket_count]; index != STN_UNDEF; index = chains[index]) {
    if (Defines(file, index, name)) return AddressOf(file, index);
  }
  return nullptr;
}

}  // namespace

bool EqualNames(const char* a, const char* b) {
  while (*a == *b && *a != '\0') {
    ++a;
    ++b;
  }
  return *a == *b;
}

const char* BaseName(const char* path) {
  const char* name = path;
  for (; *path != '\0'; ++path) {
    if (*path == '/') name = path + 1;
  }
  return name;
}

ElfFile ReadElfFile(uintptr_t base, const ElfW(Dyn) * dynamic) {
  ElfFile file;
  file.base = base;
  file.dynamic = dynamic;
  size_t data_bytes = 0;
  size_t call_bytes = 0;
  size_t relative_count = 0;
  const ElfW(Dyn)* soname = nullptr;
  bool has_rela_calls = true;
  for (const ElfW(Dyn)* entry = dynamic; entry->d_tag != DT_NULL; ++entry) {
    const uintptr_t address = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB:
        file.symbols = reinterpret_cast<const ElfW(Sym)*>(address);
        break;
      case DT_STRTAB:
        file.strings = reinterpret_cast<const char*>(address);
        break;
      case DT_SONAME:
        soname = entry;
        break;
      case DT_GNU_HASH:
        file.gnu_hash = reinterpret_cast<const uint32_t*>(address);
        break;
      case DT_HASH:
        file.sysv_hash = reinterpret_cast<const uint32_t*>(address);
        break;
      case DT_VERSYM:
        file.versions = reinterpret_cast<const uint16_t*>(address);
        break;
      case DT_RELA:
        file.data_relocations = reinterpret_cast<const ElfW(Rela)*>(address);
        break;
      case DT_RELASZ:
        data_bytes = entry->d_un.d_val;
        break;
      case DT_RELACOUNT:
        relative_count = entry->d_un.d_val;
        break;
      case DT_JMPREL:
        file.call_relocations = reinterpret_cast<const ElfW(Rela)*>(address);
        break;
      case DT_PLTRELSZ:
        call_bytes = entry->d_un.d_val;
        break;
      case DT_PLTREL:
        has_rela_calls = entry->d_un.d_val == DT_RELA;
        break;
      default:
        break;
    }
  }
  if (soname != nullptr && file.strings != nullptr) file.soname = file.strings + soname->d_un.d_val;
  // The linker puts the relative ones first.
  const size_t data_count = data_bytes / sizeof(ElfW(Rela));
  if (file.data_relocations != nullptr && data_count > relative_count) {
    file.data_relocations += relative_count;
    file.data_relocation_count = data_count - relative_count;
  }
  if (file.call_relocations != nullptr && has_rela_calls) file.call_relocation_count = call_bytes / sizeof(ElfW(Rela));
  return file;
}

void* FindDefinition(const ElfFile& file, const char* name) {
  if (!file.readable()) return nullptr;
  if (file.gnu_hash != nullptr) return FindByGnuHash(file, name);
  return file.sysv_hash != nullptr ? FindBySysvHash(file, name) : nullptr;
}

}  // namespace uvmtrace
