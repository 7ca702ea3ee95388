// UCX's libucm looks the driver's functions up to write a jump into their bodies: it must get the driver's own. It says
// in which file they lie.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void Say(const char* how, void* function) {
  Dl_info info;
  const char* file = function != nullptr && dladdr(function, &info) != 0 ? strrchr(info.dli_fname, '/') : nullptr;
  printf("%s: %s\n", how, file != nullptr ? file + 1 : "none");
}

extern "C" __attribute__((visibility("default"))) int work() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  Say("handle", dlsym(driver, "cuMemAlloc_v2"));
  Say("RTLD_NEXT", dlsym(RTLD_NEXT, "cuMemAlloc_v2"));
  Say("RTLD_DEFAULT", dlsym(RTLD_DEFAULT, "cuMemFree_v2"));
  return 0;
}
