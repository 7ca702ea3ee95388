// Runs when the first of all look-ups is made, which may be that of a sanitizer's or a heap profiler's runtime that is
// about to find the functions which it interposes: nothing that somebody may interpose is called before, not even
// dl_iterate_phdr or strcmp, and CMake keeps the compiler from calling them and from instrumenting this file.
#include "preload/doors/libc_symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>

#include <atomic>

#include "preload/doors/elf_file.h"

// Placed by the linker at the two ends of this library.
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));
extern "C" const char _end __attribute__((visibility("hidden")));

namespace uvmtrace {
namespace {

// A function that is found once. Threads that look at the same time store the same pointer.
template <typename Function>
class FoundOnce {
 public:
  template <typename Find>
  Function Get(const Find& find) {
    Function found = function_.load(std::memory_order_acquire);
    if (found != nullptr) return found;
    found = reinterpret_cast<Function>(find());
    function_.store(found, std::memory_order_release);
    return found;
  }

 private:
  std::atomic<Function> function_{nullptr};
};

constinit FoundOnce<DlsymFunction> libc_dlsym;
constinit FoundOnce<DlvsymFunction> libc_dlvsym;
constinit FoundOnce<DlsymFunction> next_dlsym;
constinit FoundOnce<DlvsymFunction> next_dlvsym;
constinit FoundOnce<DlopenFunction> next_dlopen;

// Another library behind us in the preload list may interpose the function as well. Without one: the C library's.
void* NextFunction(const char* name) {
  const int host_errno = errno;
  void* const next = LibcDlsym()(RTLD_NEXT, name);
  void* const found = next != nullptr && !IsOwnAddress(next) ? next : LibcFunction(name);
  errno = host_errno;
  return found;
}

}  // namespace

// The loader's list of files, as a debugger reads it. No lock is needed: the C library, and what stands before it in
// the list, were there when the process started and stay.
void* LibcFunction(const char* name) {
  for (const link_map* file = _r_debug.r_map; file != nullptr; file = file->l_next) {
    if (file->l_name == nullptr) continue;
    const char* const file_name = BaseName(file->l_name);
    if (!EqualNames(file_name, "libc.so.6") && !EqualNames(file_name, "libdl.so.2")) continue;
    void* const found = FindDefinition(ReadElfFile(file->l_addr, file->l_ld), name);
    if (found != nullptr) return found;
  }
  return nullptr;
}

DlsymFunction LibcDlsym() {
  return libc_dlsym.Get([] { return LibcFunction("dlsym"); });
}
DlvsymFunction LibcDlvsym() {
  return libc_dlvsym.Get([] { return LibcFunction("dlvsym"); });
}
DlsymFunction NextDlsym() {
  return next_dlsym.Get([] { return NextFunction("dlsym"); });
}
DlvsymFunction NextDlvsym() {
  return next_dlvsym.Get([] { return NextFunction("dlvsym"); });
}
DlopenFunction NextDlopen() {
  return next_dlopen.Get([] { return NextFunction("dlopen"); });
}

bool IsOwnAddress(const void* address) { return address >= &__ehdr_start && address < &_end; }

}  // namespace uvmtrace

// For dlsym.S.
#define UVMTRACE_FOR_ASSEMBLER extern "C" __attribute__((visibility("hidden"))) void*

UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlsym() { return reinterpret_cast<void*>(uvmtrace::NextDlsym()); }
UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlvsym() { return reinterpret_cast<void*>(uvmtrace::NextDlvsym()); }
UVMTRACE_FOR_ASSEMBLER uvmtrace_find_real_dlmopen() { return uvmtrace::NextFunction("dlmopen"); }
