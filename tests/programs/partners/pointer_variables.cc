// The driver's functions as pointer variables of the same names, as Blender's cuew and NVIDIA's cuda_drvapi_dynlink
// have them.
#include <dlfcn.h>
#include <stdio.h>

extern "C" {

using Init = int(unsigned);
using Allocate = int(unsigned long long*, unsigned long);
__attribute__((visibility("default"))) Init* cuInit = nullptr;
__attribute__((visibility("default"))) Allocate* cuMemAlloc_v2 = nullptr;

__attribute__((visibility("default"))) int work() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return -1;
  cuInit = reinterpret_cast<Init*>(dlsym(driver, "cuInit"));
  cuMemAlloc_v2 = reinterpret_cast<Allocate*>(dlsym(driver, "cuMemAlloc_v2"));
  unsigned long long pointer = 0;
  return cuInit(0) * 10 + cuMemAlloc_v2(&pointer, 321);
}
}
