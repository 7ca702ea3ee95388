// What our hooks go on to.
//
// A function of the list may be reached at several addresses: in libcuda or libcudart, in a second libcudart, or in
// another preloaded tool that stands before either. Each address that a host is about to get is a target. There is one
// hook for each way that a target was found, so a hook needs no look-up: it calls its own target.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/calls/functions.h"

namespace uvmtrace {

enum class Way : uint8_t {
  kSymbol,          // a slot that the linker bound, or dlsym
  kGetProcAddress,  // cuGetProcAddress and its like; driver functions only
  kSecond,          // a second address of the same function, by either
};
inline constexpr int kWays = 3;

extern constinit std::atomic<void*> targets[kWays][kFunctionsEnd];

// The hook of a function, by way. Null: a runtime function has no kGetProcAddress. Defined in calls/.
void* HookOf(FunctionId id, Way way);

// What to give to the host in place of `target`: a hook that goes on to it. `target` itself if it is a third address of
// this function, which is noted (visibility.h). May be called under the loader's lock.
void* HandOut(FunctionId id, Way way, void* target);

inline constexpr char kHookTargetName[] = "uvmtrace_hook_target";

}  // namespace uvmtrace

// What one of our hooks goes on to; null if `address` is no hook of ours. Another copy of this library in the process
// asks, to stand before us once and not twice.
extern "C" __attribute__((visibility("default"))) void* uvmtrace_hook_target(void* address);
