// Call stacks of the host's threads, as return addresses.
//
// libunwind's cached walk takes about 100 ns a frame, libgcc's unwinder about a microsecond, so libunwind is preferred:
// a copy beside this library first, then the loader's path. Neither is linked: a host may carry its own, and a private
// copy (RTLD_LOCAL) shadows nothing of the host's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace uvmtrace {

// Finds an unwinder. Returns which one, or null with the reason in `reason`.
const char* OpenUnwinder(char* reason, size_t reason_size);

// In a child that may have inherited libunwind's lock from a thread that does not exist here: libgcc's unwinder, which
// takes none that matters, is used from now on.
void DistrustUnwinder();

// Fills `frames` with the return addresses of the calling thread, from the caller of the intercepted function outwards,
// and returns how many. Frames of this library are left out, by its address range.
size_t CaptureStack(std::span<uint64_t> frames);

}  // namespace uvmtrace
