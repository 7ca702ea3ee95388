// Managed memory that no call allocates.
//
// A __managed__ variable is allocated when the program's GPU code is loaded into a context; on a device with pageable
// memory access (HMM, ATS) all memory is reachable from the first context on, and faults and migrates. The sources must
// be up before either is touched, and nobody calls anything that says so. What can be seen:
//
//   __cudaRegisterManagedVar   a shared libcudart exports it; the program's own start-up code calls it, before main.
//                              Only remembered: nothing is started before the program's first CUDA call. A library that
//                              is loaded later calls it before its slots are scanned: its variables are found below
//   __cudaInitModule           exported as well; every function that names a variable calls it before it touches it.
//                              Once it returns, the variable's address is known and becomes an allocation of the trace
//   a context is created       then the sources start, if such a variable is registered or such a device is there
//   cuModuleGetGlobal, cuLibraryGetGlobal, cuLibraryGetManaged
//                              a statically linked libcudart asks for each variable's address; the driver is asked
//                              whether it is managed, and if so the variable becomes an allocation of the trace, under
//                              the name of kFunction_ManagedVariable
//
// A variable lives until its module is unloaded, which is not followed: it counts as alive for good.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/calls/describe.h"
#include "preload/doors/targets.h"

namespace uvmtrace {

// A context exists. Runs beneath whatever created it, which may hold a lock of the runtime's: see sources_wanted.
void ContextCreated();

// A variable of a module was found. `name` is as the program's code has it, or mangled; may be null.
void GlobalFound(uint64_t address, uint64_t bytes, const char* name, const CallSite& call);

// The hook of either of the first two; null for any other id.
void* ManagedVariableHook(FunctionId id, Way way);

// Whether the driver says that an address is managed memory.
bool IsManagedAddress(uint64_t address);

// Set when the sources are to start as soon as the outermost call has returned: starting CUPTI beneath a runtime that
// is initialising itself would call back into it.
extern constinit std::atomic<bool> sources_wanted;
void StartWantedSources();

}  // namespace uvmtrace
