#include "preload/doors/doors.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include <string_view>
#include <type_traits>

#include "preload/base/apply_wanted.h"
#include "preload/calls/cuda_api.h"
#include "preload/doors/elf_file.h"
#include "preload/doors/libc_symbols.h"
#include "preload/doors/resolve.h"
#include "preload/doors/slots.h"
#include "preload/doors/targets.h"
#include "preload/doors/visibility.h"
#include "record/os/loader_work.h"

// In dlsym.S.
extern "C" {
extern char uvmtrace_own_dlsym __attribute__((visibility("hidden")));
extern char uvmtrace_own_dlvsym __attribute__((visibility("hidden")));
extern char uvmtrace_own_dlopen __attribute__((visibility("hidden")));
extern char uvmtrace_own_dlmopen __attribute__((visibility("hidden")));
}

namespace uvmtrace {
namespace {

void* RouteDriverPointer(const char* name, void* pointer);
// `pointer` is another tool's, in place of `meant`.
void* RouteToolPointer(const char* name, const void* meant, void* pointer);

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

#define UVMTRACE_LOOKUP_UNCHECKED(...)
#define UVMTRACE_LOOKUP(layer, symbol, parameters, ...)                           \
  static_assert(std::is_same_v<decltype(&::symbol), layer##Result(*) parameters>, \
                "preload/doors/lookups.inc and the CUDA headers disagree on " #symbol);
#include "preload/doors/lookups.inc"

// The out-parameter is touched only if the real function succeeded and gave an answer: a failed request leaves whatever
// the host had there. `ask` makes the host's request of a given function.
template <FunctionId kId, Way kWay, typename Real, typename Ask>
[[gnu::always_inline]] inline auto Lookup(const char* name, void** pointer, const Ask& ask) {
  void* const target = targets[static_cast<int>(kWay)][kId].load(std::memory_order_relaxed);
  const auto result = ask(reinterpret_cast<Real>(target), pointer);
  if (result != decltype(result){} || pointer == nullptr || *pointer == nullptr) return result;
  const int call_errno = errno;
  void* const routed = RouteDriverPointer(name, *pointer);
  if (routed != nullptr) {
    *pointer = routed;
  } else if (void* const own = DriverFunction(kId); own != nullptr && own != target) {
    // Another tool's answer. It stays in force, and what it means is what libcuda answers to the same request.
    void* meant = nullptr;
    if (ask(reinterpret_cast<Real>(own), &meant) == decltype(result){}) {
      *pointer = RouteToolPointer(name, meant, *pointer);
    }
  }
  errno = call_errno;
  return result;
}

// NOLINTBEGIN(bugprone-macro-parentheses): parameters and arguments bring their own.
#define UVMTRACE_LOOKUP(layer, symbol, parameters, arguments)                                             \
  template <Way kWay>                                                                                     \
  layer##Result Call_##symbol parameters {                                                                \
    return Lookup<kFunction_##symbol, kWay, layer##Result(*) parameters>(name, pointer,                   \
                                                                         [&](auto* real, void** answer) { \
                                                                           pointer = answer;              \
                                                                           return real arguments;         \
                                                                         });                              \
  }
#include "preload/doors/lookups.inc"
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace

void* LookupHook(FunctionId id, Way way) {
  switch (id) {
#define UVMTRACE_LOOKUP(layer, symbol, ...)                                                             \
  case kFunction_##symbol:                                                                              \
    return reinterpret_cast<void*>(way == Way::kSecond           ? &Call_##symbol<Way::kSecond>         \
                                   : way == Way::kGetProcAddress ? &Call_##symbol<Way::kGetProcAddress> \
                                                                 : &Call_##symbol<Way::kSymbol>);
#include "preload/doors/lookups.inc"
    default:
      return nullptr;
  }
}

namespace {

// What to give to the host for a driver function that was asked for by `name`; null if libcuda has no such function.
void* RouteDriverPointer(const char* name, void* pointer) {
  ScanSlotsIfOutdated();
  if (IsOwnAddress(pointer)) return pointer;
  const FunctionId id = FindDriverPointer(name, pointer);
  if (id != kNoFunction) return HandOut(id, Way::kGetProcAddress, pointer);
  Dl_info info;
  if (dladdr(pointer, &info) == 0 || KindOfFile(info.dli_fname) != FileKind::kDriver) return nullptr;
  if (info.dli_sname != nullptr && info.dli_saddr == pointer && IsNewerThanTheList(info.dli_sname)) {
    NoteNewFunction(info.dli_sname);
    TellVisibilityIfNew();
  }
  return pointer;
}

void* RouteToolPointer(const char* name, const void* meant, void* pointer) {
  const FunctionId id = FindDriverPointer(name, meant);
  if (id == kNoFunction || pointer == meant) return pointer;
  void* const hook = HandOut(id, Way::kGetProcAddress, pointer);
  TellVisibilityIfNew();
  return hook;
}

// A walk over the loaded files in their order, which is that of the global scope.
struct FileWalk {
  const void* caller;
  const char* name;  // looked for behind the caller's file; null: nothing
  bool behind_caller = false;
  bool caller_before_us = false;
  void* found = nullptr;
};

int VisitFile(dl_phdr_info* info, size_t, void* argument) {
  FileWalk& walk = *static_cast<FileWalk*>(argument);
  const ElfW(Dyn)* dynamic = nullptr;
  bool is_callers = false;
  bool is_ours = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const auto holds = [&](const void* address) {
      return reinterpret_cast<uintptr_t>(address) - info->dlpi_addr - segment.p_vaddr < segment.p_memsz;
    };
    if (segment.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + segment.p_vaddr);
    if (segment.p_type != PT_LOAD) continue;
    is_callers |= holds(walk.caller);
    is_ours |= holds(&uvmtrace_own_dlsym);
  }
  if (is_ours && walk.behind_caller) walk.caller_before_us = true;
  if (walk.name != nullptr && walk.behind_caller && dynamic != nullptr &&
      !std::string_view(info->dlpi_name).starts_with("linux-vdso")) {
    walk.found = FindDefinition(ReadElfFile(info->dlpi_addr, dynamic), walk.name);
  }
  walk.behind_caller |= is_callers;
  return walk.found != nullptr ? 1 : 0;
}

bool StandsBeforeUs(const void* caller) {
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  FileWalk walk{caller, nullptr};
  dl_iterate_phdr(&VisitFile, &walk);
  return walk.caller_before_us;
}

// Another tool before us looks for the dlsym behind itself. dlvsym wants a version, which our symbols do not have, and
// would give it the C library's: then what the tool looks up would pass no door.
void* FindOurs(const void* handle, const char* name, const void* caller) {
  if (handle != RTLD_NEXT || IsOwnAddress(caller)) return nullptr;
  void* ours = nullptr;
  if (EqualNames(name, "dlsym")) ours = &uvmtrace_own_dlsym;
  if (EqualNames(name, "dlvsym")) ours = &uvmtrace_own_dlvsym;
  if (EqualNames(name, "dlopen")) ours = &uvmtrace_own_dlopen;
  if (EqualNames(name, "dlmopen")) ours = &uvmtrace_own_dlmopen;
  return ours != nullptr && StandsBeforeUs(caller) ? ours : nullptr;
}

// What RTLD_NEXT means to `caller`: the first definition in a file behind its own.
// Null where this cannot be told from here: the look-up then goes on as it came.
void* FindNext(const char* name, const void* caller) {
  // Somewhere in the global scope, or RTLD_NEXT does not find it.
  if (LibcDlsym()(RTLD_DEFAULT, name) == nullptr) return nullptr;
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  FileWalk walk{caller, name};
  dl_iterate_phdr(&VisitFile, &walk);
  return walk.found;
}

template <typename Find>
void NoteIfNew(const char* name, const Find& find, const void* caller) {
  const int host_errno = errno;
  void* const real = find();
  if (real != nullptr && KindOfAddress(real) == FileKind::kDriver && KindOfAddress(caller) == FileKind::kOther) {
    NoteNewFunction(name);
    TellVisibilityIfNew();
  }
  errno = host_errno;
}

// What the host is to get for a name of the lists, or null to leave the request to the real function, as most are left:
// those of the driver and of CUPTI, whose own calls are not the program's, and our own. `find` makes the host's look-up
// by what comes behind us, `find_in_libc` by the C library. An answer of null is looked up once more, by the host, so
// that dlerror says what it would have said.
template <typename Find, typename FindInLibc>
void* FilterLookup(void* handle, const char* name, const void* caller, const Find& find,
                   const FindInLibc& find_in_libc) {
  const FunctionId id = FindFunction(name);
  if (IsOwnAddress(caller)) return nullptr;
  if (IsLaunching(id) && !ApplyWanted()) return nullptr;
  if (id == kNoFunction) {
    if (name[2] != 'd' && IsNewerThanTheList(name)) NoteIfNew(name, find_in_libc, caller);
    return nullptr;
  }
  const int host_errno = errno;
  void* answer = nullptr;
  const FileKind caller_kind = KindOfAddress(caller);
  if (caller_kind != FileKind::kDriver && caller_kind != FileKind::kInternal) {
    ScanSlotsIfOutdated();
    const bool another_tools = NextDlsym() != LibcDlsym();
    void* real = nullptr;
    if (handle != RTLD_NEXT) {
      real = find();
    } else if (!another_tools) {
      real = FindNext(name, caller);
    }
    if (real != nullptr && !IsOwnAddress(real)) {
      const bool is_cudas = IsCudaFunction(id, real);
      // Another tool's answer in place of CUDA's stays in force.
      const bool is_tools = !is_cudas && another_tools && handle != RTLD_NEXT && IsCudaFunction(id, find_in_libc());
      if (is_cudas || is_tools) {
        answer = HandOut(id, Way::kSymbol, real);
        PinTargets();
        TellVisibilityIfNew();
      }
    }
  }
  errno = host_errno;
  return answer;
}

// A dlopen that may be called from here: its answer does not depend on who calls.
void* OpenAndScan(const char* file, int flags) {
  void* const handle = NextDlopen()(file, flags);
  if (handle != nullptr) ScanSlots();
  return handle;
}

// A path with a slash is opened as it is, whoever asks. Any other name is searched for by the caller's RUNPATH.
bool DependsOnCaller(const char* file) { return strchr(file, '/') == nullptr || strchr(file, '$') != nullptr; }

DlopenFunction ChooseDlopen(const char* file, int flags, const void* caller) {
  if ((flags & RTLD_DEEPBIND) != 0) NoteDeepBind(file);
  if (file == nullptr || (flags & RTLD_NOLOAD) != 0 || IsOwnAddress(caller)) return NextDlopen();
  if (!DependsOnCaller(file)) return &OpenAndScan;
  uvmtrace_slots_outdated.store(true, std::memory_order_relaxed);
  return NextDlopen();
}

}  // namespace
}  // namespace uvmtrace

