// Whether this process was asked to change what the program does with its memory: UVMTRACE_APPLY names a file. Asked by
// the doors before anything else of the library has started.
#pragma once

namespace uvmtrace {

// The file's name; null: nothing is to be changed. Reads the environment once. Any thread, under the loader's lock too.
const char* ApplyPathWanted();

inline bool ApplyWanted() { return ApplyPathWanted() != nullptr; }

}  // namespace uvmtrace
