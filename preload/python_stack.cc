#include "preload/python_stack.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "preload/python_interpreter.h"
#include "preload/python_names.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// Written before `way` says that there is an interpreter, and not after.
constinit PythonApi python{};
constinit const PythonLayout* layout = nullptr;
constinit int minor = 0;
constinit std::atomic<PythonWay> way{PythonWay::kNotFound};
constinit std::atomic<bool> searching{false};
constinit std::atomic<uint32_t> stacks_without_python{0};
constinit std::atomic<uint32_t> checks_without_frames{0};

// Memory that may not be there. False also where the kernel does not permit to ask.
bool ReadSafely(const void* from, void* to, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(from) < 4096) return false;
  const iovec local{to, bytes};
  const iovec remote{const_cast<void*>(from), bytes};
  return syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0) == static_cast<long>(bytes);
}

template <typename T>
bool ReadSafely(const void* object, size_t offset, T* value) {
  return object != nullptr && ReadSafely(static_cast<const char*>(object) + offset, value, sizeof(*value));
}

// By layout ----------------------------------------------------------------------------------------------------------

const void* InnermostFrame(const void* thread_state) {
  const void* const frame = ReadPointer(thread_state, layout->thread_frame);
  return layout->cframe_frame < 0 || frame == nullptr ? frame : ReadPointer(frame, layout->cframe_frame);
}

const void* CodeOfFrame(const void* frame) {
  // From 3.14 the two lowest bits are a tag.
  return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(ReadPointer(frame, layout->frame_code)) &
                                       ~uintptr_t{3});
}

// Byte offset of the current instruction; less than the first traceable one while a call is being prepared.
int64_t InstructionOffset(const void* frame, const void* code) {
  if (layout->code_bytes < 0) {
    const int64_t last = ReadAt<int32_t>(frame, layout->frame_instruction);
    return layout->minor >= 10 ? 2 * last : last;
  }
  return static_cast<const char*>(ReadPointer(frame, layout->frame_instruction)) -
         (static_cast<const char*>(code) + layout->code_bytes);
}

bool IsFunctionFrame(const void* frame, const void* code, int64_t offset) {
  if (layout->frame_owner < 0) return true;
  const auto owner = ReadAt<uint8_t>(frame, static_cast<size_t>(layout->frame_owner));
  if (owner >= kPythonOwnerCStack) return false;
  // As the interpreter itself leaves frames out that have not begun.
  return owner == kPythonOwnerGenerator || offset >= 2 * int64_t{ReadAt<int32_t>(code, layout->code_first_traceable)};
}

size_t CaptureByLayout(const void* thread_state, std::span<uint64_t> frames) {
  size_t count = 0;
  const void* frame = InnermostFrame(thread_state);
  for (int visited = 0; frame != nullptr && count < frames.size() && visited < 4096; ++visited) {
    const void* const code = CodeOfFrame(frame);
    if (code != nullptr && TypeOf(code) == python.code_type) {
      const int64_t offset = InstructionOffset(frame, code);
      if (IsFunctionFrame(frame, code, offset)) {
        // Only reads the code object's table of lines, which never changes.
        const int line = python.address_to_line(const_cast<PythonObject*>(static_cast<const PythonObject*>(code)),
                                                static_cast<int>(offset));
        frames[count++] =
            PythonFrame(CodeIdByLayout(python, *layout, code), line > 0 ? static_cast<uint32_t>(line) : 0);
      }
    }
    frame = ReadPointer(frame, layout->frame_previous);
  }
  return count;
}

bool IsStringSafely(const void* string) {
  const void* type = nullptr;
  uint32_t state = 0;
  int64_t length = -1;
  return ReadSafely(string, kTypeOffset, &type) && type == python.string_type &&
         ReadSafely(string, kStringStateOffset, &state) && (state & kStringIsCompact) != 0 &&
         ReadSafely(string, kStringLengthOffset, &length) && length >= 0 && length < INT_MAX;
}

enum class Check : uint8_t { kGood, kBad, kNothingToSee };

