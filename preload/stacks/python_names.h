// Names of Python functions: from a code object to an id of Recorder::DefineCode, by its layout or through the C API.
#pragma once

#include <cstdint>
#include <cstring>

#include "preload/stacks/python_interpreter.h"

namespace uvmtrace {

template <typename T>
T ReadAt(const void* object, size_t offset) {
  T value;
  memcpy(&value, static_cast<const char*>(object) + offset, sizeof(value));
  return value;
}
inline const void* ReadPointer(const void* object, size_t offset) { return ReadAt<const void*>(object, offset); }
// Of an object's first words: reference count, type.
inline constexpr size_t kTypeOffset = 8;
inline const void* TypeOf(const void* object) { return ReadPointer(object, kTypeOffset); }

// Without the GIL. The code object stays while this runs, for a frame of this thread holds it.
uint32_t CodeIdByLayout(const PythonApi& python, const PythonLayout& layout, const void* code);

// With the GIL.
uint32_t CodeIdByApi(const PythonApi& python, int minor, PythonObject* code);

// In a forked child: ids of the parent's trace mean nothing in the child's.
void ForgetCodeIds();

// Words of PyASCIIObject that the check of a layout looks at too.
inline constexpr size_t kStringLengthOffset = 16;
inline constexpr size_t kStringHashOffset = 24;
inline constexpr size_t kStringStateOffset = 32;
inline constexpr uint32_t kStringIsCompact = 1u << 5;
inline constexpr uint32_t kStringIsAscii = 1u << 6;

}  // namespace uvmtrace
