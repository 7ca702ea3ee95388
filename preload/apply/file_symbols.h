// Where functions lie in an ELF file, by name: in its full symbol table, or, if it is stripped, in the dynamic one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace uvmtrace {

// Addresses as the file has them, without the bias at which it is loaded. Functions of one name may be several: each
// compilation unit has its own static ones.
struct SymbolRanges {
  static constexpr int kMost = 4;
  uint64_t begin[kMost];
  uint64_t end[kMost];
  int count = 0;
};

struct WantedSymbol {
  std::string_view name;
  SymbolRanges* ranges;
};

// Looks all of them up in one pass. False: the file cannot be read, or has no symbols.
bool FindSymbols(const char* path, std::span<const WantedSymbol> wanted);

}  // namespace uvmtrace
