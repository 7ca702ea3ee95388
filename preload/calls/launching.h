// The hooks of calls_launching.inc, and what stands in for an allocation whose kind is changed.
#pragma once

#include "preload/calls/functions.h"
#include "preload/doors/targets.h"

namespace uvmtrace {

// Null: no row of calls_launching.inc.
void* LaunchingHook(FunctionId id, Way way);

// What to call in the place of cuMemAlloc_v2 or cuMemAllocManaged, with the same signature: it makes the allocation as
// the apply file wants it, or as the program does. `real` if no change concerns allocations.
void* AllocationAsApplied(FunctionId id, void* real);

}  // namespace uvmtrace
