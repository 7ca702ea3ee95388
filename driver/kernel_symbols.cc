// See kernel_symbols.h.
#include "driver/kernel_symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

namespace uvmtrace {
namespace {

// Reads up to the next `end`, which it takes away as well.
std::string_view Take(std::string_view* text, char end) {
  const size_t at = std::min(text->find(end), text->size());
  const std::string_view taken = text->substr(0, at);
  text->remove_prefix(std::min(at + 1, text->size()));
  return taken;
}

bool ParseHex(std::string_view digits, uint64_t* value) {
  if (digits.empty() || digits.size() > 16) return false;
  uint64_t parsed = 0;
  for (const char c : digits) {
    uint64_t digit;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint64_t>(c - 'A') + 10;
    } else {
      return false;
    }
    parsed = parsed << 4 | digit;
  }
  *value = parsed;
  return true;
}

// Calls visit(text) for each piece of the file, until it returns false. Returns 0 or the errno.
template <typename Visit>
int ReadPieces(const char* path, char* buffer, size_t size, Visit visit) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = 0;
  while (true) {
    const ssize_t got = read(fd, buffer, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error = errno;
    if (got <= 0 || !visit(std::string_view(buffer, static_cast<size_t>(got)))) break;
  }
  close(fd);
  return error;
}

}  // namespace

KernelSymbols::Access KernelSymbols::Peek(const char* path, int* error) {
  // Some kernels begin with offsets of per-CPU data, of which the first is 0 for everybody; the second is not.
  char buffer[4096];
  bool any_address = false;
  *error = ReadPieces(path, buffer, sizeof buffer, [&](std::string_view text) {
    while (!text.empty() && !any_address) {
      std::string_view line = Take(&text, '\n');
      uint64_t address = 0;
      any_address = ParseHex(Take(&line, ' '), &address) && address != 0;
    }
    return false;
  });
  if (*error != 0) return Access::kUnreadable;
  return any_address ? Access::kReadable : Access::kHidden;
}

KernelSymbols::Access KernelSymbols::Load(const char* path, int* error) {
  constexpr size_t kPieceBytes = 64 * 1024;
  *error = 0;
  char* const buffer = static_cast<char*>(MapPages(kPieceBytes));
  if (buffer == nullptr) return Access::kNoMemory;
  *error = ReadPieces(path, buffer, kPieceBytes, [&](std::string_view text) {
    Add(text);
    return true;
  });
  UnmapPages(buffer, kPieceBytes);
  if (*error == 0) return Seal();
  Free();
  return Access::kUnreadable;
}

void KernelSymbols::Add(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view part = text.substr(0, end);
    if (end != std::string_view::npos && rest_bytes_ == 0 && !rest_too_long_) {
      AddLine(part);
    } else {
      // A line that is cut is no line: its name would be another one.
      rest_too_long_ = rest_too_long_ || part.size() > sizeof rest_ - rest_bytes_;
      if (!rest_too_long_) {
        memcpy(rest_ + rest_bytes_, part.data(), part.size());
        rest_bytes_ += part.size();
      }
      if (end == std::string_view::npos) return;
      if (!rest_too_long_) AddLine({rest_, rest_bytes_});
      rest_bytes_ = 0;
      rest_too_long_ = false;
    }
    text.remove_prefix(end + 1);
  }
}

// "<address> <type> <name>[\t[<module>]]"
void KernelSymbols::AddLine(std::string_view line) {
  uint64_t address;
  if (!ParseHex(Take(&line, ' '), &address) || address == 0) return;
  const std::string_view type = Take(&line, ' ');
  if (type.size() != 1) return;
  any_address_ = true;
  // Absolute: offsets of per-CPU data, no addresses.
  if (type[0] == 'a' || type[0] == 'A') return;
  const std::string_view name = Take(&line, '\t');
  if (name.empty()) return;
  // Padding before a function, which never runs: half of the list on kernels that have it.
  if (name.starts_with("__pfx_")) return;

  Entry entry{};
  entry.address = address;
  const bool global = type[0] == 'T' || type[0] == 'W' || type[0] == 'w';
  if ((!global && type[0] != 't') || name == "_etext" || name == "_einittext") {
    entry.rank = kEnd;
    no_memory_ = no_memory_ || !entries_.Append(entry);
    return;
  }
  entry.rank = global ? kGlobal : kLocal;
  entry.name = static_cast<uint32_t>(text_.size());
  if (line.size() > 2 && line.front() == '[' && line.back() == ']') {
    entry.module = ModuleNumber(line.substr(1, line.size() - 2));
  }
  no_memory_ = no_memory_ || !text_.Append(name.data(), name.size()) || !text_.Append('\0') || !entries_.Append(entry);
}

uint16_t KernelSymbols::ModuleNumber(std::string_view name) {
  // A module's lines follow each other.
  for (size_t i = modules_.size(); i > 0; --i) {
    if (std::string_view(modules_[i - 1].name, modules_[i - 1].name_bytes) == name) return static_cast<uint16_t>(i);
  }
  if (modules_.size() == UINT16_MAX) return 0;
  Module module{};
  module.name_bytes = static_cast<uint32_t>(std::min(name.size(), sizeof module.name));
  memcpy(module.name, name.data(), module.name_bytes);
  if (!modules_.Append(module)) {
    no_memory_ = true;
    return 0;
  }
  return static_cast<uint16_t>(modules_.size());
}

KernelSymbols::Access KernelSymbols::Seal() {
  if (rest_bytes_ != 0 && !rest_too_long_) AddLine({rest_, rest_bytes_});
  rest_bytes_ = 0;
  rest_too_long_ = false;
  const Access access = no_memory_ ? Access::kNoMemory : any_address_ ? Access::kReadable : Access::kHidden;
  if (access != Access::kReadable) {
    Free();
    return access;
  }
  std::sort(entries_.data(), entries_.data() + entries_.size(), [](const Entry& a, const Entry& b) {
    if (a.address != b.address) return a.address < b.address;
    return a.rank != b.rank ? a.rank < b.rank : a.name < b.name;
  });
  size_t kept = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (kept != 0) {
      const Entry& last = entries_[kept - 1];
      if (last.address == entries_[i].address || (last.rank == kEnd && entries_[i].rank == kEnd)) continue;
    }
    entries_[kept++] = entries_[i];
  }
  entries_.Truncate(kept);
  return access;
}

std::string_view KernelSymbols::Describe(uint64_t address, char (&buffer)[kMaxDescriptionBytes]) const {
  const Entry* const begin = entries_.data();
  const Entry* const above = std::upper_bound(begin, begin + entries_.size(), address,
                                              [](uint64_t value, const Entry& entry) { return value < entry.address; });
  if (above == begin) return {};
  const Entry& entry = above[-1];
  if (entry.rank == kEnd || address - entry.address >= kLongestFunctionBytes) return {};
  size_t used = 0;
  auto add = [&](std::string_view part) {
    const size_t bytes = std::min(part.size(), sizeof buffer - used);
    memcpy(buffer + used, part.data(), bytes);
    used += bytes;
  };
  const std::string_view name(text_.data() + entry.name);
  add(name.substr(0, kMaxDescriptionBytes - sizeof(Module)));
  if (entry.module != 0) {
    const Module& module = modules_[entry.module - 1];
    add(" [");
    add({module.name, module.name_bytes});
    add("]");
  }
  return {buffer, used};
}

void KernelSymbols::Free() {
  entries_.Free();
  text_.Free();
  modules_.Free();
  rest_bytes_ = 0;
  rest_too_long_ = any_address_ = no_memory_ = false;
}

}  // namespace uvmtrace
