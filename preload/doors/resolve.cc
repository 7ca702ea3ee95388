#include "preload/doors/resolve.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include <string_view>

#include "preload/base/apply_wanted.h"
#include "preload/doors/libc_symbols.h"
#include "preload/doors/targets.h"
#include "record/os/loader_work.h"

namespace uvmtrace {

namespace {

constinit std::atomic<void*> driver_functions[kFunctionsEnd]{};
constinit std::atomic<void*> driver_handle{nullptr};
constinit std::atomic<bool> driver_resolved{false};

std::string_view FileName(const char* path) {
  if (path == nullptr) return {};
  const char* const slash = strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

void* OwnAddressRemoved(void* pointer) { return IsOwnAddress(pointer) ? nullptr : pointer; }

// Fills driver_functions for the whole of libcuda at the first door after it was loaded.
bool ResolveDriver() {
  if (driver_resolved.load(std::memory_order_acquire)) return true;
  void* const handle = DriverHandle();
  if (handle == nullptr) return false;
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  const DlsymFunction find = LibcDlsym();
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer != Layer::kDriver || (IsLaunching(static_cast<FunctionId>(id)) && !ApplyWanted())) continue;
    driver_functions[id].store(OwnAddressRemoved(find(handle, row.symbol)), std::memory_order_relaxed);
  }
  // A driver has not every function. One that it has, so that dlerror tells the host of none of these look-ups.
  find(handle, "cuInit");
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

FileKind KindOfFile(const char* path) {
  const std::string_view file = FileName(path);
  if (file.starts_with("libcudart")) return FileKind::kRuntime;
  if (file.starts_with("libcuda.so")) return FileKind::kDriver;
  for (const char* prefix :
       {"libcupti", "libnvperf_", "libpcsamplingutil", "libcudadebugger", "libnvidia-", "libucm"}) {
    if (file.starts_with(prefix)) return FileKind::kInternal;
  }
  return FileKind::kOther;
}

FileKind KindOfAddress(const void* address) {
  Dl_info info;
  return dladdr(address, &info) != 0 ? KindOfFile(info.dli_fname) : FileKind::kOther;
}

void* DriverFunction(FunctionId id) {
  return ResolveDriver() ? driver_functions[id].load(std::memory_order_relaxed) : nullptr;
}

bool IsCudaFunction(FunctionId id, const void* function) {
  if (Function(id).layer == Layer::kDriver) return function == DriverFunction(id);
  return IsRuntimeAddress(function);
}

FunctionId FindDriverPointer(const char* name, const void* pointer) {
  if (name == nullptr || pointer == nullptr || !ResolveDriver()) return kNoFunction;
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    if (driver_functions[id].load(std::memory_order_relaxed) != pointer) continue;
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer == Layer::kDriver && NameMeansSymbol(name, row.symbol)) return static_cast<FunctionId>(id);
  }
  return kNoFunction;
}

bool IsRuntimeAddress(const void* address) { return KindOfAddress(address) == FileKind::kRuntime; }

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
// Any function of a runtime that calls go to, by this way.
const void* AnyRuntimeFunction(Way way) {
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    if (Function(static_cast<FunctionId>(id)).layer != Layer::kRuntime) continue;
    const void* const found = targets[static_cast<int>(way)][id].load(std::memory_order_relaxed);
    if (found != nullptr && IsRuntimeAddress(found)) return found;
  }
  return nullptr;
}

const void* AnyRuntimeFunction() {
  const void* const found = AnyRuntimeFunction(Way::kSymbol);
  return found != nullptr ? found : AnyRuntimeFunction(Way::kSecond);
}
}  // namespace

void PinTargets() {
  static constinit std::atomic<bool> pinned[kWays]{};
  for (const Way way : {Way::kSymbol, Way::kSecond}) {
    std::atomic<bool>& done = pinned[static_cast<int>(way)];
    if (done.load(std::memory_order_relaxed)) continue;
    Dl_info info;
    const void* const function = AnyRuntimeFunction(way);
    if (function == nullptr || dladdr(function, &info) == 0) continue;
    if (!done.exchange(true, std::memory_order_relaxed)) OpenLoaded(info.dli_fname);
  }
}

const char* RuntimePath() {
  Dl_info info;
  const void* const function = AnyRuntimeFunction();
  return function != nullptr && dladdr(function, &info) != 0 ? info.dli_fname : nullptr;
}

int RuntimeVersion() { return RuntimeVersionOf(AnyRuntimeFunction()); }

}  // namespace uvmtrace
