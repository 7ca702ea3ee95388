#include "preload/hook.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "preload/config.h"
#include "preload/python_stack.h"
#include "preload/stack.h"

namespace uvmtrace {

__thread ThreadState thread_state = {};

void RecordCall(ApiCallEvent* event, FunctionId id, bool with_stack) {
  ThreadState& thread = thread_state;
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  event->tid = thread.tid;
  event->function = id;
  const int wanted = with_stack ? session_stack_frames.load(std::memory_order_relaxed) : 0;
  if (wanted == 0) {
    Recorder::Get().Record(*event);
    return;
  }
  uint64_t frames[2 * kMaximumStackFrames];
  const auto most = static_cast<size_t>(std::min(wanted, kMaximumStackFrames));
  const size_t count = CaptureStack({frames, most});
  const size_t python_count = CapturePythonStack({frames + count, most});
  event->python_frames = static_cast<uint8_t>(python_count);
  Recorder::Get().Record(*event, {frames, count + python_count});
}

void RecordPart(ApiCallEvent* event, FunctionId id, Door door, std::span<const uint64_t> frames) {
  ThreadState& thread = thread_state;
  if (thread.depth != 1) return;  // the call beneath another is not the event
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  event->tid = thread.tid;
  event->function = id;
  event->driver_function = thread.driver_function;
  event->door = door;
  Recorder::Get().Record(*event, frames);
}

}  // namespace uvmtrace
