// Allocates a mebibyte and a kibibyte of device memory and says what came of it: by dlsym, by cuGetProcAddress, and,
// where it is linked with libcuda, by the symbol.
#include <dlfcn.h>
#include <stdio.h>

using Allocate = int (*)(unsigned long long*, unsigned long);
using GetProcAddress = int (*)(const char*, void**, int, unsigned long long, void*);

#ifdef LINKED
extern "C" int cuMemAlloc_v2(unsigned long long*, unsigned long);
#endif

static void Try(const char* how, Allocate allocate) {
  unsigned long long pointer = 0;
  const int big = allocate(&pointer, 1 << 20);
  const int small = allocate(&pointer, 1 << 10);
  printf("%s: %d %d\n", how, big, small);
}

int main() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto retain = reinterpret_cast<int (*)(void**, int)>(dlsym(driver, "cuDevicePrimaryCtxRetain"));
  const auto set = reinterpret_cast<int (*)(void*)>(dlsym(driver, "cuCtxSetCurrent"));
  const auto get = reinterpret_cast<GetProcAddress>(dlsym(driver, "cuGetProcAddress_v2"));
  void* context = nullptr;
  printf("%d %d\n", init(0), retain(&context, 0));
  if (set != nullptr) set(context);
  Try("dlsym", reinterpret_cast<Allocate>(dlsym(driver, "cuMemAlloc_v2")));
  void* pointer = nullptr;
  get("cuMemAlloc", &pointer, 12000, 0, nullptr);
  Try("cuGetProcAddress", reinterpret_cast<Allocate>(pointer));
#ifdef LINKED
  Try("symbol", &cuMemAlloc_v2);
#endif
  return 0;
}
