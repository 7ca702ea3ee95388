// What happens around an intercepted call.
//
// The outermost intercepted call of a thread is the event; what it calls beneath (a runtime call goes through the
// driver, which is intercepted too) only adds its name. The host sees its own arguments, results and errno. No lock is
// held while the real function runs, or at all.
//
// There are hundreds of hooks, so what they share is in functions that take the row of the list: a hook itself is the
// typed call, and the description of its arguments.
#pragma once

#include <cstdint>
#include <span>

#include "preload/apply/apply.h"
#include "preload/calls/cuda_api.h"
#include "preload/calls/functions.h"
#include "preload/calls/launching.h"
#include "preload/doors/targets.h"
#include "record/event.h"

namespace uvmtrace {

constexpr Door DoorOf(Layer layer, Way way) {
  if (way == Way::kGetProcAddress) return Door::kGetProcAddress;
  return layer == Layer::kRuntime ? Door::kRuntimeSymbol : Door::kDriverSymbol;
}

constexpr bool HasStack(Operation operation) {
  switch (operation) {
    case Operation::kAllocate:
    case Operation::kFree:
    case Operation::kRegister:
    case Operation::kUnregister:
    case Operation::kPrefetch:
    case Operation::kAdvise:
    case Operation::kReserve:
    case Operation::kUnreserve:
    case Operation::kCreate:
    case Operation::kMap:
    case Operation::kUnmap:
    case Operation::kReset:
      return true;
    default:
      return false;
  }
}

// What they say is needed even if a runtime call above them is the event.
constexpr bool DescribedBeneath(FunctionId id) {
  switch (id) {
    case kFunction_cuDevicePrimaryCtxRetain:
    case kFunction_cuCtxCreate_v2:
    case kFunction_cuCtxCreate_v3:
    case kFunction_cuCtxCreate_v4:
    case kFunction_cuGreenCtxCreate:
    case kFunction_cuModuleGetGlobal_v2:
    case kFunction_cuLibraryGetGlobal:
    case kFunction_cuLibraryGetManaged:
    case kFunction_cuMemPoolCreate:
      return true;
    default:
      return false;
  }
}

constexpr bool IsManagedAllocation(FunctionId id) {
  return id == kFunction_cuMemAllocManaged || id == kFunction_cudaMallocManaged;
}

// A row of the list, as one of its hooks has it.
struct HookedCall {
  FunctionId id;
  Layer layer;
  Operation operation;
  Door door;
  bool has_stack;
  bool described_beneath;
  bool is_managed_allocation;
};

template <FunctionId kId, Layer kLayer, Operation kOperation, Way kWay>
inline constexpr HookedCall kHookedCall = {kId,
                                           kLayer,
                                           kOperation,
                                           DoorOf(kLayer, kWay),
                                           HasStack(kOperation),
                                           DescribedBeneath(kId) || IsManagedAllocation(kId),
                                           IsManagedAllocation(kId)};

// A call that is under way. BeginCall fills it in.
struct OngoingCall {
  OngoingCall() {}  // NOLINT(modernize-use-equals-default): leaves the memory as it is
  union {
    ApiCallEvent event;
  };
  uint64_t entry_ns;       // 0: the call's cost is not measured
  uint64_t own_work_ns;    // before the real call
  uint64_t managed_bytes;  // of the managed memory that is freed
  int host_errno;
  uint16_t depth;  // of the calls above it
};

// Before the real call. False: call it, and do nothing else. `frame` is where the hook stands on the host's stack.
bool BeginCall(const HookedCall& call, const void* frame, OngoingCall* ongoing);
// Behind BeginCall, for a free that was described.
void BeginFree(OngoingCall* ongoing);
// After the real call. False: nothing else is to be done. Otherwise the call is to be described and finished.
bool EndCall(const HookedCall& call, OngoingCall* ongoing, int result);
void FinishCall(const HookedCall& call, OngoingCall* ongoing, int result);

// `call(real)` makes the call, `describe(event, ok, real)` fills the event in. Inlined into the function that the host
// called.
template <FunctionId kId, Layer kLayer, Operation kOperation, Way kWay, typename Real, typename Call, typename Describe>
[[gnu::always_inline]] inline auto Intercept(const Call& call, const Describe& describe) {
  constexpr const HookedCall& kCall = kHookedCall<kId, kLayer, kOperation, kWay>;
  constexpr bool kFree = kOperation == Operation::kFree;
  void* real = targets[static_cast<int>(kWay)][kId].load(std::memory_order_relaxed);
  OngoingCall ongoing;
  const bool recorded = BeginCall(kCall, __builtin_dwarf_cfa(), &ongoing);
  if constexpr (kId == kFunction_cuMemAlloc_v2 || kId == kFunction_cuMemAllocManaged) {
    if (recorded && ApplyActive()) [[unlikely]]
      real = AllocationAsApplied(kId, real);
  }
  if constexpr (kFree) {
    // Before the call: once it has returned, another thread may own the address.
    if (recorded) {
      describe(ongoing.event, false, real);
      BeginFree(&ongoing);
    }
  }
  const auto result = call(reinterpret_cast<Real>(real));
  if (recorded && EndCall(kCall, &ongoing, static_cast<int>(result))) {
    if constexpr (!kFree) describe(ongoing.event, static_cast<int>(result) == 0, real);
    FinishCall(kCall, &ongoing, static_cast<int>(result));
  }
  return result;
}

// Fills in what every event has, and records it. `event` has its times, address, and what the row describes.
void RecordCall(ApiCallEvent* event, FunctionId id, bool with_stack);
// A part of a call, while the call is being described: `event` has what all parts share. The stack is the caller's.
void RecordPart(ApiCallEvent* event, FunctionId id, Door door, std::span<const uint64_t> frames);

}  // namespace uvmtrace
