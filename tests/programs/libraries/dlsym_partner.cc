// Another library in LD_PRELOAD that interposes dlsym, as game overlays and other profilers do: it must go on seeing
// the host's look-ups.
#include <dlfcn.h>
#include <string.h>

extern "C" __attribute__((visibility("default"))) int partner_answer() { return 99; }

extern "C" __attribute__((visibility("default"))) void* dlsym(void* handle, const char* name) noexcept {
  using Function = void* (*)(void*, const char*);
  static const auto real = reinterpret_cast<Function>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
  if (strcmp(name, "beside") == 0) return reinterpret_cast<void*>(&partner_answer);
  return real(handle, name);
}
