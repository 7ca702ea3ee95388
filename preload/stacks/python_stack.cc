#include "preload/stacks/python_stack.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "preload/base/config.h"
#include "preload/stacks/python_interpreter.h"
#include "preload/stacks/python_names.h"
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

// What is copied of a frame: all that is looked at.
struct Frame {
  const void* previous;
  const void* code;
  const void* instruction;  // before 3.11 f_lasti
  uint8_t owner;
};

const void* WithoutTag(const void* code) {
  // From 3.14 the two lowest bits are a tag.
  return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(code) & ~uintptr_t{3});
}

// What lies above us on this thread's own stack. It stays while the functions run that it belongs to, so that it can be
// read where it is. Memory beyond the stack's end may be anybody's, an interpreter's frames among it.
class OwnStack {
 public:
  // A thread's control block stands above its stack, in the same mapping; that of the main thread stands elsewhere, and
  // above its stack stands what the kernel passed to the program.
  OwnStack() : begin_(reinterpret_cast<uintptr_t>(__builtin_frame_address(0))) {
    const auto control_block = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
    end_ = control_block > begin_ ? control_block : getauxval(AT_RANDOM);
    // Further away than stacks are large: this is another stack, of a coroutine or of a signal handler.
    if (end_ < begin_ || end_ - begin_ > kLargest) end_ = begin_;
  }

  bool Has(const void* object, size_t bytes) const {
    const auto address = reinterpret_cast<uintptr_t>(object);
    return address >= begin_ && address < end_ && end_ - address >= bytes;
  }

 private:
  static constexpr uintptr_t kLargest = 16 << 20;
  const uintptr_t begin_;
  uintptr_t end_;
};

// Copies frames by reads that cannot fault, a block of memory at a time: from 3.11 a thread's frames lie side by side,
// in memory that a finalizing interpreter gives back while the thread runs on. Others stay, and are read where they are
// once the layout is trusted, for a read that cannot fault costs 0.8 us: those on the thread's own stack, by which C
// called Python, and those before 3.11, each an object of its own that stays as what it points to does.
class FrameReader {
 public:
  explicit FrameReader(bool layout_is_trusted) : layout_is_trusted_(layout_is_trusted) {}

  // The innermost frame of the thread.
  bool Innermost(const void* thread_state, const void** frame) const {
    if (!ReadSafely(thread_state, layout->thread_frame, frame)) return false;
    if (layout->cframe_frame < 0 || *frame == nullptr) return true;
    const auto offset = static_cast<size_t>(layout->cframe_frame);
    if (!layout_is_trusted_ || !own_stack_.Has(*frame, offset + sizeof(void*))) {
      return ReadSafely(*frame, offset, frame);
    }
    *frame = ReadPointer(*frame, offset);
    return true;
  }

  bool Read(const void* frame, Frame* copy) {
    const size_t frame_bytes = layout->frame_owner < 0 ? 112 : 80;  // beyond the offsets in python_layout.h
    if (layout_is_trusted_ && (layout->frame_owner < 0 || own_stack_.Has(frame, frame_bytes))) {
      Take(static_cast<const unsigned char*>(frame), copy);
      return true;
    }
    const auto address = reinterpret_cast<uintptr_t>(frame);
    if (address < begin_ || address + frame_bytes > end_) {
      // Its page, and what of the frame stands in the next one.
      begin_ = address & ~(kPage - 1);
      end_ = std::max(begin_ + kPage, address + frame_bytes);
      if (!ReadSafely(reinterpret_cast<const void*>(begin_), block_, end_ - begin_)) {
        begin_ = end_ = 0;
        return false;
      }
    }
    Take(block_ + (address - begin_), copy);
    return true;
  }

 private:
  static void Take(const unsigned char* frame, Frame* copy) {
    copy->previous = ReadPointer(frame, layout->frame_previous);
    copy->code = WithoutTag(ReadPointer(frame, layout->frame_code));
    copy->instruction = layout->code_bytes < 0
                            ? reinterpret_cast<const void*>(intptr_t{ReadAt<int32_t>(frame, layout->frame_instruction)})
                            : ReadPointer(frame, layout->frame_instruction);
    copy->owner = layout->frame_owner < 0 ? 0 : ReadAt<uint8_t>(frame, static_cast<size_t>(layout->frame_owner));
  }

