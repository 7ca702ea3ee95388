// Functions of the driver's names that load libcuda at their first call, as implib.so and TensorFlow's stub make them.
#include <dlfcn.h>

extern "C" {

static void* Driver() {
  static void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return driver;
}

__attribute__((visibility("default"))) int cuInit(unsigned flags) {
  const auto real = reinterpret_cast<int (*)(unsigned)>(dlsym(Driver(), "cuInit"));
  return real != nullptr ? 500 + real(flags) : 100;
}
__attribute__((visibility("default"))) int cuMemAlloc_v2(unsigned long long* pointer, unsigned long bytes) {
  const auto real = reinterpret_cast<int (*)(unsigned long long*, unsigned long)>(dlsym(Driver(), "cuMemAlloc_v2"));
  return real != nullptr ? real(pointer, bytes) : 100;
}
// Not inlined: by way of the symbol, whoever defines it first.
__attribute__((visibility("default"))) int work() {
  unsigned long long pointer = 0;
  return cuInit(0) * 10 + cuMemAlloc_v2(&pointer, 321);
}
}
