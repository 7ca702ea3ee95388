#include "preload/stacks/code_hashes.h"

#include <atomic>

namespace uvmtrace {
namespace {

constexpr uint32_t kCodes = 1 << 16;  // ids count from 1; a program with more functions in its stacks is not known
constinit std::atomic<uint32_t> hashes[kCodes]{};

}  // namespace

void RememberCode(uint32_t id, std::string_view file, std::string_view function) {
  const size_t slash = file.rfind('/');
  if (slash != std::string_view::npos) file.remove_prefix(slash + 1);
  if (id < kCodes) hashes[id].store(HashOfCode(file, function), std::memory_order_relaxed);
}

uint32_t HashOfCodeId(uint32_t id) { return id < kCodes ? hashes[id].load(std::memory_order_relaxed) : 0; }

}  // namespace uvmtrace