  const bool layout_is_trusted_;
  const OwnStack own_stack_;
  static constexpr uintptr_t kPage = 4096;
  uintptr_t begin_ = 0;  // block_ is a copy of [begin_, end_)
  uintptr_t end_ = 0;
  alignas(8) unsigned char block_[kPage + 112];
};

// Byte offset of the current instruction; less than the first traceable one while a call is being prepared.
int64_t InstructionOffset(const void* instruction, const void* code) {
  if (layout->code_bytes < 0) {
    const int64_t last = reinterpret_cast<intptr_t>(instruction);
    return layout->minor >= 10 ? 2 * last : last;
  }
  return static_cast<const char*>(instruction) - (static_cast<const char*>(code) + layout->code_bytes);
}

// Whether the interpreter runs, and this thread has a state in it.
PythonObject* StateOfThisThread() {
  if (python.is_initialized() == 0 || (python.is_finalizing != nullptr && python.is_finalizing() != 0)) return nullptr;
  return python.this_thread_state();
}

// A finalizing interpreter frees the states of daemon threads, and their frames with them, while these threads run on
// without the GIL, as we do here; the instant before, it says that it finalizes. So all that it may free is copied, by
// reads that cannot fault, and believed only if the interpreter was not finalizing afterwards either. What a frame
// points to stays: nobody gives back the references of frames that never return.
size_t CaptureByLayout(const PythonObject* thread_state, std::span<uint64_t> frames) {
  const void* next = nullptr;
  FrameReader reader(/*layout_is_trusted=*/true);
  if (!reader.Innermost(thread_state, &next)) return 0;
  struct Function {
    const void* code;
    const void* instruction;
    bool of_generator;
  };
  Function functions[kMaximumStackFrames];
  size_t copied = 0;
  const size_t most = std::min(frames.size(), std::size(functions));
  for (int visited = 0; next != nullptr && copied < most && visited < 4096; ++visited) {
    Frame frame;
    if (!reader.Read(next, &frame)) break;
    next = frame.previous;
    if (frame.code == nullptr || frame.owner >= kPythonOwnerCStack) continue;
    functions[copied++] = {frame.code, frame.instruction, frame.owner == kPythonOwnerGenerator};
  }
#ifndef __SANITIZE_THREAD__  // which knows no fences, and does not see these reads
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
  if (StateOfThisThread() != thread_state) return 0;

  size_t count = 0;
  for (const auto& [code, instruction, of_generator] : std::span(functions, copied)) {
    if (TypeOf(code) != python.code_type) continue;
    const int64_t offset = InstructionOffset(instruction, code);
    // As the interpreter itself leaves frames out that have not begun.
    if (layout->frame_owner >= 0 && !of_generator &&
        offset < 2 * int64_t{ReadAt<int32_t>(code, layout->code_first_traceable)}) {
      continue;
    }
    // Only reads the code object's table of lines, which never changes.
    const int line = python.address_to_line(const_cast<PythonObject*>(static_cast<const PythonObject*>(code)),
                                            static_cast<int>(offset));
    frames[count++] = PythonFrame(CodeIdByLayout(python, *layout, code), line > 0 ? static_cast<uint32_t>(line) : 0);
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
  const void* next = nullptr;
  FrameReader reader(/*layout_is_trusted=*/false);
  if (!reader.Innermost(thread_state, &next)) return Check::kBad;
  int functions = 0;
  for (int i = 0; next != nullptr; ++i) {
    Frame frame;
    if (i == 4096 || !reader.Read(next, &frame)) return Check::kBad;
    if (frame.owner > kPythonOwnerCStack + 1) return Check::kBad;
    const void* const code = frame.code;
    const void* type = nullptr;
    const void* file = nullptr;
    const void* name = nullptr;
    int32_t first_line = -1;
    const bool is_function = frame.owner < kPythonOwnerCStack;
    const bool is_code = ReadSafely(code, kTypeOffset, &type) && type == python.code_type;
    if (is_function && !is_code) return Check::kBad;
    if (is_code) {
      if (!ReadSafely(code, layout->code_file, &file) || !IsStringSafely(file) ||
          !ReadSafely(code, layout->code_name, &name) || !IsStringSafely(name) ||
          !ReadSafely(code, layout->code_first_line, &first_line) || first_line < -1) {
        return Check::kBad;
      }
      const int64_t offset = InstructionOffset(frame.instruction, code);
      if (offset < -64 || offset > INT_MAX) return Check::kBad;
      functions += is_function;
    }
    next = frame.previous;
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
  PythonObject* const thread_state = StateOfThisThread();
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
