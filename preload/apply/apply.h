// Makes the changes of an apply file while the program runs.
//
// At an allocation   one whose stack is a path of the file is remembered, and gets its advice; before it is made,
//                    "allocate" may make it of another kind
// Before a launch    each remembered allocation that an argument of the kernel points into is brought to the GPU, in
//                    the launch's own stream. The driver tells the sizes of a kernel's parameters from CUDA 12.4 on,
//                    and every 8 bytes of every parameter are compared with the remembered addresses. What a kernel
//                    reaches through a pointer in memory is not seen. An older driver cannot be asked: then every
//                    remembered allocation is taken as used.
// After a launch     "prefetch host" sends it back
//
// A prefetch that would find the memory on the GPU is left out. Memory that was brought there can leave because the CPU
// touches it, because a call moves it, or because the GPU runs out of room. The CPU may touch what a kernel uses only
// after the program has waited for it, or the program has a data race. So there is no second prefetch of an allocation
// until the program waits (for a stream, an event, the context, by asking whether work is done, by a copy), calls for
// this memory itself, or more has been brought in since than the GPU had room for.
//
// Nothing here changes what the host sees: no result, no errno, no error that stays, nothing in a stream that is
// captured. Without a file the cost is a load of one word for each call.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "preload/calls/cuda_api.h"
#include "preload/calls/functions.h"
#include "record/event.h"

namespace uvmtrace {

extern constinit std::atomic<bool> apply_active;

inline bool ApplyActive() { return apply_active.load(std::memory_order_relaxed); }

// At the start of a session: reads the file that UVMTRACE_APPLY names, if it names one.
void StartApply();
// At its end, and now and then: tells what became of each change.
void TellApply();
// Call first in a forked child.
void ForgetApply();

// Whether calls that allocate are to be looked at before they are made.
bool ApplyChangesAllocations();
// What kind the allocation of this stack is to be; kUnknown: as the program says. `apart`: on pages of its own.
MemoryKind KindToAllocate(std::span<const uint64_t> native, std::span<const uint64_t> python, bool* apart);

// After a successful allocation that is the program's outermost call.
void ApplyAtAllocation(const ApiCallEvent& call, std::span<const uint64_t> native, std::span<const uint64_t> python);
void ApplyAtVariable(std::string_view name, uint64_t address, uint64_t bytes);
// Before the memory is freed.
void ApplyAtFree(uint64_t address);
// A call of the program's: one that waits or may have moved memory.
void ApplyAtCall(Operation operation, uint64_t address, uint64_t other_address);
// Contexts went, and all memory with them.
void ApplyAtReset();

struct Launch {
  CUfunction function;
  CUstream stream;
  void** arguments;
  void** extra;
};
// What is done after the launch. Made by the first, used up by the second.
struct LaunchSequel {
  uint64_t send_back[8];
  int send_backs = 0;
  uint64_t ahead = 0;  // the allocation that is expected next
};
void ApplyBeforeLaunch(const Launch& launch, LaunchSequel* sequel);
void ApplyAfterLaunch(const Launch& launch, bool launched, const LaunchSequel& sequel);
// The program has waited for the GPU, or asked it.
void ApplyAtWait();

}  // namespace uvmtrace
