// Runs when the first of all look-ups is made, which may be that of a sanitizer's or a heap profiler's runtime that is
// about to find the functions which it interposes: nothing that somebody may interpose is called before, not even
// dl_iterate_phdr or strcmp, and CMake keeps the compiler from calling them and from instrumenting this file.
//
// It may even run before the loader has relocated this library: a library behind us in the loader's list is relocated
// earlier, and may choose among its functions (IFUNC) by what getenv or dlsym say. Until then nothing outside of this
// library can be reached but by an address that was read from memory, and errno cannot be either.
#include "preload/doors/libc_symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sys/syscall.h>

#include <atomic>

#include "preload/doors/elf_file.h"

// Placed by the linker at the two ends of this library.
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));
extern "C" const char _end __attribute__((visibility("hidden")));

// What comes behind us. Read by dlsym.S.
extern "C" {
#define UVMTRACE_NEXT(function) \
  __attribute__((visibility("hidden"))) constinit std::atomic<void*> uvmtrace_real_##function{nullptr};
UVMTRACE_NEXT(dlsym)
UVMTRACE_NEXT(dlvsym)
UVMTRACE_NEXT(dlopen)
UVMTRACE_NEXT(dlmopen)
}

namespace uvmtrace {
namespace {

// A function that is found once. Threads that look at the same time store the same pointer.
template <typename Function>
class FoundOnce {
 public:
  Function Get(const char* name) {
    Function found = function_.load(std::memory_order_acquire);
    if (found != nullptr) return found;
    found = reinterpret_cast<Function>(LibcFunction(name));
    function_.store(found, std::memory_order_release);
    return found;
  }

 private:
  std::atomic<Function> function_{nullptr};
};

constinit FoundOnce<DlsymFunction> libc_dlsym;
constinit FoundOnce<DlvsymFunction> libc_dlvsym;

// Another library behind us in the preload list may interpose the function as well. Without one: the C library's.
void* NextFunction(const char* name, std::atomic<void*>* known) {
  void* found = known->load(std::memory_order_acquire);
  if (found != nullptr) return found;
  if (!IsRelocated()) return LibcFunction(name);
  const int host_errno = errno;
  void* const next = LibcDlsym()(RTLD_NEXT, name);
  found = next != nullptr && !IsOwnAddress(next) ? next : LibcFunction(name);
  errno = host_errno;
  known->store(found, std::memory_order_release);
  return found;
}

long SystemCall(long number, long first, long second, long third) {
#if defined(__x86_64__)
  long result = number;
  asm volatile("syscall" : "+a"(result) : "D"(first), "S"(second), "d"(third) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = first;
  register long x1 asm("x1") = second;
  register long x2 asm("x2") = third;
  asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#endif
}

// The loader's list by way of the program's own headers, whose address the kernel tells.
const r_debug* FindLoaderList() {
  const long file = SystemCall(SYS_openat, AT_FDCWD, reinterpret_cast<long>("/proc/self/auxv"), O_RDONLY | O_CLOEXEC);
  if (file < 0) return nullptr;
  ElfW(auxv_t) entries[64];
  const long bytes = SystemCall(SYS_read, file, reinterpret_cast<long>(entries), sizeof(entries));
  SystemCall(SYS_close, file, 0, 0);
  const ElfW(Phdr)* headers = nullptr;
  size_t count = 0;
  for (long i = 0; i < bytes / static_cast<long>(sizeof(entries[0])); ++i) {
    if (entries[i].a_type == AT_PHDR) headers = reinterpret_cast<const ElfW(Phdr)*>(entries[i].a_un.a_val);
    if (entries[i].a_type == AT_PHNUM) count = entries[i].a_un.a_val;
  }
  uintptr_t base = 0;
  const ElfW(Dyn)* dynamic = nullptr;
  for (size_t i = 0; headers != nullptr && i < count; ++i) {
    if (headers[i].p_type == PT_PHDR) base = reinterpret_cast<uintptr_t>(headers) - headers[i].p_vaddr;
    if (headers[i].p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn)*>(base + headers[i].p_vaddr);
  }
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    if (dynamic->d_tag == DT_DEBUG) return reinterpret_cast<const r_debug*>(dynamic->d_un.d_ptr);
  }
  return nullptr;
}

}  // namespace

bool IsRelocated() {
  static const char* const volatile own_start = &__ehdr_start;  // written by the loader
  return own_start == &__ehdr_start;
}

// The loader's list of files, as a debugger reads it. No lock is needed: the C library, and what stands before it in
// the list, were there when the process started and stay.
void* LibcFunction(const char* name) {
  const r_debug* const list = IsRelocated() ? &_r_debug : FindLoaderList();
  for (const link_map* file = list == nullptr ? nullptr : list->r_map; file != nullptr; file = file->l_next) {
    if (file->l_name == nullptr) continue;
    const char* const file_name = BaseName(file->l_name);
    if (!EqualNames(file_name, "libc.so.6") && !EqualNames(file_name, "libdl.so.2")) continue;
    void* const found = FindDefinition(ReadElfFile(file->l_addr, file->l_ld), name);
    if (found != nullptr) return found;
  }
  return nullptr;
}

void* DefinitionBehindUs(const char* name) {
  if (!IsRelocated()) return LibcFunction(name);
  const auto own_base = reinterpret_cast<uintptr_t>(&__ehdr_start);
  bool behind = false;
  for (const link_map* file = _r_debug.r_map; file != nullptr; file = file->l_next) {
    if (behind && file->l_name != nullptr && !EqualNames(BaseName(file->l_name), "linux-vdso.so.1")) {
      void* const found = FindDefinition(ReadElfFile(file->l_addr, file->l_ld), name);
      if (found != nullptr) return found;
    }
    behind |= file->l_addr == own_base;
  }
  return LibcFunction(name);  // opened by dlopen, behind the C library
}

DlsymFunction LibcDlsym() { return libc_dlsym.Get("dlsym"); }
DlvsymFunction LibcDlvsym() { return libc_dlvsym.Get("dlvsym"); }

#define UVMTRACE_NEXT_AS(Type, function) reinterpret_cast<Type>(NextFunction(#function, &uvmtrace_real_##function))
DlsymFunction NextDlsym() { return UVMTRACE_NEXT_AS(DlsymFunction, dlsym); }
DlvsymFunction NextDlvsym() { return UVMTRACE_NEXT_AS(DlvsymFunction, dlvsym); }
DlopenFunction NextDlopen() { return UVMTRACE_NEXT_AS(DlopenFunction, dlopen); }

bool IsOwnAddress(const void* address) { return address >= &__ehdr_start && address < &_end; }

}  // namespace uvmtrace

// For dlsym.S.
#define UVMTRACE_FOR_ASSEMBLER(function)                                                   \
  extern "C" __attribute__((visibility("hidden"))) void* uvmtrace_find_real_##function() { \
    return uvmtrace::NextFunction(#function, &uvmtrace_real_##function);                   \
  }
UVMTRACE_FOR_ASSEMBLER(dlsym)
UVMTRACE_FOR_ASSEMBLER(dlvsym)
UVMTRACE_FOR_ASSEMBLER(dlmopen)
