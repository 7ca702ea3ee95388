// Catches the CPU's touches of managed memory that lies on the GPU: a SIGSEGV handler in front of the host program's
// own.
#pragma once

namespace uvmsim {

// Puts our handler first, unless it is already. Called at every managed allocation and launch: a program that installs
// its own handler after ours, and does not hand faults on, would otherwise crash at its next touch of managed memory.
void EnsureCpuFaultHandler();

}  // namespace uvmsim
