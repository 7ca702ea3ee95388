// A library that chooses among its functions while the loader relocates, by what the environment and the loader say. A
// preloaded library is relocated later than this one, so what it interposes runs before its own relocation.
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/ioctl.h>

namespace {
int One() { return 1; }
int Two() { return 2; }
using Chosen = int (*)();
}  // namespace

// By name, so that each tells alone.
extern "C" {
Chosen ResolveByGetenv() { return getenv("UVMTRACE_OUT") != nullptr ? Two : One; }
Chosen ResolveByDlsym() { return dlsym(RTLD_DEFAULT, "malloc") != nullptr ? Two : One; }
Chosen ResolveByCudaName() { return dlsym(RTLD_DEFAULT, "cuInit") != nullptr ? Two : One; }
Chosen ResolveByDlvsym() { return dlvsym(RTLD_DEFAULT, "dlsym", "NO_SUCH_VERSION") != nullptr ? Two : One; }
Chosen ResolveByIoctl() {
  int bytes = 0;
  return ioctl(-1, FIONREAD, &bytes) == 0 ? One : Two;
}
Chosen ResolveByDlopen() { return dlopen("libm.so.6", RTLD_NOW) != nullptr ? Two : One; }
}
#define CHOSEN(name, resolver) extern "C" __attribute__((visibility("default"), ifunc(#resolver))) int name();
CHOSEN(chosen_by_getenv, ResolveByGetenv)
CHOSEN(chosen_by_dlsym, ResolveByDlsym)
CHOSEN(chosen_by_cuda_name, ResolveByCudaName)
CHOSEN(chosen_by_dlvsym, ResolveByDlvsym)
CHOSEN(chosen_by_dlopen, ResolveByDlopen)
CHOSEN(chosen_by_ioctl, ResolveByIoctl)
