// What happens around an intercepted call.
//
// The outermost intercepted call of a thread is the event; what it calls beneath (a runtime call goes through the
// driver, which is intercepted too) only adds its name. The host sees its own arguments, results and errno. No lock is
// held while the real function runs, or at all.
#pragma once

#include <errno.h>
#include <pthread.h>

#include <cstdint>
#include <span>

#include "preload/calls/call_cost.h"
#include "preload/calls/cuda_api.h"
#include "preload/calls/functions.h"
#include "preload/calls/managed_variables.h"
#include "preload/doors/caller.h"
#include "preload/doors/resolve.h"
#include "preload/session/audit.h"
#include "preload/session/session.h"
#include "record/event.h"
#include "record/recorder.h"

namespace uvmtrace {

// All of the library's thread-local memory besides the recorder's: the static block has little room.
struct ThreadState {
  uint32_t tid;              // 0: not asked yet
  uint16_t depth;            // of intercepted calls; more than 0 while the library itself works
  uint16_t driver_function;  // the driver call beneath the outermost call
  Operation outermost_operation;
  CallTiming timing[2];         // of calls without a stack, and with one
  uint64_t own_work_ns;         // spent in the outermost call by us, not by CUDA: starting the sources
  uint64_t own_work_before_ns;  // of a call that is timed: the same before the real call
};
extern __thread ThreadState thread_state __attribute__((visibility("hidden"), tls_model("initial-exec")));

// Keeps the library's own work, and CUDA calls made by it, out of the trace. The thread is not cancelled meanwhile:
// what it has begun, others wait for.
class InternalWork {
 public:
  InternalWork() : saved_errno_(errno) {
    ++thread_state.depth;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &saved_cancel_state_);
  }
  ~InternalWork() {
    pthread_setcancelstate(saved_cancel_state_, nullptr);
    --thread_state.depth;
    errno = saved_errno_;
  }
  InternalWork(const InternalWork&) = delete;
  InternalWork& operator=(const InternalWork&) = delete;

 private:
  const int saved_errno_;
  int saved_cancel_state_ = PTHREAD_CANCEL_ENABLE;
};

// How the host got to us.
enum class Way {
  kSymbol,          // our exported symbol, bound by the linker
  kLookup,          // dlsym of libcuda or libcudart
  kLookupInSecond,  // dlsym of a second libcudart
  kGetProcAddress,
};

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

// The function that the call goes on to; null with a line on stderr if there is none. Inlined, like all that calls it,
// into the function that the host called: the return address is the host's.
template <FunctionId kId, Layer kLayer, Way kWay>
[[gnu::always_inline]] inline void* RealFunction() {
  void* real = nullptr;
  if constexpr (kWay == Way::kSymbol && kLayer == Layer::kRuntime) {
    real = RuntimeTarget(kId, __builtin_return_address(0));
  } else if constexpr (kWay == Way::kSymbol) {
    real = next_functions[kId].load(std::memory_order_relaxed);
  } else if constexpr (kWay == Way::kLookupInSecond) {
    real = second_runtime_functions[kId].load(std::memory_order_relaxed);
  } else {
    // A pointer that was looked up came from the library, and only then is it known here.
    real = library_functions[kId].load(std::memory_order_relaxed);
  }
  return real != nullptr ? real : ResolveNext(kId);
}

// Fills in what every event has, and records it. `event` has its times, address, and what the row describes.
void RecordCall(ApiCallEvent* event, FunctionId id, bool with_stack);
// A part of a call, while the call is being described: `event` has what all parts share. The stack is the caller's.
void RecordPart(ApiCallEvent* event, FunctionId id, Door door, std::span<const uint64_t> frames);

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

// Around a call whose cost to the program is measured: see call_cost.h. Begin returns the time. Apart from the hooks,
// of which there are hundreds.
uint64_t BeginTimedCall();
void EndTimedCall(CallTiming* timing, uint64_t entry_ns, const ApiCallEvent& event);

