// A thread in the middle of two Python functions, as CPython 3.14 with a GIL keeps it in memory: no such interpreter is
// at hand everywhere. The structs are those of CPython's headers (named at each), written down apart from
// preload/stacks/python_layout.h, so that a wrong offset there is found here. The thread does not hold the GIL, and
// there is no C API beyond the few functions that reading by layout takes.
//
// PYTHON_314_STRINGS=alpha: strings as an alpha release had them, which the layout does not fit.
// PYTHON_314_FINALIZES=n: at the n-th time that the thread's state is asked for, the interpreter begins to finalize, in
// another thread as it were, and has given the state and its frames back when the caller gets the pointer to it.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PYTHON_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Object {  // object.h, PyObject
  uint64_t reference_count;
  const void* type;
};

struct AsciiString {  // cpython/unicodeobject.h, PyASCIIObject
  Object object;
  int64_t length;
  int64_t hash;
  uint32_t state;    // interned:2, kind:3, compact:1, ascii:1, statically_allocated:1
  uint32_t padding;  // the text follows sizeof(PyASCIIObject)
  char text[64];
};

struct Code {  // cpython/code.h, PyCodeObject
  Object object;
  int64_t size;
  const void* consts;
  const void* names;
  const void* exception_table;
  int32_t flags, argument_count, positional_only, keyword_only, stack_size, first_line, locals_plus, frame_size, locals,
      cells, free_variables;
  uint32_t version;
  const void* locals_plus_names;
  const void* locals_plus_kinds;
  const AsciiString* file;
  const AsciiString* name;
  const AsciiString* qualified_name;
  const void* line_table;
  const void* weak_references;
  const void* executors;
  const void* cached;
  uintptr_t instrumentation_version;
  const void* monitoring;
  int64_t unique_id;
  int32_t first_traceable;
  const void* extra;
  uint16_t code[16];
};

enum Owner : char { kThread = 0, kGenerator = 1, kFrameObject = 2, kInterpreter = 3 };

struct Frame {           // internal/pycore_interpframe_structs.h, _PyInterpreterFrame
  uintptr_t executable;  // a _PyStackRef: the lowest bits are a tag
  const Frame* previous;
  uintptr_t function;
  const void* globals;
  const void* builtins;
  const void* locals;
  const void* frame_object;
  const uint16_t* instruction;
  const void* stack_pointer;
  uint16_t return_offset;
  Owner owner;
  uint8_t visited;
};

struct ThreadState {  // cpython/pystate.h, PyThreadState
  const void* previous;
  const void* next;
  const void* interpreter;
  uintptr_t eval_breaker;
  uint32_t status;
  int32_t holds_gil, whence, state, recursion_remaining, recursion_limit, recursion_headroom, tracing, event;
  const Frame* current_frame;
};

}  // namespace

PYTHON_EXPORT Object PyCode_Type;
PYTHON_EXPORT Object PyUnicode_Type;
PYTHON_EXPORT Object PyNone_Type;
Object PyCode_Type, PyUnicode_Type, PyNone_Type;

namespace {

constexpr uint32_t kCompactAscii = 1u << 2 | 1u << 5 | 1u << 6;
// uint16_t interned; unsigned short kind:3, compact:1, ascii:1
constexpr uint32_t kCompactAsciiOfTheAlpha = (1u << 0 | 1u << 3 | 1u << 4) << 16;

void Fill(AsciiString* string, const char* text, int64_t hash, uint32_t state) {
  string->object = {1, &PyUnicode_Type};
  string->length = static_cast<int64_t>(strlen(text));
  string->hash = hash;
  string->state = state;
  strcpy(string->text, text);
}

AsciiString file, outer_name, inner_name;
Code outer_code, inner_code;
Object none;
// What the end of the interpreter gives back, in pages of its own.
struct alignas(4096) GivenBack {
  Frame entry_frame, outer_frame, inner_frame;
  ThreadState thread_state;
};
GivenBack given_back;
int finalizing = 0;

void Fill(Code* code, const AsciiString* name, int first_line) {
  code->object = {1, &PyCode_Type};
  code->file = &file;
  code->name = code->qualified_name = name;
  code->first_line = first_line;
  code->first_traceable = 1;
}

ThreadState* Build() {
  auto& [entry_frame, outer_frame, inner_frame, thread_state] = given_back;
  const char* const kind = getenv("PYTHON_314_STRINGS");
  const uint32_t state = kind != nullptr && strcmp(kind, "alpha") == 0 ? kCompactAsciiOfTheAlpha : kCompactAscii;
  Fill(&file, "/srv/model.py", 11, state);
  Fill(&outer_name, "main", 22, state);
  Fill(&inner_name, "Model.load", 33, state);
  Fill(&outer_code, &outer_name, 100);
  Fill(&inner_code, &inner_name, 200);
  none = {1, &PyNone_Type};
  // C code entered the interpreter: no function.
  entry_frame.executable = reinterpret_cast<uintptr_t>(&none) | 1;
  entry_frame.owner = kInterpreter;
  outer_frame.executable = reinterpret_cast<uintptr_t>(&outer_code) | 1;
  outer_frame.previous = &entry_frame;
  outer_frame.instruction = outer_code.code + 3;
  outer_frame.owner = kThread;
  inner_frame.executable = reinterpret_cast<uintptr_t>(&inner_code);
  inner_frame.previous = &outer_frame;
  inner_frame.instruction = inner_code.code + 5;
  inner_frame.owner = kGenerator;
  thread_state.current_frame = &inner_frame;
  return &thread_state;
}

}  // namespace

PYTHON_EXPORT int Py_IsInitialized() { return 1; }
PYTHON_EXPORT int Py_IsFinalizing() { return finalizing; }
PYTHON_EXPORT const char* Py_GetVersion() { return "3.14.0 (main, Oct  7 2025, 12:00:00) [GCC 14.2.0]"; }
PYTHON_EXPORT void* PyGILState_GetThisThreadState() {
  static ThreadState* const state = Build();
  static int asked = 0;
  const char* const at = getenv("PYTHON_314_FINALIZES");
  if (at != nullptr && ++asked == atoi(at)) {
    finalizing = 1;
    mprotect(&given_back, sizeof(given_back), PROT_NONE);
  }
  return state;
}
PYTHON_EXPORT int PyGILState_Check() { return 0; }
// A line for each instruction of two bytes.
PYTHON_EXPORT int PyCode_Addr2Line(Code* code, int offset) { return code->first_line + offset / 2; }
