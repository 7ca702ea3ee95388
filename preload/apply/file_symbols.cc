#include "preload/apply/file_symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace uvmtrace {
namespace {

// A file in memory. Every read of it is checked: it may have been replaced since it was loaded.
class FileView {
 public:
  explicit FileView(const char* path) {
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return;
    struct stat status;
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
      bytes_ = static_cast<size_t>(status.st_size);
      data_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    }
    close(descriptor);
  }
  ~FileView() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  FileView(const FileView&) = delete;
  FileView& operator=(const FileView&) = delete;

  // `count` of them at an offset; null if they are not all in the file.
  template <typename T>
  const T* At(uint64_t offset, uint64_t count = 1) const {
    if (data_ == MAP_FAILED || offset > bytes_ || count > (bytes_ - offset) / sizeof(T) || offset % alignof(T) != 0) {
      return nullptr;
    }
    return reinterpret_cast<const T*>(static_cast<const char*>(data_) + offset);
  }

 private:
  void* data_ = MAP_FAILED;
  size_t bytes_ = 0;
};

const ElfW(Shdr) * FindTable(const ElfW(Shdr) * sections, size_t count, uint32_t type) {
  for (size_t i = 0; i < count; ++i) {
    if (sections[i].sh_type == type && sections[i].sh_link < count) return &sections[i];
  }
  return nullptr;
}

void Add(const ElfW(Sym) & symbol, SymbolRanges* ranges) {
  for (int i = 0; i < ranges->count; ++i) {
    if (ranges->begin[i] == symbol.st_value) return;
  }
  if (ranges->count == SymbolRanges::kMost) return;
  ranges->begin[ranges->count] = symbol.st_value;
  ranges->end[ranges->count++] = symbol.st_value + symbol.st_size;
}

}  // namespace

bool FindSymbols(const char* path, std::span<const WantedSymbol> wanted) {
  const FileView file(path);
  const auto* const header = file.At<ElfW(Ehdr)>(0);
  if (header == nullptr || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_shentsize != sizeof(ElfW(Shdr))) {
    return false;
  }
  const auto* const sections = file.At<ElfW(Shdr)>(header->e_shoff, header->e_shnum);
  if (sections == nullptr) return false;
  const ElfW(Shdr)* table = FindTable(sections, header->e_shnum, SHT_SYMTAB);
  if (table == nullptr) table = FindTable(sections, header->e_shnum, SHT_DYNSYM);
  if (table == nullptr) return false;
  const ElfW(Shdr)& text = sections[table->sh_link];
  const uint64_t count = table->sh_size / sizeof(ElfW(Sym));
  const auto* const symbols = file.At<ElfW(Sym)>(table->sh_offset, count);
  const char* const strings = file.At<char>(text.sh_offset, text.sh_size);
  if (symbols == nullptr || strings == nullptr) return false;
  for (uint64_t i = 0; i < count; ++i) {
    const ElfW(Sym)& symbol = symbols[i];
    const unsigned type = symbol.st_info & 0xf;
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_UNDEF || symbol.st_name >= text.sh_size) {
      continue;
    }
    const char* const name = strings + symbol.st_name;
    const size_t room = text.sh_size - symbol.st_name;
    for (const WantedSymbol& one : wanted) {
      const size_t bytes = one.name.size();
      // The first letters tell most apart; the string table ends with a zero, or this is none.
      if (name[0] != one.name[0] || bytes >= room || memcmp(name, one.name.data(), bytes) != 0 || name[bytes] != '\0') {
        continue;
      }
      Add(symbol, one.ranges);
    }
  }
  return true;
}

}  // namespace uvmtrace