// Walks the thread's frames by reads that cannot fault, and looks at everything that CaptureByLayout relies on.
Check CheckLayout(const void* thread_state) {
  const void* frame = nullptr;
  if (!ReadSafely(thread_state, layout->thread_frame, &frame)) return Check::kBad;
  if (layout->cframe_frame >= 0 && !ReadSafely(frame, static_cast<size_t>(layout->cframe_frame), &frame))
    return Check::kBad;
  int functions = 0;
  for (int i = 0; frame != nullptr; ++i) {
    const void* previous = nullptr;
    const void* tagged = nullptr;
    if (i == 4096 || !ReadSafely(frame, layout->frame_previous, &previous) ||
        !ReadSafely(frame, layout->frame_code, &tagged)) {
      return Check::kBad;
    }
    uint8_t owner = 0;
    if (layout->frame_owner >= 0 && !ReadSafely(frame, static_cast<size_t>(layout->frame_owner), &owner))
      return Check::kBad;
    if (owner > kPythonOwnerCStack + 1) return Check::kBad;
    const auto code = reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(tagged) & ~uintptr_t{3});
    const void* type = nullptr;
    const void* file = nullptr;
    const void* name = nullptr;
    int32_t first_line = -1;
    const bool is_function = owner < kPythonOwnerCStack;
    const bool is_code = ReadSafely(code, kTypeOffset, &type) && type == python.code_type;
    if (is_function && !is_code) return Check::kBad;
    if (is_code) {
      if (!ReadSafely(code, layout->code_file, &file) || !IsStringSafely(file) ||
          !ReadSafely(code, layout->code_name, &name) || !IsStringSafely(name) ||
          !ReadSafely(code, layout->code_first_line, &first_line) || first_line < -1) {
        return Check::kBad;
      }
      const int64_t offset = InstructionOffset(frame, code);
      if (offset < -64 || offset > INT_MAX) return Check::kBad;
      functions += is_function;
    }
    frame = previous;
  }
  return functions == 0 ? Check::kNothingToSee : Check::kGood;
}

// By API -------------------------------------------------------------------------------------------------------------

// Whether this thread holds the GIL. PyGILState_Check alone says yes wherever it cannot tell, as after the making of a
// sub-interpreter.
bool HoldsGil(PythonObject* thread_state) {
  return python.gil_held() != 0 && python.current_thread_state() == thread_state;
}

size_t CaptureByApi(PythonObject* thread_state, std::span<uint64_t> frames) {
  if (!HoldsGil(thread_state)) return 0;
  // Sub-interpreters may have a GIL each, and take their objects with them when they end.
  if (python.interpreter_of(thread_state) != python.main_interpreter()) return 0;
  PythonObject* error_type = nullptr;
  PythonObject* error_value = nullptr;
  PythonObject* error_traceback = nullptr;
  python.fetch_error(&error_type, &error_value, &error_traceback);
  // From 3.11 a frame object is made when it is asked for. A collection then could run the program's finalizers, whose
  // calls would be taken for ours.
  const bool collects = python.disable_collector != nullptr && python.disable_collector() != 0;
  size_t count = 0;
  PythonObject* frame = python.frame_of(thread_state);
  while (frame != nullptr && count < frames.size()) {
    PythonObject* const code = python.frame_code(frame);
    const int line = python.frame_line(frame);
    frames[count++] = PythonFrame(CodeIdByApi(python, minor, code), line > 0 ? static_cast<uint32_t>(line) : 0);
    python.decrement(code);
    PythonObject* const back = python.frame_back(frame);
    python.decrement(frame);
    frame = back;
  }
  if (frame != nullptr) python.decrement(frame);
  if (collects) python.enable_collector();
  python.restore_error(error_type, error_value, error_traceback);
  return count;
}

// Whether the layout can be believed, at a stack of this thread: what it shows must make sense, and, where the thread
// holds the GIL, be what the API says.
Check CheckBothWays(PythonObject* thread_state) {
  const Check check = CheckLayout(thread_state);
  if (check == Check::kBad || !ApiIsWhole(python, minor) || !HoldsGil(thread_state)) return check;
  uint64_t by_api[16];
  uint64_t by_layout[16];
  const size_t api_count = CaptureByApi(thread_state, by_api);
  const size_t layout_count = check == Check::kGood ? CaptureByLayout(thread_state, by_layout) : 0;
  if (api_count == 0) return Check::kNothingToSee;
  return std::equal(by_api, by_api + api_count, by_layout, by_layout + layout_count) ? Check::kGood : Check::kBad;
}

