// Ranges and marks of NVTX: see nvtx.cc.
#pragma once

namespace uvmtrace {

// Sets the state of the source "nvtx". At the start of a session, and again when NVTX is used.
void TellNvtx();

}  // namespace uvmtrace
