#include "preload/calls/launching.h"

#include <errno.h>

#include <algorithm>
#include <type_traits>

#include "preload/apply/apply.h"
#include "preload/base/config.h"
#include "preload/base/hooked_thread.h"
#include "preload/doors/resolve.h"
#include "preload/session/session.h"
#include "preload/stacks/python_stack.h"
#include "preload/stacks/stack.h"

namespace uvmtrace {
namespace {

#define UVMTRACE_LAUNCH(symbol, parameters, ...)                             \
  static_assert(std::is_same_v<decltype(&::symbol), CUresult(*) parameters>, \
                "preload/calls/calls_launching.inc and the CUDA headers disagree on " #symbol);
#define UVMTRACE_WAIT(symbol, parameters, ...) UVMTRACE_LAUNCH(symbol, parameters, )
#include "preload/calls/calls_launching.inc"

// What the null stream means to a function for the per-thread default stream.
CUstream OwnStream(CUstream stream) { return stream == nullptr ? CU_STREAM_PER_THREAD : stream; }
CUstream StreamOf(const CUlaunchConfig* config) { return config == nullptr ? nullptr : config->hStream; }

template <typename Call>
CUresult Launched(const Launch& launch, const Call& call) {
  if (!ApplyActive() || !SessionRunning() || hooked_thread.depth != 0) [[likely]]
    return call();
  const int host_errno = errno;
  LaunchSequel sequel;
  ApplyBeforeLaunch(launch, &sequel);
  errno = host_errno;
  const CUresult result = call();
  const int call_errno = errno;
  ApplyAfterLaunch(launch, result == CUDA_SUCCESS, sequel);
  errno = call_errno;
  return result;
}

// NOLINTBEGIN(bugprone-macro-parentheses): parameters and arguments bring their own.
#define UVMTRACE_LAUNCH(symbol, parameters, arguments_, launch)                               \
  template <Way kWay>                                                                         \
  CUresult Call_##symbol parameters {                                                         \
    const auto real = reinterpret_cast<CUresult(*) parameters>(                               \
        targets[static_cast<int>(kWay)][kFunction_##symbol].load(std::memory_order_relaxed)); \
    return Launched(launch, [&] { return real arguments_; });                                 \
  }
#define UVMTRACE_WAIT(symbol, parameters, arguments_)                                         \
  template <Way kWay>                                                                         \
  CUresult Call_##symbol parameters {                                                         \
    const auto real = reinterpret_cast<CUresult(*) parameters>(                               \
        targets[static_cast<int>(kWay)][kFunction_##symbol].load(std::memory_order_relaxed)); \
    const CUresult result = real arguments_;                                                  \
    if (ApplyActive()) ApplyAtWait();                                                         \
    return result;                                                                            \
  }
#include "preload/calls/calls_launching.inc"
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace

void* LaunchingHook(FunctionId id, Way way) {
  switch (id) {
#define UVMTRACE_LAUNCH(symbol, ...)                                                                    \
  case kFunction_##symbol:                                                                              \
    return reinterpret_cast<void*>(way == Way::kSecond           ? &Call_##symbol<Way::kSecond>         \
                                   : way == Way::kGetProcAddress ? &Call_##symbol<Way::kGetProcAddress> \
                                                                 : &Call_##symbol<Way::kSymbol>);
#define UVMTRACE_WAIT(symbol, ...) UVMTRACE_LAUNCH(symbol, )
#include "preload/calls/calls_launching.inc"
    default:
      return nullptr;
  }
}

namespace {

// What the hook would have called. One word for each function: a program reaches it by one address, and if it has a
// second, both make the same allocation.
constinit std::atomic<void*> real_alloc{nullptr};
constinit std::atomic<void*> real_alloc_managed{nullptr};

using AllocFunction = CUresult (*)(CUdeviceptr*, size_t);
using AllocManagedFunction = CUresult (*)(CUdeviceptr*, size_t, unsigned);

MemoryKind KindOfThisCall(bool* apart) {
  const InternalWork internal;
  uint64_t native[kMaximumStackFrames];
  uint64_t python[kMaximumStackFrames];
  const int wanted = std::clamp(session_stack_frames.load(std::memory_order_relaxed), 0, kMaximumStackFrames);
  const auto most = static_cast<size_t>(wanted);
  const size_t native_count = CaptureStack({native, most});
  const size_t python_count = CapturePythonStack({python, most});
  return KindToAllocate({native, native_count}, {python, python_count}, apart);
}

void Mark(FunctionId as, uint64_t address, uint64_t bytes) {
  ManagedMemoryAllocated(address, bytes);
  hooked_thread.managed_address = address;
  hooked_thread.driver_function = as;
}

CUresult AllocAsApplied(CUdeviceptr* pointer, size_t bytes) {
  const auto real = reinterpret_cast<AllocFunction>(real_alloc.load(std::memory_order_acquire));
  bool apart = false;
  if (pointer == nullptr || bytes == 0 || KindOfThisCall(&apart) != MemoryKind::kManaged) return real(pointer, bytes);
  EnsureManagedSources();
  const auto managed = reinterpret_cast<AllocManagedFunction>(DriverSymbol("cuMemAllocManaged"));
  CUdeviceptr made = 0;
  if (managed == nullptr || managed(&made, bytes, CU_MEM_ATTACH_GLOBAL) != CUDA_SUCCESS) return real(pointer, bytes);
  *pointer = made;
  Mark(kFunction_AppliedManaged, made, bytes);
  return CUDA_SUCCESS;
}

// More than 1 MiB: the driver gives such memory a range of its own, and so pages that nothing else is on.
constexpr size_t kOwnRangeBytes = size_t{2} << 20;

CUresult AllocManagedAsApplied(CUdeviceptr* pointer, size_t bytes, unsigned flags) {
  const auto real = reinterpret_cast<AllocManagedFunction>(real_alloc_managed.load(std::memory_order_acquire));
  bool apart = false;
  if (bytes == 0 || bytes >= kOwnRangeBytes) return real(pointer, bytes, flags);
  KindOfThisCall(&apart);
  if (!apart || real(pointer, kOwnRangeBytes, flags) != CUDA_SUCCESS) return real(pointer, bytes, flags);
  hooked_thread.driver_function = kFunction_AppliedApart;
  return CUDA_SUCCESS;
}

}  // namespace

void* AllocationAsApplied(FunctionId id, void* real) {
  if (!ApplyChangesAllocations() || real == nullptr) return real;
  if (id == kFunction_cuMemAlloc_v2) {
    real_alloc.store(real, std::memory_order_release);
    return reinterpret_cast<void*>(&AllocAsApplied);
  }
  real_alloc_managed.store(real, std::memory_order_release);
  return reinterpret_cast<void*>(&AllocManagedAsApplied);
}

}  // namespace uvmtrace