constexpr bool IsManagedAllocation(FunctionId id) {
  return id == kFunction_cuMemAllocManaged || id == kFunction_cudaMallocManaged;
}

// `call(real)` makes the call, `describe(event, ok, real)` fills the event in.
template <FunctionId kId, Layer kLayer, Operation kOperation, Way kWay, typename Real, typename Result, typename Call,
          typename Describe>
[[gnu::always_inline]] inline Result Intercept(Result missing, const Call& call, const Describe& describe) {
  constexpr bool kManaged = IsManagedAllocation(kId);
  constexpr bool kFree = kOperation == Operation::kFree;
  constexpr bool kInitialize = kOperation == Operation::kInitialize;

  ThreadState& thread = thread_state;
  const int host_errno = errno;
  CallTiming& timing = thread.timing[HasStack(kOperation) ? 1 : 0];
  uint64_t entry_ns = 0;  // of a call that is timed
  if (thread.depth == 0 && timing.Due()) [[unlikely]]
    entry_ns = BeginTimedCall();
  const auto real = reinterpret_cast<Real>(RealFunction<kId, kLayer, kWay>());
  if (real == nullptr) [[unlikely]] {
    errno = host_errno;
    return missing;
  }
  // Our own work calls through here as well, while a session starts: depth tells.
  if (!SessionRunning() && (thread.depth != 0 || !EnsureSession())) [[unlikely]] {
    if (entry_ns != 0) timing.Skip();
    errno = host_errno;
    return call(real);
  }

  CountForAudit(kId);

  ApiCallEvent event;
  const bool outermost = thread.depth == 0;
  uint64_t managed_bytes = 0;
  if constexpr (kFree) {
    // Before the call: once it has returned, another thread may own the address.
    describe(event, false, reinterpret_cast<const void*>(real));
    managed_bytes = ManagedMemoryBeginFree(event.address);
  }
  if constexpr (kManaged && kLayer == Layer::kDriver) EnsureManagedSources();

  if (outermost) {
    thread.driver_function = kNoFunction;
    thread.outermost_operation = kOperation;
    thread.own_work_before_ns = thread.own_work_ns;
    thread.own_work_ns = 0;
    event.start_ns = NowNs();
  } else if (kLayer == Layer::kDriver && thread.outermost_operation == kOperation &&
             thread.driver_function == kNoFunction) {
    thread.driver_function = kId;
  }
  ++thread.depth;
  errno = host_errno;
  const Result result = call(real);
  const int call_errno = errno;
  if (outermost) event.duration_ns = NowNs() - event.start_ns - thread.own_work_ns;

  const bool ok = result == Result{};
  if constexpr (kInitialize) AfterInitialize(static_cast<CUresult>(result));
  if (outermost || kManaged || DescribedBeneath(kId)) {
    if constexpr (!kFree) describe(event, ok, reinterpret_cast<const void*>(real));
  }
  if constexpr (kManaged) {
    if (ok) {
      EnsureManagedSources();
      ManagedMemoryAllocated(event.address, event.bytes);
    }
  }
  if constexpr (kFree) {
    ManagedMemoryEndFree(event.address, managed_bytes, ok);
  }
  if (outermost) {
    event.result = static_cast<int32_t>(result);
    event.door = DoorOf(kLayer, kWay);
    event.driver_function = kLayer == Layer::kRuntime ? thread.driver_function : uint16_t{kNoFunction};
    if (kOperation != Operation::kMake || !ok) RecordCall(&event, kId, HasStack(kOperation));
    if (entry_ns != 0) [[unlikely]]
      EndTimedCall(&timing, entry_ns, event);
    if (sources_wanted.load(std::memory_order_relaxed)) [[unlikely]]
      StartWantedSources();
  }
  --thread.depth;
  errno = call_errno;
  return result;
}

}  // namespace uvmtrace
