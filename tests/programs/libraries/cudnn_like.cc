// A library whose names begin with "cu" without being CUDA's, and that looks itself up as cuDNN's loader does.
#include <dlfcn.h>

extern "C" __attribute__((visibility("default"))) int cudnnCreateReal() { return 8; }

extern "C" __attribute__((visibility("default"))) int cudnnCreate() {
  static int depth = 0;
  if (++depth > 3) return -1;
  void* const self = dlopen(TEST_LIBRARY_DIR "/libcudnn_like.so", RTLD_NOW | RTLD_NOLOAD);
  using Function = int (*)();
  const auto real = reinterpret_cast<Function>(dlsym(self, "cudnnCreateReal"));
  const auto same = reinterpret_cast<Function>(dlsym(self, "cudnnCreate"));
  return same == &cudnnCreate ? real() : -2;
}
