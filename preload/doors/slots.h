// How we get in front of CUDA functions that the linker bound: by the caller's own pointer, not by a symbol of ours.
//
// A call of a library's function goes through a slot, a pointer in the caller's file that the loader fills in. When a
// slot holds a function of libcuda or libcudart that is in the list, our hook takes its place. This library exports no
// function of CUDA, so it never answers for a library that is not there: weak references stay null, look-ups find what
// they would find without us, a library's own functions or variables of these names stay its own, and another preloaded
// tool is called as before. docs/architecture.md says what else was considered.
//
// Slots are looked at when the program starts and whenever files were loaded since: after a dlopen that may be called
// from here, and else at the program's next dlsym or intercepted call.
#pragma once

#include <atomic>

namespace uvmtrace {

// Looks at the slots of files that were loaded since the last time. Any thread; keeps errno.
void ScanSlots();

inline void ScanSlotsIfOutdated();

// Call first in a forked child.
void ForgetSlotScan();

}  // namespace uvmtrace

// Set when files may have been loaded without a scan. Also read by dlsym.S.
extern "C" __attribute__((visibility("hidden"))) std::atomic<bool> uvmtrace_slots_outdated;

namespace uvmtrace {

inline void ScanSlotsIfOutdated() {
  if (uvmtrace_slots_outdated.load(std::memory_order_relaxed)) [[unlikely]]
    ScanSlots();
}

}  // namespace uvmtrace
