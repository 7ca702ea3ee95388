// The doors by which a host comes to a CUDA function, and what it is given instead.
//
//   slots that the linker bound                    slots.h
//   dlsym, dlvsym                                  dlsym.S, FilterLookup
//   cuGetProcAddress, both ABIs                    lookups.inc
//   cudaGetDriverEntryPoint, ...ByVersion          lookups.inc
//
// A pointer is replaced only if it is the function that the list means: by address, after the real look-up. Another
// preloaded tool's answer in place of it stays in force: our hook goes on to the tool's function.
#pragma once

#include "preload/calls/functions.h"
#include "preload/doors/targets.h"

namespace uvmtrace {

// The hook of a row of lookups.inc; null for any other id.
void* LookupHook(FunctionId id, Way way);

}  // namespace uvmtrace
