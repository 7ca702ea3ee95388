#include "preload/doors/resolve.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <string.h>

#include <string_view>
#include <utility>

#include "preload/doors/caller.h"
#include "preload/doors/libc_symbols.h"
#include "preload/doors/visibility.h"
#include "record/diagnostics.h"
#include "record/loader_work.h"

namespace uvmtrace {

constinit std::atomic<void*> next_functions[kFunctionsEnd]{};
constinit std::atomic<void*> library_functions[kFunctionsEnd]{};
constinit std::atomic<void*> second_runtime_functions[kFunctionsEnd]{};

namespace {

constinit std::atomic<void*> driver_handle{nullptr};
constinit std::atomic<bool> driver_resolved{false};

std::string_view FileName(const char* path) {
  if (path == nullptr) return {};
  const char* const slash = strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

// The first loaded file called libcudart*: wheels bundle it as libcudart-<hash>.so, which no known soname finds.
int FindRuntimeFile(dl_phdr_info* info, size_t, void* path) {
  if (!FileName(info->dlpi_name).starts_with("libcudart")) return 0;
  strncpy(static_cast<char*>(path), info->dlpi_name, PATH_MAX - 1);
  return 1;
}

void* OpenRuntime() {
  for (const char* name : {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"}) {
    if (void* const handle = OpenLoaded(name)) return handle;
  }
  char path[PATH_MAX] = "";
  dl_iterate_phdr(&FindRuntimeFile, path);
  return path[0] != '\0' ? OpenLoaded(path) : nullptr;
}

void* OwnAddressRemoved(void* pointer) { return IsOwnAddress(pointer) ? nullptr : pointer; }

// Fills library_functions for the whole of libcuda at the first door after it was loaded.
bool ResolveDriver() {
  if (driver_resolved.load(std::memory_order_acquire)) return true;
  void* const handle = DriverHandle();
  if (handle == nullptr) return false;
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  const DlsymFunction find = LibcDlsym();
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer != Layer::kDriver) continue;
    library_functions[id].store(OwnAddressRemoved(find(handle, row.symbol)), std::memory_order_relaxed);
  }
  driver_resolved.store(true, std::memory_order_release);
  return true;
}

}  // namespace

// dlopen reports a library that is not there through dlerror, which the host may be about to read: dlerror() is cleared
// by a host before a lookup, not after, so only a stale message could be seen.
void* OpenLoaded(const char* name) {
  const int saved_errno = errno;
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  void* const handle = dlopen(name, RTLD_NOLOAD | RTLD_LAZY);
  errno = saved_errno;
  return handle;
}

void* ResolveNext(FunctionId id) {
  // A null pointer is not remembered: the library may be loaded later.
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  void* found = OwnAddressRemoved(LibcDlsym()(RTLD_NEXT, Function(id).symbol));
  if (found == nullptr) found = ResolveLibrary(id);
  if (found == nullptr) {
    static constinit std::atomic<bool> told[kFunctionsEnd]{};
    if (told[id].exchange(true, std::memory_order_relaxed)) return nullptr;
    Log(LogLevel::kWarn, "%s was called, and neither the global scope nor a loaded %s has it: the call fails",
        Function(id).symbol, Function(id).layer == Layer::kDriver ? "libcuda.so.1" : "libcudart");
    return nullptr;
  }
  next_functions[id].store(found, std::memory_order_relaxed);
  return found;
}

void* ResolveLibrary(FunctionId id) {
  if (Function(id).layer == Layer::kDriver) {
    return ResolveDriver() ? library_functions[id].load(std::memory_order_relaxed) : nullptr;
  }
  void* found = library_functions[id].load(std::memory_order_relaxed);
  if (found != nullptr) return found;
  void* const handle = OpenRuntime();
  if (handle == nullptr) return nullptr;
  found = OwnAddressRemoved(LibcDlsym()(handle, Function(id).symbol));
  if (found != nullptr) library_functions[id].store(found, std::memory_order_relaxed);
  return found;
}

FunctionId FindDriverPointer(const char* name, const void* pointer) {
  if (name == nullptr || pointer == nullptr || !ResolveDriver()) return kNoFunction;
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    if (library_functions[id].load(std::memory_order_relaxed) != pointer) continue;
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer == Layer::kDriver && NameMeansSymbol(name, row.symbol)) return static_cast<FunctionId>(id);
  }
  return kNoFunction;
}

