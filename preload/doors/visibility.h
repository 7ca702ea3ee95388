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

// The rest may be noted under the loader's lock: it is told by TellVisibilityIfNew.

// One function of the runtime at two addresses. A preloaded tool's is none of a libcudart.
void NoteTwoRuntimes(const void* one, const void* other);
// A third address of one function: what is called there passes no hook.
void NoteThirdTarget(const void* function);
// A function of the driver that the list does not know and should.
void NoteNewFunction(const char* symbol);
// A file whose slots could not be written.
void NoteUnpatchedFile(const char* file);

// Everything that was noted so far. Once when a session starts.
void TellVisibility();
// The same, if something was noted since. Not under the loader's lock.
void TellVisibilityIfNew();

}  // namespace uvmtrace
