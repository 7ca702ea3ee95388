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

// What a file is to the doors, by its name.
enum class FileKind : uint8_t {
  kOther,
  kDriver,    // libcuda.so*
  kRuntime,   // libcudart*
  kInternal,  // CUPTI, the driver's other files, and UCX's patcher: their calls are not the program's
};
FileKind KindOfFile(const char* name);
// The kind of the file that holds an address.
FileKind KindOfAddress(const void* address);

// The function in libcuda itself; null if libcuda is not in the process or has no such function.
void* DriverFunction(FunctionId id);

// Which function of the list `pointer` is, or kNoFunction. `name` is what was asked for: it tells functions apart that
// share one address.
FunctionId FindDriverPointer(const char* name, const void* pointer);

// Whether `function` is one that libcuda or a libcudart defines under the name of `id`.
bool IsCudaFunction(FunctionId id, const void* function);

// Whether an address lies in a file called libcudart*.
bool IsRuntimeAddress(const void* address);

// A symbol of the file that holds `function`.
void* SymbolBeside(const void* function, const char* name);

// Keeps each libcudart that calls go to from being unloaded: our hooks hold its addresses.
void PinTargets();

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

}  // namespace uvmtrace
