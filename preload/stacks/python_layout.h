// Where CPython keeps a thread's frames and their code, by minor version, for 64-bit builds with a GIL.
//
// The numbers are offsets into structs of CPython's headers, which do not change within a minor version: PyThreadState
// (cpython/pystate.h), _PyInterpreterFrame (internal/pycore_frame.h; before 3.11 PyFrameObject), PyCodeObject
// (cpython/code.h), PyASCIIObject (cpython/unicodeobject.h).
#pragma once

#include <cstdint>

namespace uvmtrace {

struct PythonLayout {
  uint16_t minor;  // of version 3
  // PyThreadState: the innermost frame, or a struct (_PyCFrame) that points to it at `cframe_frame`.
  uint16_t thread_frame;
  int16_t cframe_frame;  // -1: there is no such struct
  // A frame.
  uint16_t frame_code;
  uint16_t frame_previous;
  uint16_t frame_instruction;  // a pointer; before 3.11 f_lasti, an int
  int16_t frame_owner;         // -1: every frame is a Python function's
  // PyCodeObject.
  uint16_t code_first_line;
  uint16_t code_file;
  uint16_t code_name;  // the qualified name from 3.11
  int16_t code_bytes;  // -1: f_lasti counts from the start of another object
  uint16_t code_first_traceable;
  // PyASCIIObject, and the struct of a string that is not ASCII.
  uint16_t ascii_bytes;
  uint16_t compact_bytes;
};

inline constexpr PythonLayout kPythonLayouts[] = {
    {9, 24, -1, 32, 24, 104, -1, 40, 104, 112, -1, 0, 48, 72},
    {10, 24, -1, 32, 24, 96, -1, 40, 104, 112, -1, 0, 48, 72},
    {11, 56, 8, 32, 48, 56, 69, 72, 112, 128, 184, 168, 48, 72},
    {12, 56, 0, 0, 8, 56, 70, 68, 112, 128, 192, 176, 40, 56},
    {13, 72, -1, 0, 8, 56, 70, 68, 112, 128, 200, 184, 40, 56},
    {14, 72, -1, 0, 8, 56, 74, 68, 112, 128, 208, 192, 40, 56},
};

// Frames with such an owner stand for C code that entered the interpreter (FRAME_OWNED_BY_CSTACK, 3.12 and later).
inline constexpr uint8_t kPythonOwnerCStack = 3;
inline constexpr uint8_t kPythonOwnerGenerator = 1;

}  // namespace uvmtrace
