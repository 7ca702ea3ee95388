// The hooks: for every row of calls.inc the exported function, and one more for each way of getting its address.
#include <type_traits>

#include "preload/doors.h"
#include "preload/hook.h"

#define UVMTRACE_EXPORT __attribute__((visibility("default")))

namespace uvmtrace {
namespace {

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

// What a call returns whose real function cannot be found.
constexpr cudaError_t kMissingRuntime = cudaErrorUnknown;
constexpr CUresult kMissingDriver = CUDA_ERROR_NOT_FOUND;

template <typename T>
uint64_t Word(T* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

// What an out-parameter says: nothing, if the call failed or the host passes none.
uint64_t Read(bool ok, void* const* pointer) { return ok && pointer != nullptr ? Word(*pointer) : 0; }
template <typename Number>
uint64_t Read(bool ok, const Number* pointer) {
  return ok && pointer != nullptr ? *pointer : 0;
}

// CUmemLocation and cudaMemLocation: the same values in both.
int32_t LocationDevice(int type, int id) {
  switch (type) {
    case 1:  // device
      return id;
    case 2:  // host
    case 3:  // host NUMA node
    case 4:  // host NUMA node of the thread
      return kCpu;
    default:
      return kUnknownDevice;
  }
}
// By value in one register.
int32_t LocationDevice(uint64_t location) {
  return LocationDevice(static_cast<int32_t>(location), static_cast<int32_t>(location >> 32));
}
static_assert(sizeof(cudaMemLocation) == 8 && offsetof(cudaMemLocation, type) == 0 &&
              offsetof(cudaMemLocation, id) == 4);

uint64_t CopyEnd(CUmemorytype type, const void* host, CUdeviceptr device, CUarray array) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      return Word(host);
    case CU_MEMORYTYPE_ARRAY:
      return Word(array);
    default:
      return device;
  }
}

void DescribeCopy(ApiCallEvent& event, bool ok, const CUDA_MEMCPY2D* copy) {
  if (!ok || copy == nullptr) return;
  event.address = CopyEnd(copy->dstMemoryType, copy->dstHost, copy->dstDevice, copy->dstArray);
  event.other_address = CopyEnd(copy->srcMemoryType, copy->srcHost, copy->srcDevice, copy->srcArray);
  event.bytes = copy->WidthInBytes * copy->Height;
}

// Whether the libcudart that holds `real` has the signatures of CUDA 13. Remembered for one function, in one word,
// since a process has one libcudart almost always: bit 63 is the answer, the rest the address.
bool TakesLocations(const void* real) {
  constexpr uint64_t kYes = uint64_t{1} << 63;
  static constinit std::atomic<uint64_t> remembered{0};
  const uint64_t seen = remembered.load(std::memory_order_relaxed);
  if ((seen & ~kYes) == Word(real)) return (seen & kYes) != 0;
  const bool answer = RuntimeVersionOf(real) >= 13000;
  remembered.store(Word(real) | (answer ? kYes : 0), std::memory_order_relaxed);
  return answer;
}
#define RuntimeTakesLocations() TakesLocations(real)

// The rows' types are those of the headers.
#define UVMTRACE_CALL_UNCHECKED(...)
#define UVMTRACE_CALL(layer, symbol, operation, parameters, ...)                  \
  static_assert(std::is_same_v<decltype(&::symbol), layer##Result(*) parameters>, \
                "preload/calls.inc and the CUDA headers disagree on " #symbol);
#include "preload/calls.inc"

#define UVMTRACE_CALL(layer, symbol, operation, parameters, arguments, ...)                                            \
  template <Way kWay>                                                                                                  \
  layer##Result Call_##symbol parameters {                                                                             \
    return Intercept<kFunction_##symbol, Layer::k##layer, Operation::k##operation, kWay, layer##Result(*) parameters>( \
        kMissing##layer, [&](auto* real) { return real arguments; },                                                   \
        [&]([[maybe_unused]] ApiCallEvent& event, [[maybe_unused]] bool ok, [[maybe_unused]] const void* real) {       \
          __VA_ARGS__                                                                                                  \
        });                                                                                                            \
  }
#include "preload/calls.inc"

}  // namespace

// Exported under the symbol's name, which asm gives them: the headers' declarations stay unused.
#define UVMTRACE_CALL(layer, symbol, operation, parameters, arguments, ...)           \
  extern "C" UVMTRACE_EXPORT layer##Result Exported_##symbol parameters asm(#symbol); \
  layer##Result Exported_##symbol parameters { return Call_##symbol<Way::kSymbol> arguments; }
#include "preload/calls.inc"

namespace {
struct Hooks {
  void* lookup;
  void* get_proc_address;
};
const Hooks kHooks[kCallsEnd] = {
    {nullptr, nullptr},
#define UVMTRACE_CALL(layer, symbol, ...)                 \
  {reinterpret_cast<void*>(&Call_##symbol<Way::kLookup>), \
   Layer::k##layer == Layer::kDriver ? reinterpret_cast<void*>(&Call_##symbol<Way::kGetProcAddress>) : nullptr},
#include "preload/calls.inc"
};
}  // namespace

void* CallHook(FunctionId id, Way way) {
  return way == Way::kGetProcAddress ? kHooks[id].get_proc_address : kHooks[id].lookup;
}

}  // namespace uvmtrace
