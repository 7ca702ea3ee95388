// See glibc_floor.h.
#include "preload/launcher/glibc_floor.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

namespace uvmtrace::launcher {
namespace {

// A file's bytes, read at places that the file itself names: nothing outside of it is read.
class ElfBytes {
 public:
  explicit ElfBytes(std::string bytes) : bytes_(std::move(bytes)) {}

  template <typename T>
  bool Read(uint64_t offset, T* out) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return false;
    std::memcpy(out, bytes_.data() + offset, sizeof(T));
    return true;
  }
  std::string_view Text(uint64_t offset) const {
    if (offset >= bytes_.size()) return {};
    return std::string_view(bytes_).substr(offset).substr(0, strnlen(bytes_.data() + offset, bytes_.size() - offset));
  }

 private:
  std::string bytes_;
};

// "2.34" as 2 and 34.
std::pair<int, int> Parse(std::string_view version) {
  const size_t dot = version.find('.');
  if (dot == std::string_view::npos) return {0, 0};
  return {std::atoi(std::string(version).c_str()), std::atoi(std::string(version.substr(dot + 1)).c_str())};
}

}  // namespace

std::string GlibcFloor(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  const ElfBytes elf(std::string(std::istreambuf_iterator<char>(stream), {}));
  Elf64_Ehdr header{};
  if (!elf.Read(0, &header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
  std::pair<int, int> highest{0, 0};
  std::string floor;
  for (int i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr needs{};
    Elf64_Shdr strings{};
    if (!elf.Read(header.e_shoff + uint64_t{header.e_shentsize} * static_cast<unsigned>(i), &needs)) return {};
    if (needs.sh_type != SHT_GNU_verneed) continue;
    if (!elf.Read(header.e_shoff + uint64_t{header.e_shentsize} * needs.sh_link, &strings)) return {};
    Elf64_Verneed library{};
    for (uint64_t at = needs.sh_offset; elf.Read(at, &library); at += library.vn_next) {
      Elf64_Vernaux version{};
      uint64_t place = at + library.vn_aux;
      for (int j = 0; j < library.vn_cnt && elf.Read(place, &version); ++j, place += version.vna_next) {
        std::string_view name = elf.Text(strings.sh_offset + version.vna_name);
        if (!name.starts_with("GLIBC_2")) continue;
        name.remove_prefix(std::strlen("GLIBC_"));
        if (Parse(name) <= highest) continue;
        highest = Parse(name);
        floor = name;
      }
      if (library.vn_next == 0) break;
    }
  }
  return floor;
}

}  // namespace uvmtrace::launcher
