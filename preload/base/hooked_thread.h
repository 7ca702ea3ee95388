// What is known of a thread of the host while it is inside one of our hooks. At the bottom of preload/: nearly
// everything needs it, and it needs nothing.
#pragma once

#include <errno.h>
#include <pthread.h>

#include <cstdint>

#include "preload/base/call_cost.h"
#include "record/event.h"

namespace uvmtrace {

// All of the library's thread-local memory besides the recorder's: the static block has little room.
struct HookedThread {
  uint32_t tid;              // 0: not asked yet
  uint16_t depth;            // of intercepted calls; more than 0 while the library itself works
  uint16_t driver_function;  // the driver call beneath the outermost call
  Operation outermost_operation;
  CallTiming timing[2];       // of calls without a stack, and with one
  uintptr_t outermost_frame;  // where the outermost call, or the library's work, stands on the stack
  uint64_t own_work_ns;       // spent in the outermost call by us, not by CUDA: starting the sources
  uint64_t managed_address;   // of managed memory that a call beneath the outermost one allocated
};
extern __thread HookedThread hooked_thread __attribute__((visibility("hidden"), tls_model("initial-exec")));

// Keeps the library's own work, and CUDA calls made by it, out of the trace. The thread is not cancelled meanwhile:
// what it has begun, others wait for.
class InternalWork {
 public:
  [[gnu::always_inline]] InternalWork() : saved_errno_(errno), saved_depth_(hooked_thread.depth) {
    if (saved_depth_ == 0) hooked_thread.outermost_frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    ++hooked_thread.depth;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &saved_cancel_state_);
  }
  ~InternalWork() {
    pthread_setcancelstate(saved_cancel_state_, nullptr);
    hooked_thread.depth = saved_depth_;
    errno = saved_errno_;
  }
  InternalWork(const InternalWork&) = delete;
  InternalWork& operator=(const InternalWork&) = delete;

 private:
  const int saved_errno_;
  const uint16_t saved_depth_;
  int saved_cancel_state_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace uvmtrace
