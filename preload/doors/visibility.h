// What the doors cannot see, told to the trace.
//
// A library that is loaded with RTLD_DEEPBIND, or into a namespace of its own, binds past us: its calls by symbol, and
// all calls of a libcudart that is linked into it, go to CUDA without passing any door. That is the program's right;
// the report names the library. Loading happens before a session and in any thread, so it is remembered here and told
// when there is a trace.
#pragma once

namespace uvmtrace {

// dlopen was called with RTLD_DEEPBIND, or dlmopen for another namespace. `file` may be null.
void NoteDeepBind(const char* file);
void NoteNamespace(const char* file);

// Two functions of one name in two files called libcudart*, and calls go to either by who makes them.
void TellTwoRuntimes(const void* one, const void* other);
// A third libcudart: what is looked up there goes past us.
void TellThirdRuntime(const void* function);

// A call by symbol from a file that is linked with none of the several libcudart of this process.
void NoteUnclearCaller(const void* call_site);

// Everything that was noted so far. Once when a session starts.
void TellVisibility();

}  // namespace uvmtrace
