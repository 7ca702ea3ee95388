// A preloaded tool that stands in front of ioctl as well, and counts: gVisor's, fakeroot's and quota tools do.
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>

namespace {
unsigned long seen = 0;
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int ioctl(int descriptor, unsigned long request, ...) {
  if (descriptor == -2) return 0;  // to measure by
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  ++seen;
  static const auto next = reinterpret_cast<int (*)(int, unsigned long, ...)>(dlsym(RTLD_NEXT, "ioctl"));
  return next(descriptor, request, argument);
}

EXPORT unsigned long watched_ioctls() { return seen; }
