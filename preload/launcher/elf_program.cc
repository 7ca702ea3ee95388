#include "preload/launcher/elf_program.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

namespace uvmtrace::launcher {
namespace {

// Of this program, and so of the library beside it.
#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#else
#error "tell the launcher which ELF machine this is"
#endif

bool IsExecutableFile(const std::string& file) {
  struct stat status {};
  return stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode) && access(file.c_str(), X_OK) == 0;
}

bool IsPrivileged(const std::string& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return false;
  const bool set_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid();
  const bool set_group = (status.st_mode & S_ISGID) != 0 && status.st_gid != getegid();
  const bool capabilities = geteuid() != 0 && getxattr(file.c_str(), "security.capability", nullptr, 0) > 0;
  return set_user || set_group || capabilities;
}

// The first word after "#!", empty if the file is no script. `#!/usr/bin/env name` gives the program of that name.
std::string Interpreter(std::istream& file) {
  std::string line;
  std::getline(file, line);
  if (!line.starts_with("#!")) return {};
  std::istringstream words(line.substr(2));
  std::string interpreter;
  std::string argument;
  words >> interpreter;
  if (std::string_view(interpreter).ends_with("/env") && words >> argument && argument[0] != '-') {
    return FindProgram(argument, getenv("PATH"));
  }
  return interpreter;
}

}  // namespace

std::string FindProgram(const std::string& name, const char* path_variable) {
  if (name.empty()) return {};
  if (name.find('/') != std::string::npos) return IsExecutableFile(name) ? name : std::string();
  std::istringstream folders(path_variable != nullptr ? path_variable : "/bin:/usr/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string file = (folder.empty() ? "." : folder) + "/" + name;
    if (IsExecutableFile(file)) return file;
  }
  return {};
}

PreloadEffect EffectOfPreload(const std::string& program) {
  std::string name = program;
  for (int level = 0; level < 4; ++level) {
    if (IsPrivileged(name)) return PreloadEffect::kPrivileged;
    std::ifstream file(name, std::ios::binary);
    Elf64_Ehdr header{};
    if (!file.read(reinterpret_cast<char*>(&header), sizeof(header)) ||
        std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
      file.clear();
      file.seekg(0);
      const std::string interpreter = Interpreter(file);
      if (interpreter.empty()) return PreloadEffect::kWorks;  // unreadable or odd: no reason to warn
      name = interpreter;
      continue;
    }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kMachine) return PreloadEffect::kOtherMachine;
    for (int i = 0; i < header.e_phnum; ++i) {
      Elf64_Phdr segment{};
      file.seekg(static_cast<std::streamoff>(header.e_phoff + static_cast<uint64_t>(i) * header.e_phentsize));
      if (!file.read(reinterpret_cast<char*>(&segment), sizeof(segment))) return PreloadEffect::kWorks;
      if (segment.p_type == PT_INTERP) return PreloadEffect::kWorks;
    }
    return PreloadEffect::kStatic;
  }
  return PreloadEffect::kWorks;
}

}  // namespace uvmtrace::launcher
