#include "preload/stacks/stack.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <atomic>

#include "preload/base/config.h"
#include "preload/doors/resolve.h"
#include "preload/stacks/fork_guard.h"

namespace uvmtrace {
namespace {

// Frames of our own between the unwinder and the host: this file's, the hook's, and some air for a build without
// inlining.
constexpr size_t kOwnFrames = 12;

using UnwBacktrace = int (*)(void** frames, int size);
struct UnwindContext;
using UnwindGetIp = uintptr_t (*)(UnwindContext*);
using UnwindTrace = int (*)(UnwindContext*, void*);
using UnwindBacktrace = int (*)(UnwindTrace, void*);

constinit std::atomic<UnwBacktrace> unw_backtrace{nullptr};
#if defined(__SANITIZE_THREAD__)
// libunwind frees its memory of a thread when that ends, which is after ThreadSanitizer has forgotten the thread: its
// interceptor of pthread_mutex_lock then crashes.
constexpr bool kLibunwindAllowed = false;
#else
constexpr bool kLibunwindAllowed = true;
#endif
constinit std::atomic<bool> libunwind_distrusted{!kLibunwindAllowed};
constinit std::atomic<UnwindGetIp> unwind_get_ip{nullptr};
constinit std::atomic<UnwindBacktrace> unwind_backtrace{nullptr};

struct Walk {
  void** frames;
  int size;
  int count;
};

int StoreFrame(UnwindContext* context, void* argument) {
  constexpr int kContinue = 0;
  constexpr int kEnd = 5;  // _URC_END_OF_STACK
  auto* const walk = static_cast<Walk*>(argument);
  if (walk->count == walk->size) return kEnd;
  walk->frames[walk->count++] = reinterpret_cast<void*>(unwind_get_ip.load(std::memory_order_relaxed)(context));
  return kContinue;
}

int Backtrace(void** frames, int size) {
  const StackWalk walk_guard;
  if (!walk_guard.allowed()) return 0;
  if (const UnwBacktrace walk = unw_backtrace.load(std::memory_order_acquire)) return walk(frames, size);
  const UnwindBacktrace walk = unwind_backtrace.load(std::memory_order_acquire);
  if (walk == nullptr) return 0;
  Walk state{frames, size, 0};
  walk(&StoreFrame, &state);
  return state.count;
}

// libunwind.so.8 in the folder of this library, as an installation may bring it along.
void* OpenBesideOurselves() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&CaptureStack), &info) == 0 || info.dli_fname == nullptr) return nullptr;
  const char* const slash = strrchr(info.dli_fname, '/');
  if (slash == nullptr) return nullptr;
  char path[PATH_MAX];
  const int length =
      snprintf(path, sizeof(path), "%.*s/libunwind.so.8", static_cast<int>(slash - info.dli_fname), info.dli_fname);
  if (length < 0 || static_cast<size_t>(length) >= sizeof(path)) return nullptr;
  return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

}  // namespace

const char* OpenUnwinder(char* reason, size_t reason_size) {
  if (unw_backtrace.load(std::memory_order_acquire) != nullptr) return "libunwind";
  const DlsymFunction find = LibcDlsym();
  void* library = nullptr;
  if (!libunwind_distrusted.load(std::memory_order_relaxed)) {
    library = OpenBesideOurselves();
    if (library == nullptr) library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  }
  if (library != nullptr) {
    const auto walk = reinterpret_cast<UnwBacktrace>(find(library, "unw_backtrace"));
    if (walk != nullptr) {
      unw_backtrace.store(walk, std::memory_order_release);
      return "libunwind";
    }
  }
  library = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) {
    const auto get_ip = reinterpret_cast<UnwindGetIp>(find(library, "_Unwind_GetIP"));
    const auto walk = reinterpret_cast<UnwindBacktrace>(find(library, "_Unwind_Backtrace"));
    if (get_ip != nullptr && walk != nullptr) {
      unwind_get_ip.store(get_ip, std::memory_order_relaxed);
      unwind_backtrace.store(walk, std::memory_order_release);
      return "libgcc";
    }
  }
  snprintf(reason, reason_size, "neither libunwind.so.8 nor libgcc_s.so.1 can be loaded: install libunwind8");
  return nullptr;
}

void DistrustUnwinder() {
  libunwind_distrusted.store(true, std::memory_order_relaxed);
  unw_backtrace.store(nullptr, std::memory_order_relaxed);
}

size_t CaptureStack(std::span<uint64_t> frames) {
  void* found[kMaximumStackFrames + kOwnFrames];
  const size_t wanted = std::min(frames.size(), static_cast<size_t>(kMaximumStackFrames));
  const int count = Backtrace(found, static_cast<int>(wanted + kOwnFrames));
  // From the innermost: what unwinder and hooks put on top of the host's stack ends with our last frame.
  int first = 0;
  while (first < count && !IsOwnAddress(found[first])) ++first;
  if (first == count) first = 0;  // the unwinder began with our caller
  while (first < count && IsOwnAddress(found[first])) ++first;
  size_t stored = 0;
  for (int i = first; i < count && stored < wanted; ++i) {
    if (found[i] == nullptr) break;
    frames[stored++] = reinterpret_cast<uint64_t>(found[i]);
  }
  return stored;
}

}  // namespace uvmtrace
