// See dynamic_library.h.
#include "cupti/dynamic_library.h"

#include <dlfcn.h>

#include <atomic>

namespace uvmtrace {
namespace {

using Dlsym = void* (*)(void* handle, const char* name);

// dlvsym is not one of our doors, and asking for a version finds libc's dlsym even though ours comes first. glibc 2.34
// moved dlsym from libdl into libc under a new version; a program may run on either.
Dlsym FindRealDlsym() {
  for (const char* version : {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"}) {  // 2.17: AArch64
    if (void* found = dlvsym(RTLD_NEXT, "dlsym", version)) return reinterpret_cast<Dlsym>(found);
  }
  return nullptr;
}

constinit std::atomic<Dlsym> g_real_dlsym{nullptr};

}  // namespace

void* RealDlsym(void* handle, const char* name) {
  Dlsym real = g_real_dlsym.load(std::memory_order_acquire);
  if (real == nullptr) {
    real = FindRealDlsym();
    if (real == nullptr) return nullptr;
    g_real_dlsym.store(real, std::memory_order_release);
  }
  return real(handle, name);
}

}  // namespace uvmtrace
