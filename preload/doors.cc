#include "preload/doors.h"

#include <dlfcn.h>
#include <errno.h>

#include <type_traits>

#include "record/diagnostics.h"

#define UVMTRACE_EXPORT __attribute__((visibility("default")))

namespace uvmtrace {
namespace {

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

#define UVMTRACE_LOOKUP_UNCHECKED(...)
#define UVMTRACE_LOOKUP(layer, symbol, parameters, ...)                           \
  static_assert(std::is_same_v<decltype(&::symbol), layer##Result(*) parameters>, \
                "preload/lookups.inc and the CUDA headers disagree on " #symbol);
#include "preload/lookups.inc"

constexpr cudaError_t kMissingRuntime = cudaErrorUnknown;
constexpr CUresult kMissingDriver = CUDA_ERROR_NOT_FOUND;

// The out-parameter is touched only if the real function succeeded and gave an answer: a failed request leaves whatever
// the host had there.
template <FunctionId kId, Way kWay, typename Real, typename Result, typename Call>
inline Result Lookup(Result missing, const char* name, void** pointer, const Call& call) {
  const int host_errno = errno;
  const auto real = reinterpret_cast<Real>(RealFunction<kId, kWay>());
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
#define UVMTRACE_LOOKUP(layer, symbol, parameters, arguments)                                                         \
  template <Way kWay>                                                                                                 \
  layer##Result Call_##symbol parameters {                                                                            \
    return Lookup<kFunction_##symbol, kWay, layer##Result(*) parameters>(kMissing##layer, name, pointer,              \
                                                                         [&](auto* real) { return real arguments; }); \
  }
#include "preload/lookups.inc"

}  // namespace

#define UVMTRACE_LOOKUP(layer, symbol, parameters, arguments)                         \
  extern "C" UVMTRACE_EXPORT layer##Result Exported_##symbol parameters asm(#symbol); \
  layer##Result Exported_##symbol parameters { return Call_##symbol<Way::kSymbol> arguments; }
#include "preload/lookups.inc"
// NOLINTEND(bugprone-macro-parentheses)

void* HookOf(FunctionId id, Way way) {
  if (id <= kLastCall) return CallHook(id, way);
  switch (id) {
#define UVMTRACE_LOOKUP(layer, symbol, ...) \
  case kFunction_##symbol:                  \
    return reinterpret_cast<void*>(&Call_##symbol<Way::kLookup>);
#include "preload/lookups.inc"
    default:
      return nullptr;
  }
}

void* RouteDriverPointer(const char* name, void* pointer) {
  const FunctionId id = FindDriverPointer(name, pointer);
  return id != kNoFunction ? HookOf(id, Way::kGetProcAddress) : pointer;
}

}  // namespace uvmtrace

// For dlsym.S. Returns what the host is to get, or null to leave the request to the real dlsym, as most are left: those
// of a name that is not in the lists, those of CUPTI, whose own calls are not the program's, and our own.
extern "C" __attribute__((visibility("hidden"))) void* uvmtrace_filter_dlsym(void* handle, const char* name,
                                                                             const void* caller) {
  using namespace uvmtrace;
  const FunctionId id = FindFunction(name);
  if (id == kNoFunction || IsOwnAddress(caller)) return nullptr;
  const int host_errno = errno;
  void* answer = nullptr;
  if (!IsCuptiAddress(caller)) {
    // The host's own look-up comes last, so that dlerror says what it would have said. A name that is not found is
    // looked up once more by the real dlsym, for the same reason.
    const bool driver = Function(id).layer == Layer::kDriver;
    void* const known = driver ? ResolveLibrary(id) : nullptr;
    void* const real = LibcDlsym()(handle, name);
    if (real != nullptr && !IsOwnAddress(real) && (driver ? real == known : IsRuntimeFunction(id, real))) {
      answer = HookOf(id, Way::kLookup);
    }
  }
  errno = host_errno;
  return answer;
}

// For dlsym.S: where dlsym goes on to. Another library behind us in the preload list may interpose dlsym as well.
extern "C" __attribute__((visibility("hidden"))) void* uvmtrace_find_real_dlsym() {
  using namespace uvmtrace;
  const int host_errno = errno;
  const DlsymFunction libc = LibcDlsym();
  void* const next = libc(RTLD_NEXT, "dlsym");
  errno = host_errno;
  return next != nullptr && !IsOwnAddress(next) ? next : reinterpret_cast<void*>(libc);
}