// Finding an interpreter ---------------------------------------------------------------------------------------------

void SetState(SourceStateKind kind, const char* what) {
  char reason[160];
  snprintf(reason, sizeof(reason), "CPython 3.%d%s%s", minor, *what != '\0' ? ": " : "", what);
  Recorder::Get().SetSourceState("python_stacks", kind, reason);
}

PythonWay SayLayout() {
  SetState(SourceStateKind::kActive, "");
  return PythonWay::kLayout;
}

PythonWay SayApi() {
  if (ApiIsWhole(python, minor)) {
    SetState(SourceStateKind::kActive, kOnlyWithGil);
    return PythonWay::kApi;
  }
  SetState(SourceStateKind::kUnavailable, "this version is not known");
  return PythonWay::kRefused;
}

PythonWay FindInterpreter() {
  Recorder& recorder = Recorder::Get();
  if (!FindPython(&python)) {
    recorder.SetSourceState("python_stacks", SourceStateKind::kIdle, "there is no CPython in this process");
    return PythonWay::kNotFound;
  }
  const PythonDecision decision = DecidePython(python.version(), python);
  minor = decision.minor;
  layout = decision.layout;
  switch (decision.way) {
    case PythonWay::kUnchecked:
      SetState(SourceStateKind::kIdle, decision.reason);
      break;
    case PythonWay::kApi:
      SetState(SourceStateKind::kActive, decision.reason);
      break;
    default:
      SetState(SourceStateKind::kUnavailable, decision.reason);
  }
  return decision.way;
}

}  // namespace

void StartPythonStacks() { way.store(FindInterpreter(), std::memory_order_release); }

size_t CapturePythonStack(std::span<uint64_t> frames) {
  PythonWay now = way.load(std::memory_order_acquire);
  if (now == PythonWay::kNotFound) [[unlikely]] {
    // At the 64th call, the 128th, the 256th ...
    const uint32_t asked = stacks_without_python.fetch_add(1, std::memory_order_relaxed) + 1;
    if (asked < 64 || (asked & (asked - 1)) != 0) return 0;
    const int saved_errno = errno;
    // A second thread must not write to what the first has found and others read. It does not wait: the search takes
    // the loader's lock, which the waiting thread may hold.
    if (!searching.exchange(true, std::memory_order_acquire)) {
      if (way.load(std::memory_order_acquire) == PythonWay::kNotFound) StartPythonStacks();
      searching.store(false, std::memory_order_release);
    }
    errno = saved_errno;
    now = way.load(std::memory_order_acquire);
  }
  if (now == PythonWay::kNotFound || now == PythonWay::kRefused) return 0;
  if (python.is_initialized() == 0 || (python.is_finalizing != nullptr && python.is_finalizing() != 0)) return 0;
  PythonObject* const thread_state = python.this_thread_state();
  if (thread_state == nullptr) return 0;
  if (now == PythonWay::kUnchecked) [[unlikely]] {
    const int saved_errno = errno;
    Check check = CheckBothWays(thread_state);
    // Threads without a Python frame are rare: a wrong layout is likelier, sooner or later.
    if (check == Check::kNothingToSee && checks_without_frames.fetch_add(1, std::memory_order_relaxed) == 1000)
      check = Check::kBad;
    if (check != Check::kNothingToSee) {
      now = check == Check::kGood ? SayLayout() : SayApi();
      way.store(now, std::memory_order_release);
    }
    errno = saved_errno;
  }
  switch (now) {
    case PythonWay::kLayout:
      return CaptureByLayout(thread_state, frames);
    case PythonWay::kApi:
      return CaptureByApi(thread_state, frames);
    default:
      return 0;
  }
}

void ForgetPythonStacks() {
  ForgetCodeIds();
  searching.store(false, std::memory_order_relaxed);
  stacks_without_python.store(0, std::memory_order_relaxed);
}

}  // namespace uvmtrace
