// Another preloaded tool that limits memory, as HAMi-core, nvshare and vgpu-manager do: it gives out its own functions
// by an interposed dlsym and by its own cuGetProcAddress. QUOTA_SYMBOL_ONLY: nothing but the exported function, which
// finds the real one by RTLD_NEXT.
#include <dlfcn.h>
#include <string.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
using Allocate = int (*)(unsigned long long*, unsigned long);
using GetProcAddress = int (*)(const char*, void**, int, unsigned long long, void*);
Allocate real_allocate;
#ifndef QUOTA_SYMBOL_ONLY
GetProcAddress real_get_proc_address;
#endif
constexpr unsigned long kQuota = 4096;
}  // namespace

EXPORT int cuMemAlloc_v2(unsigned long long* pointer, unsigned long bytes) {
  if (bytes > kQuota) return 2;  // CUDA_ERROR_OUT_OF_MEMORY
#ifdef QUOTA_SYMBOL_ONLY
  if (real_allocate == nullptr) real_allocate = reinterpret_cast<Allocate>(dlsym(RTLD_NEXT, "cuMemAlloc_v2"));
#endif
  return real_allocate(pointer, bytes);
}

#ifndef QUOTA_SYMBOL_ONLY
static int LimitedGetProcAddress(const char* name, void** pointer, int version, unsigned long long flags,
                                 void* status) {
  const int result = real_get_proc_address(name, pointer, version, flags, status);
  if (result == 0 && pointer != nullptr && *pointer != nullptr && name != nullptr && strcmp(name, "cuMemAlloc") == 0) {
    real_allocate = reinterpret_cast<Allocate>(*pointer);
    *pointer = reinterpret_cast<void*>(&cuMemAlloc_v2);
  }
  // The one that asks for the five-argument function gets the tool's again.
  if (result == 0 && pointer != nullptr && name != nullptr && strcmp(name, "cuGetProcAddress") == 0 &&
      version >= 12000) {
    *pointer = reinterpret_cast<void*>(&LimitedGetProcAddress);
  }
  return result;
}

EXPORT void* dlsym(void* handle, const char* name) noexcept {
  using Find = void* (*)(void*, const char*);
  static const auto next = reinterpret_cast<Find>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
  void* const found = next(handle, name);
  if (found == nullptr || handle == RTLD_NEXT) return found;
  if (strcmp(name, "cuMemAlloc_v2") == 0) {
    real_allocate = reinterpret_cast<Allocate>(found);
    return reinterpret_cast<void*>(&cuMemAlloc_v2);
  }
  if (strcmp(name, "cuGetProcAddress_v2") == 0) {
    real_get_proc_address = reinterpret_cast<GetProcAddress>(found);
    return reinterpret_cast<void*>(&LimitedGetProcAddress);
  }
  return found;
}
#endif
