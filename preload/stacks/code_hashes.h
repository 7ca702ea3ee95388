// Names of Python functions as numbers, so that a stack of code ids can be compared with one that a file names. Filled
// only where a file of changes is to be applied.
#pragma once

#include <cstdint>
#include <string_view>

namespace uvmtrace {

// FNV-1a.
constexpr uint32_t HashOfText(std::string_view text, uint32_t hash = 2166136261u) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

// `file` without its folders.
constexpr uint32_t HashOfCode(std::string_view file, std::string_view function) {
  return HashOfText(file, HashOfText(" ", HashOfText(function)));
}

// After DefineCode: `file` may have folders.
void RememberCode(uint32_t id, std::string_view file, std::string_view function);
// 0: not known.
uint32_t HashOfCodeId(uint32_t id);

}  // namespace uvmtrace
