// Memory of the host that GPUs reach in place: pinned and registered, and managed memory that advice keeps there. While
// there is enough of it the links are sampled; when there is much of it, kernels and copies are recorded.
#pragma once

#include <cstdint>

#include "preload/calls/functions.h"
#include "record/event.h"

namespace uvmtrace {

// After a call that succeeded, in its thread. Nearly all calls cost a comparison.
void SeeHostMemory(const ApiCallEvent& call, FunctionId id);

// Whether there has been so much that kernels are to be recorded.
bool KernelSourcesWanted();

// In a forked child.
void ForgetHostMemory();

}  // namespace uvmtrace
