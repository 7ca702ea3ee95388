#include "preload/calls/hook.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "preload/session/config.h"
#include "preload/session/host_memory.h"
#include "preload/session/out_of_memory.h"
#include "preload/stacks/python_stack.h"
#include "preload/stacks/stack.h"

namespace uvmtrace {

__thread ThreadState thread_state = {};

void RecordCall(ApiCallEvent* event, FunctionId id, bool with_stack) {
  ThreadState& thread = thread_state;
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  event->tid = thread.tid;
  event->function = id;
  if (event->result == 0) SeeHostMemory(*event, id);
  const bool failed_for_memory = IsOutOfMemory(event->result);
  const int wanted = with_stack || failed_for_memory ? session_stack_frames.load(std::memory_order_relaxed) : 0;
  if (wanted == 0) {
    Recorder::Get().Record(*event);
    if (failed_for_memory) [[unlikely]]
      RecordAllocationFailure(*event);
    return;
  }
  uint64_t frames[2 * kMaximumStackFrames];
  const auto most = static_cast<size_t>(std::min(wanted, kMaximumStackFrames));
  const size_t count = CaptureStack({frames, most});
  const size_t python_count = CapturePythonStack({frames + count, most});
  event->python_frames = static_cast<uint8_t>(python_count);
  Recorder::Get().Record(*event, {frames, count + python_count});
  if (failed_for_memory) [[unlikely]]
    RecordAllocationFailure(*event);
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

uint64_t BeginTimedCall() {
  thread_state.own_work_ns = 0;
  return NowNs();
}

void EndTimedCall(CallTiming* timing, uint64_t entry_ns, const ApiCallEvent& event) {
  // Between the entry and now, without what CUDA took and without own work, which is told apart (start_cost_ns). Own
  // work during the real call and after it is in one number; all of it is spent outside of the event's duration.
  const uint64_t own_work_ns = thread_state.own_work_before_ns + thread_state.own_work_ns;
  const uint64_t cost_ns = NowNs() - entry_ns - event.duration_ns - own_work_ns;
  calls_cost_ns.fetch_add(timing->Add(cost_ns) * cost_ns, std::memory_order_relaxed);
}

}  // namespace uvmtrace