RuntimeLibrary RuntimeOf(FunctionId id, void* pointer) {
  for (const auto& [functions, which] : {std::pair{library_functions, RuntimeLibrary::kFirst},
                                         std::pair{second_runtime_functions, RuntimeLibrary::kSecond}}) {
    void* known = functions[id].load(std::memory_order_relaxed);
    if (known == pointer) return which;
    if (known != nullptr) continue;
    if (!IsRuntimeAddress(pointer)) return RuntimeLibrary::kNone;
    if (functions[id].compare_exchange_strong(known, pointer, std::memory_order_relaxed) || known == pointer) {
      if (which == RuntimeLibrary::kSecond) TellTwoRuntimes(library_functions[id].load(), pointer);
      return which;
    }
  }
  if (IsRuntimeAddress(pointer)) TellThirdRuntime(pointer);
  return RuntimeLibrary::kNone;
}

bool IsRuntimeAddress(const void* address) {
  Dl_info info;
  return dladdr(address, &info) != 0 && FileName(info.dli_fname).starts_with("libcudart");
}

void NoteRuntimeFunction(FunctionId id, void* function) {
  next_functions[id].store(function, std::memory_order_relaxed);
}

void* DriverHandle() {
  void* handle = driver_handle.load(std::memory_order_acquire);
  if (handle != nullptr) return handle;
  handle = OpenLoaded("libcuda.so.1");
  if (handle != nullptr) driver_handle.store(handle, std::memory_order_release);
  return handle;
}

bool DriverSeen() { return driver_handle.load(std::memory_order_acquire) != nullptr; }

void* DriverSymbol(const char* name) {
  void* const handle = DriverHandle();
  return handle != nullptr ? OwnAddressRemoved(LibcDlsym()(handle, name)) : nullptr;
}

void* SymbolBeside(const void* function, const char* name) {
  Dl_info info;
  if (function == nullptr || dladdr(function, &info) == 0) return nullptr;
  void* const handle = OpenLoaded(info.dli_fname);
  if (handle == nullptr) return nullptr;
  void* const found = OwnAddressRemoved(LibcDlsym()(handle, name));
  dlclose(handle);  // one of several references
  return found;
}

int RuntimeVersionOf(const void* function) {
  using GetVersion = int (*)(int*);
  const auto get_version = reinterpret_cast<GetVersion>(SymbolBeside(function, "cudaRuntimeGetVersion"));
  int version = 0;
  return get_version != nullptr && get_version(&version) == 0 ? version : 0;
}

namespace {
// Any function of the runtime that calls go to, by whichever door the first of them came.
const void* AnyRuntimeFunction() {
  for (const auto* functions : {next_functions, library_functions}) {
    for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
      if (Function(static_cast<FunctionId>(id)).layer != Layer::kRuntime) continue;
      if (const void* const found = functions[id].load(std::memory_order_relaxed)) return found;
    }
  }
  return nullptr;
}
}  // namespace

const char* RuntimePath() {
  Dl_info info;
  const void* const function = AnyRuntimeFunction();
  return function != nullptr && dladdr(function, &info) != 0 ? info.dli_fname : nullptr;
}

int RuntimeVersion() { return RuntimeVersionOf(AnyRuntimeFunction()); }

bool IsCudaInternal(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0) return false;
  const std::string_view file = FileName(info.dli_fname);
  for (const char* prefix :
       {"libcupti", "libnvperf_", "libpcsamplingutil", "libcuda.so", "libcudadebugger", "libnvidia-"}) {
    if (file.starts_with(prefix)) return true;
  }
  return false;
}

}  // namespace uvmtrace
