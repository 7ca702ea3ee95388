// The doors by which a host asks for a CUDA function's address, and what it is given instead.
//
//   dlsym, dlvsym(handle of libcuda or libcudart)  dlsym.S, FilterLookup
//   cuGetProcAddress, both ABIs                    lookups.inc
//   cudaGetDriverEntryPoint, ...ByVersion          lookups.inc
//
// A pointer is replaced only if it is the function that the list means: by address, after the real lookup.
#pragma once

#include "preload/calls/functions.h"
#include "preload/calls/hook.h"

namespace uvmtrace {

// Our function for a row of calls.inc.
void* CallHook(FunctionId id, Way way);

// Our function for a row of either list.
void* HookOf(FunctionId id, Way way);

// What to give to the host for a driver function that was asked for by `name`: `pointer` itself for most.
void* RouteDriverPointer(const char* name, void* pointer);

}  // namespace uvmtrace
