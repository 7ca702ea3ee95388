#include "preload/doors/doors.h"

#include <dlfcn.h>
#include <errno.h>

#include <type_traits>

#include "preload/doors/libc_symbols.h"

#define UVMTRACE_EXPORT __attribute__((visibility("default")))

namespace uvmtrace {
namespace {

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

#define UVMTRACE_LOOKUP_UNCHECKED(...)
#define UVMTRACE_LOOKUP(layer, symbol, parameters, ...)                           \
  static_assert(std::is_same_v<decltype(&::symbol), layer##Result(*) parameters>, \
                "preload/doors/lookups.inc and the CUDA headers disagree on " #symbol);
#include "preload/doors/lookups.inc"

constexpr cudaError_t kMissingRuntime = cudaErrorUnknown;
constexpr CUresult kMissingDriver = CUDA_ERROR_NOT_FOUND;

// The out-parameter is touched only if the real function succeeded and gave an answer: a failed request leaves whatever
// the host had there.
template <FunctionId kId, Layer kLayer, Way kWay, typename Real, typename Result, typename Call>
[[gnu::always_inline]] inline Result Lookup(Result missing, const char* name, void** pointer, const Call& call) {
  const int host_errno = errno;
  const auto real = reinterpret_cast<Real>(RealFunction<kId, kLayer, kWay>());
  errno = host_errno;
  if (real == nullptr) return missing;
  const Result result = call(real);
  if (result != Result{} || pointer == nullptr || *pointer == nullptr) return result;
  const int call_errno = errno;
  *pointer = RouteDriverPointer(name, *pointer);
  errno = call_errno;
  return result;
}

// NOLINTBEGIN(bugprone-macro-parentheses): parameters and arguments bring their own.
#define UVMTRACE_LOOKUP(layer, symbol, parameters, arguments)                              \
  template <Way kWay>                                                                      \
  layer##Result Call_##symbol parameters {                                                 \
    return Lookup<kFunction_##symbol, Layer::k##layer, kWay, layer##Result(*) parameters>( \
        kMissing##layer, name, pointer, [&](auto* real) { return real arguments; });       \
  }
#include "preload/doors/lookups.inc"

}  // namespace

#define UVMTRACE_LOOKUP(layer, symbol, parameters, arguments)                         \
  extern "C" UVMTRACE_EXPORT layer##Result Exported_##symbol parameters asm(#symbol); \
  layer##Result Exported_##symbol parameters { return Call_##symbol<Way::kSymbol> arguments; }
#include "preload/doors/lookups.inc"
// NOLINTEND(bugprone-macro-parentheses)

void* HookOf(FunctionId id, Way way) {
  if (id <= kLastCall) return CallHook(id, way);
  switch (id) {
#define UVMTRACE_LOOKUP(layer, symbol, ...)                                                           \
  case kFunction_##symbol:                                                                            \
    return reinterpret_cast<void*>(way == Way::kLookupInSecond ? &Call_##symbol<Way::kLookupInSecond> \
                                                               : &Call_##symbol<Way::kLookup>);
#include "preload/doors/lookups.inc"
    default:
      return nullptr;
  }
}

void* RouteDriverPointer(const char* name, void* pointer) {
  const FunctionId id = FindDriverPointer(name, pointer);
  return id != kNoFunction ? HookOf(id, Way::kGetProcAddress) : pointer;
}

}  // namespace uvmtrace

namespace uvmtrace {
namespace {

// What the host is to get for a name of the lists, or null to leave the request to the real function, as most are left:
// those of the driver and of CUPTI, whose own calls are not the program's, and our own. `find` is the host's look-up.
// It comes last, so that dlerror says what it would have said; a name that is not found is looked up once more, for the
// same reason.
template <typename Find>
void* FilterLookup(const char* name, const void* caller, const Find& find) {
  const FunctionId id = FindFunction(name);
  if (id == kNoFunction || IsOwnAddress(caller)) return nullptr;
  const int host_errno = errno;
  void* answer = nullptr;
  if (!IsCudaInternal(caller)) {
    const bool driver = Function(id).layer == Layer::kDriver;
    void* const known = driver ? ResolveLibrary(id) : nullptr;
    void* const real = find();
    if (real != nullptr && !IsOwnAddress(real)) {
      if (driver) {
        if (real == known) answer = HookOf(id, Way::kLookup);
      } else {
        const RuntimeLibrary runtime = RuntimeOf(id, real);
        if (runtime == RuntimeLibrary::kFirst) answer = HookOf(id, Way::kLookup);
        if (runtime == RuntimeLibrary::kSecond) answer = HookOf(id, Way::kLookupInSecond);
      }
    }
  }
  errno = host_errno;
  return answer;
}

}  // namespace
}  // namespace uvmtrace

// For dlsym.S, whose other half is in libc_symbols.cc.
#define UVMTRACE_FOR_ASSEMBLER extern "C" __attribute__((visibility("hidden"))) void*

UVMTRACE_FOR_ASSEMBLER uvmtrace_filter_dlsym(void* handle, const char* name, const void* caller) {
  return uvmtrace::FilterLookup(name, caller, [&] { return uvmtrace::LibcDlsym()(handle, name); });
}

UVMTRACE_FOR_ASSEMBLER uvmtrace_filter_dlvsym(void* handle, const char* name, const char* version, const void* caller) {
  return uvmtrace::FilterLookup(name, caller, [&] { return uvmtrace::LibcDlvsym()(handle, name, version); });
}
