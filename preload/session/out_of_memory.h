// What there was when an allocation failed. The program may end a moment later, so the trace is on disk when the call
// returns.
#pragma once

#include <cstdint>

#include "record/event.h"

namespace uvmtrace {

// cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY.
constexpr bool IsOutOfMemory(int32_t result) { return result == 2; }

// Call after the call's own event was recorded, in its thread, inside InternalWork or an intercepted call. Asks the
// driver and /proc, and waits at most 200 ms for the file. A program that allocates until it fails gets 100 of these,
// and then one a second; the others are counted as losses of "allocation_failures".
void RecordAllocationFailure(const ApiCallEvent& call);

// In a forked child.
void ForgetAllocationFailures();

}  // namespace uvmtrace
