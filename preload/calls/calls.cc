// The hooks: for every row of calls.inc a function for each way of getting at the real one.
#include <type_traits>

#include "preload/calls/describe.h"
#include "preload/calls/hook.h"
#include "preload/calls/launching.h"
#include "preload/calls/managed_variables.h"
#include "preload/calls/pools.h"
#include "preload/doors/doors.h"

namespace uvmtrace {
namespace {

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

#define RuntimeTakesLocations() TakesLocations(real)

// The rows' types are those of the headers.
#define UVMTRACE_CALL_UNCHECKED(...)
#define UVMTRACE_CALL(layer, symbol, operation, parameters, ...)                  \
  static_assert(std::is_same_v<decltype(&::symbol), layer##Result(*) parameters>, \
                "preload/calls/calls.inc and the CUDA headers disagree on " #symbol);
#include "preload/calls/calls.inc"

#define UVMTRACE_CALL(layer, symbol, operation, parameters, arguments, ...)                                            \
  template <Way kWay>                                                                                                  \
  layer##Result Call_##symbol parameters {                                                                             \
    return Intercept<kFunction_##symbol, Layer::k##layer, Operation::k##operation, kWay, layer##Result(*) parameters>( \
        [&](auto* real) { return real arguments; },                                                                    \
        [&]([[maybe_unused]] ApiCallEvent& event, [[maybe_unused]] bool ok, [[maybe_unused]] const void* real) {       \
          [[maybe_unused]] constexpr CallSite kCall{kFunction_##symbol, DoorOf(Layer::k##layer, kWay)};                \
          __VA_ARGS__                                                                                                  \
        });                                                                                                            \
  }
#include "preload/calls/calls.inc"

struct Hooks {
  void* by_way[kWays];
};

const Hooks kHooks[kCallsEnd] = {
    {{nullptr, nullptr, nullptr}},
#define UVMTRACE_CALL(layer, symbol, ...)                                            \
  {{reinterpret_cast<void*>(&Call_##symbol<Way::kSymbol>), UVMTRACE_##layer(symbol), \
    reinterpret_cast<void*>(&Call_##symbol<Way::kSecond>)}},
#define UVMTRACE_Runtime(symbol) nullptr
#define UVMTRACE_Driver(symbol) reinterpret_cast<void*>(&Call_##symbol<Way::kGetProcAddress>)
#include "preload/calls/calls.inc"
};

}  // namespace

void* HookOf(FunctionId id, Way way) {
  if (id < kCallsEnd) return kHooks[id].by_way[static_cast<int>(way)];
  if (IsLaunching(id)) return LaunchingHook(id, way);
  void* const hook = LookupHook(id, way);
  return hook != nullptr ? hook : ManagedVariableHook(id, way);
}

}  // namespace uvmtrace
