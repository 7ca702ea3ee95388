// What LLVM's OpenMP runtime and its tools do to each other: a weak definition that asks for the next one of its own
// name, by dlsym and by dlvsym. Whoever becomes the caller of either sends it back to itself.
#include <dlfcn.h>

using Function = int (*)();

extern "C" __attribute__((visibility("default"), weak)) int ompt_like_tool() {
  static int depth = 0;
  if (++depth > 3) return -1;
  const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "ompt_like_tool"));
  return next != nullptr ? next() : 43;
}

extern "C" __attribute__((visibility("default"), weak)) int versioned_tool() {
  static int depth = 0;
  if (++depth > 3) return -1;
  const auto next = reinterpret_cast<Function>(dlvsym(RTLD_NEXT, "versioned_tool", "TOOL_1"));
  return next != nullptr ? next() : 44;
}

extern "C" __attribute__((visibility("default"))) int ask_tools() { return ompt_like_tool() * 100 + versioned_tool(); }
