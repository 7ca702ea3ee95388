// Where the real functions are.
//
// Nothing here calls the public dlsym: that is ours. The C library's own comes from dlvsym. Nothing here loads libcuda
// or libcudart: they are only found where the host program has loaded them. There is no lock, so a lookup may run in a
// signal handler, beneath the loader, or twice at once: whoever comes second stores the same pointers again.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/functions.h"

namespace uvmtrace {

using DlsymFunction = void* (*)(void* handle, const char* name);

// The C library's dlsym. Never null: without one the process could not have been linked with us.
DlsymFunction LibcDlsym();

// What a call through our exported symbol goes on to: the next definition in the global scope, as if we were not there,
// else the library's own.
extern constinit std::atomic<void*> next_functions[kFunctionsEnd];
// The function in libcuda or libcudart itself: what a looked-up pointer is compared with, and goes on to.
extern constinit std::atomic<void*> library_functions[kFunctionsEnd];

// Null if the library is not in the process, with one line on stderr for each function.
void* ResolveNext(FunctionId id);

// Null if the library is not in the process or has no such function.
void* ResolveLibrary(FunctionId id);

// Which function of the list `pointer` is, or kNoFunction. `name` is what was asked for: it tells functions apart that
// share one address.
FunctionId FindDriverPointer(const char* name, const void* pointer);

// For a pointer that dlsym returned for the name of a runtime function: it is taken for the library's own if it lies in
// a file called libcudart*, and no other libcudart came first.
bool IsRuntimeFunction(FunctionId id, void* pointer);

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

// Whether an address lies in this library.
bool IsOwnAddress(const void* address);

// Whether an address lies in CUPTI or in a library beneath it: its own calls are not the program's.
bool IsCuptiAddress(const void* address);

}  // namespace uvmtrace
