// Finds its neighbour by its own RUNPATH: $ORIGIN/beside. A dlopen or dlsym wrapper that becomes the caller would lose
// it.
#include <dlfcn.h>

extern "C" __attribute__((visibility("default"))) int call_beside() {
  void* const beside = dlopen("libbeside.so", RTLD_NOW | RTLD_LOCAL);
  if (beside == nullptr) return -1;
  using Function = int (*)();
  return reinterpret_cast<Function>(dlsym(beside, "beside"))();
}
