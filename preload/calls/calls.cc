// The hooks: for every row of calls.inc the exported function, and one more for each way of getting its address.
#include <type_traits>

#include "preload/calls/describe.h"
#include "preload/calls/hook.h"
#include "preload/calls/managed_variables.h"
#include "preload/calls/pools.h"
#include "preload/doors/doors.h"

#define UVMTRACE_EXPORT __attribute__((visibility("default")))

namespace uvmtrace {
namespace {

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

// What a call returns whose real function cannot be found.
constexpr cudaError_t kMissingRuntime = cudaErrorUnknown;
constexpr CUresult kMissingDriver = CUDA_ERROR_NOT_FOUND;

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
        kMissing##layer, [&](auto* real) { return real arguments; },                                                   \
        [&]([[maybe_unused]] ApiCallEvent& event, [[maybe_unused]] bool ok, [[maybe_unused]] const void* real) {       \
          [[maybe_unused]] constexpr CallSite kCall{kFunction_##symbol, DoorOf(Layer::k##layer, kWay)};                \
          __VA_ARGS__                                                                                                  \
        });                                                                                                            \
  }
#include "preload/calls/calls.inc"

}  // namespace

// Exported under the symbol's name, which asm gives them: the headers' declarations stay unused.
#define UVMTRACE_CALL(layer, symbol, operation, parameters, arguments, ...)           \
  extern "C" UVMTRACE_EXPORT layer##Result Exported_##symbol parameters asm(#symbol); \
  layer##Result Exported_##symbol parameters { return Call_##symbol<Way::kSymbol> arguments; }
#include "preload/calls/calls.inc"

namespace {
struct Hooks {
  void* lookup;
  void* other;  // a driver function by cuGetProcAddress, a runtime function in a second libcudart
};
template <Layer kLayer>
constexpr Way kOtherWay = kLayer == Layer::kDriver ? Way::kGetProcAddress : Way::kLookupInSecond;

const Hooks kHooks[kCallsEnd] = {
    {nullptr, nullptr},
#define UVMTRACE_CALL(layer, symbol, ...)                 \
  {reinterpret_cast<void*>(&Call_##symbol<Way::kLookup>), \
   reinterpret_cast<void*>(&Call_##symbol<kOtherWay<Layer::k##layer>>)},
#include "preload/calls/calls.inc"
};
}  // namespace

void* CallHook(FunctionId id, Way way) { return way == Way::kLookup ? kHooks[id].lookup : kHooks[id].other; }

}  // namespace uvmtrace
