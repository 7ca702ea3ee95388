#include "preload/calls/hook.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "preload/base/config.h"
#include "preload/base/hooked_thread.h"
#include "preload/calls/managed_variables.h"
#include "preload/doors/slots.h"
#include "preload/session/audit.h"
#include "preload/session/host_memory.h"
#include "preload/session/out_of_memory.h"
#include "preload/session/session.h"
#include "preload/stacks/python_stack.h"
#include "preload/stacks/stack.h"
#include "record/recorder.h"

namespace uvmtrace {

__thread HookedThread hooked_thread = {};

namespace {

CallTiming& TimingOf(const HookedCall& call) { return hooked_thread.timing[call.has_stack ? 1 : 0]; }

// Apart from BeginCall, because it is rare.
__attribute__((noinline)) uint64_t BeginTimedCall() {
  hooked_thread.own_work_ns = 0;
  return NowNs();
}

__attribute__((noinline)) void EndTimedCall(const HookedCall& call, const OngoingCall& ongoing) {
  // Between the entry and now, without what CUDA took and without own work, which is told apart (start_cost_ns). Own
  // work during the real call and after it is in one number; all of it is spent outside of the event's duration.
  const uint64_t own_work_ns = ongoing.own_work_ns + hooked_thread.own_work_ns;
  const uint64_t cost_ns = NowNs() - ongoing.entry_ns - ongoing.event.duration_ns - own_work_ns;
  calls_cost_ns.fetch_add(TimingOf(call).Add(cost_ns) * cost_ns, std::memory_order_relaxed);
}

// A call that is left by longjmp never returns to its hook. The stack tells: what is called now does not stand beneath
// the outermost call.
__attribute__((noinline)) bool WasLeft(const void* frame) {
  if (reinterpret_cast<uintptr_t>(frame) < hooked_thread.outermost_frame) return false;
  hooked_thread.depth = 0;
  Recorder::Get().CountLoss("api_calls", "left by longjmp or an exception: the call has no end", 1);
  return true;
}

bool IsAllocatedElsewhere(const ApiCallEvent& event) {
  return event.memory_kind == MemoryKind::kDevice || event.memory_kind == MemoryKind::kPool;
}

}  // namespace

bool BeginCall(const HookedCall& call, const void* frame, OngoingCall* ongoing) {
  HookedThread& thread = hooked_thread;
  ongoing->host_errno = errno;
  ScanSlotsIfOutdated();
  if (thread.depth != 0) [[unlikely]]
    WasLeft(frame);
  ongoing->depth = thread.depth;
  const bool outermost = thread.depth == 0;
  ongoing->entry_ns = 0;
  if (outermost && TimingOf(call).Due()) [[unlikely]]
    ongoing->entry_ns = BeginTimedCall();
  // Our own work calls through here as well, while a session starts: depth tells.
  if (!SessionRunning() && (!outermost || !EnsureSession())) [[unlikely]] {
    if (ongoing->entry_ns != 0) TimingOf(call).Skip();
    errno = ongoing->host_errno;
    return false;
  }
  CountForAudit(call.id);
  if (call.is_managed_allocation && call.layer == Layer::kDriver) EnsureManagedSources();

  new (&ongoing->event) ApiCallEvent;
  ongoing->managed_bytes = 0;
  if (outermost) {
    thread.driver_function = kNoFunction;
    thread.outermost_operation = call.operation;
    thread.outermost_frame = reinterpret_cast<uintptr_t>(frame);
    thread.managed_address = 0;
    ongoing->own_work_ns = thread.own_work_ns;
    thread.own_work_ns = 0;
    ongoing->event.start_ns = NowNs();
  } else if (call.layer == Layer::kDriver && thread.outermost_operation == call.operation &&
             thread.driver_function == kNoFunction) {
    thread.driver_function = call.id;
  }
  ++thread.depth;
  errno = ongoing->host_errno;
  return true;
}

void BeginFree(OngoingCall* ongoing) {
  if (ApplyActive()) [[unlikely]]
    ApplyAtFree(ongoing->event.address);
  ongoing->managed_bytes = ManagedMemoryBeginFree(ongoing->event.address);
}

bool EndCall(const HookedCall& call, OngoingCall* ongoing, int result) {
  HookedThread& thread = hooked_thread;
  ongoing->host_errno = errno;
  const bool outermost = ongoing->depth == 0;
  if (outermost) ongoing->event.duration_ns = NowNs() - ongoing->event.start_ns - thread.own_work_ns;
  if (call.operation == Operation::kInitialize) AfterInitialize(static_cast<CUresult>(result));
  if (outermost || call.described_beneath || ongoing->managed_bytes != 0) return true;
  thread.depth = ongoing->depth;
  errno = ongoing->host_errno;
  return false;
}

void FinishCall(const HookedCall& call, OngoingCall* ongoing, int result) {
  HookedThread& thread = hooked_thread;
  ApiCallEvent& event = ongoing->event;
  const bool outermost = ongoing->depth == 0;
  if (call.is_managed_allocation && result == 0) {
    EnsureManagedSources();
    ManagedMemoryAllocated(event.address, event.bytes);
    thread.managed_address = event.address;
  }
  if (call.operation == Operation::kFree) ManagedMemoryEndFree(event.address, ongoing->managed_bytes, result == 0);
  if (outermost) {
    // A shim makes managed memory of what the program asked for.
    if (thread.managed_address != 0 && event.address == thread.managed_address && IsAllocatedElsewhere(event)) {
      event.memory_kind = MemoryKind::kManaged;
    }
    event.result = result;
    event.door = call.door;
    const bool tell_driver = call.layer == Layer::kRuntime || IsApplied(thread.driver_function);
    event.driver_function = tell_driver ? thread.driver_function : uint16_t{kNoFunction};
    if (ApplyActive()) [[unlikely]]
      ApplyAtCall(call.operation, event.address, event.other_address);
    if (call.operation != Operation::kMake || result != 0) RecordCall(&event, call.id, call.has_stack);
    if (ongoing->entry_ns != 0) [[unlikely]]
      EndTimedCall(call, *ongoing);
    if (sources_wanted.load(std::memory_order_relaxed)) [[unlikely]]
      StartWantedSources();
  }
  thread.depth = ongoing->depth;
  errno = ongoing->host_errno;
}

void RecordCall(ApiCallEvent* event, FunctionId id, bool with_stack) {
  HookedThread& thread = hooked_thread;
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
  if (ApplyActive() && Function(id).operation == Operation::kAllocate) [[unlikely]]
    ApplyAtAllocation(*event, {frames, count}, {frames + count, python_count});
  if (failed_for_memory) [[unlikely]]
    RecordAllocationFailure(*event);
}

void RecordPart(ApiCallEvent* event, FunctionId id, Door door, std::span<const uint64_t> frames) {
  HookedThread& thread = hooked_thread;
  if (thread.depth != 1) return;  // the call beneath another is not the event
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  event->tid = thread.tid;
  event->function = id;
  event->driver_function = thread.driver_function;
  event->door = door;
  Recorder::Get().Record(*event, frames);
}

}  // namespace uvmtrace