// For dlsym.S, whose other half is in libc_symbols.cc. While this library is not relocated, everything is left to the C
// library.
#define UVMTRACE_FOR_ASSEMBLER(result) extern "C" __attribute__((visibility("hidden"))) result

UVMTRACE_FOR_ASSEMBLER(void*) uvmtrace_filter_dlsym(void* handle, const char* name, const void* caller) {
  if (!uvmtrace::IsRelocated()) return nullptr;
  return uvmtrace::FilterLookup(
      handle, name, caller, [&] { return uvmtrace::NextDlsym()(handle, name); },
      [&] { return uvmtrace::LibcDlsym()(handle, name); });
}

UVMTRACE_FOR_ASSEMBLER(void*)
uvmtrace_filter_dlvsym(void* handle, const char* name, const char* version, const void* caller) {
  if (!uvmtrace::IsRelocated()) return nullptr;
  if (name[0] == 'd') return uvmtrace::FindOurs(handle, name, caller);
  return uvmtrace::FilterLookup(
      handle, name, caller, [&] { return uvmtrace::NextDlvsym()(handle, name, version); },
      [&] { return uvmtrace::LibcDlvsym()(handle, name, version); });
}

// The function that a dlopen goes on to.
UVMTRACE_FOR_ASSEMBLER(void*) uvmtrace_choose_dlopen(const char* file, int flags, const void* caller) {
  if (!uvmtrace::IsRelocated()) return uvmtrace::LibcFunction("dlopen");
  const int host_errno = errno;
  void* const chosen = reinterpret_cast<void*>(uvmtrace::ChooseDlopen(file, flags, caller));
  errno = host_errno;
  return chosen;
}

UVMTRACE_FOR_ASSEMBLER(void) uvmtrace_note_dlmopen(Lmid_t name_space, const char* file) {
  if (!uvmtrace::IsRelocated()) return;
  const int host_errno = errno;
  if (name_space != LM_ID_BASE) uvmtrace::NoteNamespace(file);
  uvmtrace_slots_outdated.store(true, std::memory_order_relaxed);
  errno = host_errno;
}

UVMTRACE_FOR_ASSEMBLER(void) uvmtrace_scan_slots() { uvmtrace::ScanSlots(); }
