// Where the real functions are.
//
// Nothing here calls the public dlsym or dlvsym: they are ours. The C library's own come from libc_symbols.h. Nothing
// here loads libcuda or libcudart: they are only found where the host program has loaded them. There is no lock, so a
// lookup may run in a signal handler, beneath the loader, or twice at once: whoever comes second stores the same
// pointers again.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/calls/functions.h"
#include "preload/doors/libc_symbols.h"

namespace uvmtrace {

// A handle of a library that is loaded already; null if it is not. Keeps errno.
void* OpenLoaded(const char* name);

// What a call through our exported symbol goes on to: the next definition in the global scope, as if we were not there,
// else the library's own.
extern constinit std::atomic<void*> next_functions[kFunctionsEnd];
// The function in libcuda or libcudart itself: what a looked-up pointer is compared with, and goes on to.
extern constinit std::atomic<void*> library_functions[kFunctionsEnd];
// The same in a second libcudart of this process.
extern constinit std::atomic<void*> second_runtime_functions[kFunctionsEnd];

// Null if the library is not in the process, with one line on stderr for each function.
void* ResolveNext(FunctionId id);

// Null if the library is not in the process or has no such function.
void* ResolveLibrary(FunctionId id);

// Which function of the list `pointer` is, or kNoFunction. `name` is what was asked for: it tells functions apart that
// share one address.
FunctionId FindDriverPointer(const char* name, const void* pointer);

// For a pointer that dlsym returned for the name of a runtime function: whose it is. It is taken for a runtime's own if
// it lies in a file called libcudart*. A third runtime is kNone, and told.
enum class RuntimeLibrary { kNone, kFirst, kSecond };
RuntimeLibrary RuntimeOf(FunctionId id, void* pointer);

// Whether an address lies in a file called libcudart*.
bool IsRuntimeAddress(const void* address);

// A function that calls through our symbol went to.
void NoteRuntimeFunction(FunctionId id, void* function);

// A symbol of the file that holds `function`.
void* SymbolBeside(const void* function, const char* name);

// libcuda's handle, null while it is not in the process.
void* DriverHandle();
// Whether it was found so far, without looking.
bool DriverSeen();
void* DriverSymbol(const char* name);

// cudaRuntimeGetVersion of the libcudart that holds `function`; 0 if that is none.
int RuntimeVersionOf(const void* function);

// File of a libcudart that calls go to, null if none was seen.
const char* RuntimePath();
int RuntimeVersion();

// Whether an address lies in the driver, or in CUPTI and beneath it: what they look up is not the program's, and the
// driver of WSL looks itself up.
bool IsCudaInternal(const void* address);

}  // namespace uvmtrace
