// A CPython in this process: its functions, its version, and in which way its frames may be read.
//
// Nothing is linked: everything is looked up in the program or in a libpython. The decision is made from what can be
// known without touching an object of the interpreter's; a layout is then still to be checked (python_stack.cc).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "preload/stacks/python_layout.h"

namespace uvmtrace {

struct PythonObject;  // PyObject, PyThreadState and what else is only pointed to

// Functions and types of the interpreter; a null pointer is one that this version lacks.
struct PythonApi {
  int (*is_initialized)();
  int (*is_finalizing)();
  const char* (*version)();
  PythonObject* (*this_thread_state)();  // PyGILState_GetThisThreadState
  PythonObject* (*current_thread_state)();
  int (*gil_held)();  // PyGILState_Check
  PythonObject* (*frame_of)(PythonObject* thread_state);
  PythonObject* (*frame_back)(PythonObject* frame);
  PythonObject* (*frame_code)(PythonObject* frame);
  int (*frame_line)(PythonObject* frame);
  int (*address_to_line)(PythonObject* code, int offset);
  PythonObject* (*attribute)(PythonObject* object, const char* name);
  const char* (*as_utf8)(PythonObject* string, ssize_t* size);
  PythonObject* (*interpreter_of)(PythonObject* thread_state);
  PythonObject* (*main_interpreter)();
  void (*increment)(PythonObject* object);
  void (*decrement)(PythonObject* object);
  void (*fetch_error)(PythonObject** type, PythonObject** value, PythonObject** traceback);
  void (*restore_error)(PythonObject* type, PythonObject* value, PythonObject* traceback);
  int (*disable_collector)();
  int (*enable_collector)();
  const void* code_type;
  const void* string_type;
  bool free_threaded;  // a function is there that only builds without a GIL have
};

// False: there is no interpreter in this process, or only a part of one. Writes to `api` only if there is one.
bool FindPython(PythonApi* api);

// The source's state where stacks are had through the C API.
inline constexpr const char* kOnlyWithGil = "only of calls made while the thread holds the interpreter's lock";

// Whether the public C API suffices for stacks. `minor` is that of version 3.
bool ApiIsWhole(const PythonApi& api, int minor);

enum class PythonWay : uint8_t {
  kNotFound,   // no interpreter yet
  kRefused,    // one that is left alone
  kUnchecked,  // the layout is to be checked at the next stack
  kLayout,
  kApi,
};

struct PythonDecision {
  PythonWay way;  // kRefused, kUnchecked or kApi
  int minor;      // 0: not of the form 3.x
  const PythonLayout* layout;
  const char* reason;  // why it is refused; else what the source's state says
};

// How to read the frames of an interpreter that calls itself `version` (Py_GetVersion). Without a known layout the C
// API is left, for which nothing of a version needs to be known; without a GIL no other thread's work stands still, and
// neither way is safe.
PythonDecision DecidePython(std::string_view version, const PythonApi& api);

// For tests: takes another version's layout for this one's; one of a minor version 0 stands for "not known".
extern const PythonLayout* python_layout_for_tests;

}  // namespace uvmtrace
