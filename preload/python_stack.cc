#include "preload/python_stack.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <string_view>

#include "preload/libc_symbols.h"
#include "preload/python_layout.h"
#include "record/futex.h"
#include "record/hash_index.h"
#include "record/recorder.h"

namespace uvmtrace {

constinit const PythonLayout* python_layout_for_tests = nullptr;

namespace {

struct Object;  // PyObject, PyThreadState and what else is only pointed to

// Functions and types of the interpreter; a null pointer is one that this version lacks.
struct Api {
  int (*is_initialized)();
  int (*is_finalizing)();
  const char* (*version)();
  Object* (*this_thread_state)();  // PyGILState_GetThisThreadState
  Object* (*current_thread_state)();
  int (*gil_held)();  // PyGILState_Check
  Object* (*frame_of)(Object* thread_state);
  Object* (*frame_back)(Object* frame);
  Object* (*frame_code)(Object* frame);
  int (*frame_line)(Object* frame);
  int (*address_to_line)(Object* code, int offset);
  Object* (*attribute)(Object* object, const char* name);
  const char* (*as_utf8)(Object* string, ssize_t* size);
  Object* (*interpreter_of)(Object* thread_state);
  Object* (*main_interpreter)();
  void (*increment)(Object* object);
  void (*decrement)(Object* object);
  void (*fetch_error)(Object** type, Object** value, Object** traceback);
  void (*restore_error)(Object* type, Object* value, Object* traceback);
  int (*disable_collector)();
  int (*enable_collector)();
  const void* code_type;
  const void* string_type;
};

enum class Way : uint8_t {
  kNotFound,   // no interpreter yet
  kRefused,    // one that is left alone
  kUnchecked,  // the layout is to be checked at the next stack
  kLayout,
  kApi,
};

constinit Api api{};
constinit const PythonLayout* layout = nullptr;
constinit int minor = 0;
constinit std::atomic<Way> way{Way::kNotFound};
constinit std::atomic<uint32_t> stacks_without_python{0};
constinit std::atomic<uint32_t> checks_without_frames{0};

// From code objects to ids of Recorder::DefineCode. A code object may be freed and another one take its place, so an
// entry is believed if the code object still has the same two names and the same first line, or if it holds a reference
// (kPinned), which only somebody with the GIL can take.
struct CodeEntry {
  const void* code;
  const void* file;
  const void* name;
  uint64_t names_hash;  // kPinned: this table holds a reference
  uint32_t first_line;
  uint32_t id;
};
constexpr uint64_t kPinned = UINT64_MAX;
constexpr size_t kCodeEntries = 4096;
constinit CodeEntry code_entries[kCodeEntries]{};
constinit ShortLock code_lock;

template <typename T>
T Read(const void* object, size_t offset) {
  T value;
  memcpy(&value, static_cast<const char*>(object) + offset, sizeof(value));
  return value;
}

const void* ReadPointer(const void* object, size_t offset) { return Read<const void*>(object, offset); }
const void* TypeOf(const void* object) { return ReadPointer(object, 8); }

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

// Names --------------------------------------------------------------------------------------------------------------

constexpr size_t kNameBytes = 1024;

size_t AppendUtf8(uint32_t character, char* out) {
  if (character < 0x80) {
    out[0] = static_cast<char>(character);
    return 1;
  }
  if (character < 0x800) {
    out[0] = static_cast<char>(0xc0 | character >> 6);
    out[1] = static_cast<char>(0x80 | (character & 0x3f));
    return 2;
  }
  if (character < 0x10000) {
    if (character >= 0xd800 && character < 0xe000) character = 0xfffd;  // a byte that was no UTF-8
    out[0] = static_cast<char>(0xe0 | character >> 12);
    out[1] = static_cast<char>(0x80 | (character >> 6 & 0x3f));
    out[2] = static_cast<char>(0x80 | (character & 0x3f));
    return 3;
  }
  out[0] = static_cast<char>(0xf0 | character >> 18);
  out[1] = static_cast<char>(0x80 | (character >> 12 & 0x3f));
  out[2] = static_cast<char>(0x80 | (character >> 6 & 0x3f));
  out[3] = static_cast<char>(0x80 | (character & 0x3f));
  return 4;
}

// The text of a Python string, from its memory: PyUnicode_AsUTF8 keeps a copy in the string, which takes the GIL. What
// does not fit is cut.
std::string_view StringText(const void* string, char (&buffer)[kNameBytes]) {
  if (TypeOf(string) != api.string_type) return "?";
  const uint32_t state = Read<uint32_t>(string, 32);
  const uint32_t kind = state >> 2 & 7;  // bytes of a character
  const bool compact = (state & 1u << 5) != 0;
  const bool ascii = (state & 1u << 6) != 0;
  const size_t length = Read<size_t>(string, 16);
  if (!compact || (kind != 1 && kind != 2 && kind != 4)) return "?";
  const char* const data = static_cast<const char*>(string) + (ascii ? layout->ascii_bytes : layout->compact_bytes);
  if (ascii) return {data, std::min(length, kNameBytes)};
  size_t used = 0;
  for (size_t i = 0; i < length && used + 4 <= kNameBytes; ++i) {
    const uint32_t character = kind == 1   ? Read<uint8_t>(data, i)
                               : kind == 2 ? Read<uint16_t>(data, 2 * i)
                                           : Read<uint32_t>(data, 4 * i);
    used += AppendUtf8(character, buffer + used);
  }
  return {buffer, used};
}

uint32_t DefineCode(std::string_view file, std::string_view name) {
  Recorder& recorder = Recorder::Get();
  return recorder.DefineCode(recorder.InternString(file), recorder.InternString(name));
}

CodeEntry& EntryOf(const void* code) {
  return code_entries[MixHash(0, reinterpret_cast<uintptr_t>(code)) >> 16 & (kCodeEntries - 1)];
}

// By layout ----------------------------------------------------------------------------------------------------------

// Two names of other strings at the same addresses differ in their cached hashes, or else in their lengths.
uint64_t NamesHash(const void* file, const void* name) {
  const uint64_t hash = MixHash(MixHash(MixHash(Read<uint64_t>(file, 24), Read<uint64_t>(file, 16)),  //
                                        Read<uint64_t>(name, 24)),
                                Read<uint64_t>(name, 16));
  return hash == kPinned ? 0 : hash;
}

uint32_t CodeIdByLayout(const void* code) {
  const void* const file = ReadPointer(code, layout->code_file);
  const void* const name = ReadPointer(code, layout->code_name);
  const uint32_t first_line = Read<uint32_t>(code, layout->code_first_line);
  const uint64_t names_hash = NamesHash(file, name);
  CodeEntry& entry = EntryOf(code);
  {
    ShortLockGuard guard(code_lock);
    if (entry.code == code && entry.id != 0 && entry.file == file && entry.name == name &&
        entry.first_line == first_line && entry.names_hash == names_hash) {
      return entry.id;
    }
  }
  char file_buffer[kNameBytes];
  char name_buffer[kNameBytes];
  const uint32_t id = DefineCode(StringText(file, file_buffer), StringText(name, name_buffer));
  ShortLockGuard guard(code_lock);
  entry = {code, file, name, names_hash, first_line, id};
  return id;
}

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
    const int64_t last = Read<int32_t>(frame, layout->frame_instruction);
    return layout->minor >= 10 ? 2 * last : last;
  }
  return static_cast<const char*>(ReadPointer(frame, layout->frame_instruction)) -
         (static_cast<const char*>(code) + layout->code_bytes);
}

bool IsFunctionFrame(const void* frame, const void* code, int64_t offset) {
  if (layout->frame_owner < 0) return true;
  const auto owner = Read<uint8_t>(frame, static_cast<size_t>(layout->frame_owner));
  if (owner >= kPythonOwnerCStack) return false;
  // As the interpreter itself leaves frames out that have not begun.
  return owner == kPythonOwnerGenerator || offset >= 2 * int64_t{Read<int32_t>(code, layout->code_first_traceable)};
}

size_t CaptureByLayout(const void* thread_state, std::span<uint64_t> frames) {
  size_t count = 0;
  const void* frame = InnermostFrame(thread_state);
  for (int visited = 0; frame != nullptr && count < frames.size() && visited < 4096; ++visited) {
    const void* const code = CodeOfFrame(frame);
    if (code != nullptr && TypeOf(code) == api.code_type) {
      const int64_t offset = InstructionOffset(frame, code);
      if (IsFunctionFrame(frame, code, offset)) {
        // Only reads the code object's table of lines, which never changes.
        const int line =
            api.address_to_line(const_cast<Object*>(static_cast<const Object*>(code)), static_cast<int>(offset));
        frames[count++] = PythonFrame(CodeIdByLayout(code), line > 0 ? static_cast<uint32_t>(line) : 0);
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
  return ReadSafely(string, 8, &type) && type == api.string_type && ReadSafely(string, 32, &state) &&
         (state & 1u << 5) != 0 && ReadSafely(string, 16, &length) && length >= 0 && length < INT_MAX;
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
    const bool is_code = ReadSafely(code, 8, &type) && type == api.code_type;
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

bool ApiIsWhole() {
  // Without PyGC_Disable there is no frame object to be made either (3.9).
  const bool collector = minor < 11 || (api.disable_collector != nullptr && api.enable_collector != nullptr);
  return collector && api.current_thread_state != nullptr && api.gil_held != nullptr && api.frame_of != nullptr &&
         api.frame_back != nullptr && api.frame_code != nullptr && api.frame_line != nullptr &&
         api.attribute != nullptr && api.as_utf8 != nullptr && api.interpreter_of != nullptr &&
         api.main_interpreter != nullptr && api.increment != nullptr && api.decrement != nullptr &&
         api.fetch_error != nullptr && api.restore_error != nullptr;
}

// Whether this thread holds the GIL. PyGILState_Check alone says yes wherever it cannot tell, as after the making of a
// sub-interpreter.
bool HoldsGil(Object* thread_state) { return api.gil_held() != 0 && api.current_thread_state() == thread_state; }

bool AttributeText(Object* object, const char* name, char (&buffer)[kNameBytes], size_t* size) {
  Object* const value = api.attribute(object, name);
  if (value == nullptr) return false;
  ssize_t bytes = 0;
  const char* const text = api.as_utf8(value, &bytes);
  if (text != nullptr) {
    *size = std::min(static_cast<size_t>(bytes), kNameBytes);
    memcpy(buffer, text, *size);
  }
  api.decrement(value);
  return text != nullptr;
}

uint32_t CodeIdByApi(Object* code) {
  CodeEntry& entry = EntryOf(code);
  if (entry.code == code && entry.names_hash == kPinned && entry.id != 0) return entry.id;
  char file[kNameBytes];
  char name[kNameBytes];
  size_t file_bytes = 0;
  size_t name_bytes = 0;
  if (!AttributeText(code, "co_filename", file, &file_bytes)) file_bytes = 0;
  if (!AttributeText(code, minor >= 11 ? "co_qualname" : "co_name", name, &name_bytes)) name_bytes = 0;
  const uint32_t id = DefineCode({file, file_bytes}, {name, name_bytes});
  // An entry that holds a reference stays: to give it up might run code of the program.
  if (entry.names_hash == kPinned && entry.code != code) return id;
  if (entry.code != code || entry.names_hash != kPinned) api.increment(code);
  entry = {code, nullptr, nullptr, kPinned, 0, id};
  return id;
}

size_t CaptureByApi(Object* thread_state, std::span<uint64_t> frames) {
  if (!HoldsGil(thread_state)) return 0;
  // Sub-interpreters may have a GIL each, and take their objects with them when they end.
  if (api.interpreter_of(thread_state) != api.main_interpreter()) return 0;
  Object* error_type = nullptr;
  Object* error_value = nullptr;
  Object* error_traceback = nullptr;
  api.fetch_error(&error_type, &error_value, &error_traceback);
  // From 3.11 a frame object is made when it is asked for. A collection then could run the program's finalizers, whose
  // calls would be taken for ours.
  const bool collects = api.disable_collector != nullptr && api.disable_collector() != 0;
  size_t count = 0;
  Object* frame = api.frame_of(thread_state);
  while (frame != nullptr && count < frames.size()) {
    Object* const code = api.frame_code(frame);
    const int line = api.frame_line(frame);
    frames[count++] = PythonFrame(CodeIdByApi(code), line > 0 ? static_cast<uint32_t>(line) : 0);
    api.decrement(code);
    Object* const back = api.frame_back(frame);
    api.decrement(frame);
    frame = back;
  }
  if (frame != nullptr) api.decrement(frame);
  if (collects) api.enable_collector();
  api.restore_error(error_type, error_value, error_traceback);
  return count;
}

// Whether the layout can be believed, at a stack of this thread: what it shows must make sense, and, where the thread
// holds the GIL, be what the API says.
Check CheckBothWays(Object* thread_state) {
  const Check check = CheckLayout(thread_state);
  if (check == Check::kBad || !ApiIsWhole() || !HoldsGil(thread_state)) return check;
  uint64_t by_api[16];
  uint64_t by_layout[16];
  const size_t api_count = CaptureByApi(thread_state, by_api);
  const size_t layout_count = check == Check::kGood ? CaptureByLayout(thread_state, by_layout) : 0;
  if (api_count == 0) return Check::kNothingToSee;
  return std::equal(by_api, by_api + api_count, by_layout, by_layout + layout_count) ? Check::kGood : Check::kBad;
}

// Finding an interpreter ---------------------------------------------------------------------------------------------

// The file of a libpython that was loaded outside of the global scope.
int FindPythonFile(dl_phdr_info* info, size_t, void* path) {
  const char* const slash = info->dlpi_name == nullptr ? nullptr : strrchr(info->dlpi_name, '/');
  if (slash == nullptr || strncmp(slash + 1, "libpython3.", 11) != 0) return 0;
  strncpy(static_cast<char*>(path), info->dlpi_name, PATH_MAX - 1);
  return 1;
}

template <typename Function>
bool Find(void* handle, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(LibcDlsym()(handle, name));
  return *function != nullptr;
}

// The part that every way needs, and then the rest. False: there is no interpreter.
bool FindApi() {
  void* handle = RTLD_DEFAULT;
  if (!Find(handle, "PyGILState_GetThisThreadState", &api.this_thread_state)) {
    char path[PATH_MAX] = "";
    dl_iterate_phdr(&FindPythonFile, path);
    if (path[0] == '\0') return false;
    handle = dlopen(path, RTLD_NOLOAD | RTLD_LAZY);
    if (handle == nullptr || !Find(handle, "PyGILState_GetThisThreadState", &api.this_thread_state)) return false;
  }
  if (!Find(handle, "Py_IsInitialized", &api.is_initialized) || !Find(handle, "Py_GetVersion", &api.version))
    return false;
  if (!Find(handle, "Py_IsFinalizing", &api.is_finalizing)) Find(handle, "_Py_IsFinalizing", &api.is_finalizing);
  if (!Find(handle, "PyThreadState_GetUnchecked", &api.current_thread_state))
    Find(handle, "_PyThreadState_UncheckedGet", &api.current_thread_state);
  Find(handle, "PyGILState_Check", &api.gil_held);
  Find(handle, "PyThreadState_GetFrame", &api.frame_of);
  Find(handle, "PyFrame_GetBack", &api.frame_back);
  Find(handle, "PyFrame_GetCode", &api.frame_code);
  Find(handle, "PyFrame_GetLineNumber", &api.frame_line);
  Find(handle, "PyCode_Addr2Line", &api.address_to_line);
  Find(handle, "PyObject_GetAttrString", &api.attribute);
  Find(handle, "PyUnicode_AsUTF8AndSize", &api.as_utf8);
  Find(handle, "PyThreadState_GetInterpreter", &api.interpreter_of);
  Find(handle, "PyInterpreterState_Main", &api.main_interpreter);
  Find(handle, "Py_IncRef", &api.increment);
  Find(handle, "Py_DecRef", &api.decrement);
  Find(handle, "PyErr_Fetch", &api.fetch_error);
  Find(handle, "PyErr_Restore", &api.restore_error);
  Find(handle, "PyGC_Disable", &api.disable_collector);
  Find(handle, "PyGC_Enable", &api.enable_collector);
  Find(handle, "PyCode_Type", &api.code_type);
  Find(handle, "PyUnicode_Type", &api.string_type);
  return true;
}

void SetState(SourceStateKind kind, const char* what) {
  char reason[160];
  snprintf(reason, sizeof(reason), "CPython 3.%d%s%s", minor, *what != '\0' ? ": " : "", what);
  Recorder::Get().SetSourceState("python_stacks", kind, reason);
}

Way SayLayout() {
  SetState(SourceStateKind::kActive, "");
  return Way::kLayout;
}

Way SayApi() {
  if (ApiIsWhole()) {
    SetState(SourceStateKind::kActive, "only of calls made while the thread holds the interpreter's lock");
    return Way::kApi;
  }
  SetState(SourceStateKind::kUnavailable, "this version is not known");
  return Way::kRefused;
}

Way FindInterpreter() {
  Recorder& recorder = Recorder::Get();
  if (!FindApi()) {
    recorder.SetSourceState("python_stacks", SourceStateKind::kIdle, "there is no CPython in this process");
    return Way::kNotFound;
  }
  const std::string_view version(api.version());
  if (version.find("free-threading") != std::string_view::npos) {
    recorder.SetSourceState("python_stacks", SourceStateKind::kUnavailable,
                            "a free-threaded build of CPython: its frames cannot be read safely");
    return Way::kRefused;
  }
  minor = 0;
  if (version.size() > 2 && version[0] == '3' && version[1] == '.') {
    for (size_t i = 2; i < version.size() && version[i] >= '0' && version[i] <= '9'; ++i)
      minor = 10 * minor + (version[i] - '0');
  }
  layout = nullptr;
  for (const PythonLayout& known : kPythonLayouts) {
    if (known.minor == minor) layout = &known;
  }
  if (python_layout_for_tests != nullptr)
    layout = python_layout_for_tests->minor == 0 ? nullptr : python_layout_for_tests;
  const bool readable = layout != nullptr && api.address_to_line != nullptr && api.code_type != nullptr &&
                        api.string_type != nullptr && sizeof(void*) == 8;
  if (!readable) return SayApi();
  SetState(SourceStateKind::kIdle, "no call was made from Python so far");
  return Way::kUnchecked;
}

}  // namespace

void StartPythonStacks() { way.store(FindInterpreter(), std::memory_order_release); }

size_t CapturePythonStack(std::span<uint64_t> frames) {
  Way now = way.load(std::memory_order_acquire);
  if (now == Way::kNotFound) [[unlikely]] {
    // At the 64th call, the 128th, the 256th ...
    const uint32_t asked = stacks_without_python.fetch_add(1, std::memory_order_relaxed) + 1;
    if (asked < 64 || (asked & (asked - 1)) != 0) return 0;
    const int saved_errno = errno;
    StartPythonStacks();
    errno = saved_errno;
    now = way.load(std::memory_order_acquire);
  }
  if (now == Way::kNotFound || now == Way::kRefused) return 0;
  if (api.is_initialized() == 0 || (api.is_finalizing != nullptr && api.is_finalizing() != 0)) return 0;
  Object* const thread_state = api.this_thread_state();
  if (thread_state == nullptr) return 0;
  if (now == Way::kUnchecked) [[unlikely]] {
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
    case Way::kLayout:
      return CaptureByLayout(thread_state, frames);
    case Way::kApi:
      return CaptureByApi(thread_state, frames);
    default:
      return 0;
  }
}

void ForgetPythonStacks() {
  new (&code_lock) ShortLock;  // its owner does not exist here
  for (CodeEntry& entry : code_entries) {
    // What it holds a reference to stays held.
    if (entry.code != nullptr) entry.id = 0;
  }
  stacks_without_python.store(0, std::memory_order_relaxed);
}

}  // namespace uvmtrace
