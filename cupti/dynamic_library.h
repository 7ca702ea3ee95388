// Opening libraries and looking symbols up, without walking through libuvmtrace's own doors.
//
// libuvmtrace.so exports a dlsym that catches look-ups of CUDA calls. The recorder itself must never go through it: it
// would record its own look-ups, and recurse while the doors are still being set up.
#pragma once

namespace uvmtrace {

// libc's dlsym. null if the symbol is not there.
void* RealDlsym(void* handle, const char* name);

template <typename Function>
Function RealDlsymAs(void* handle, const char* name) {
  return reinterpret_cast<Function>(RealDlsym(handle, name));
}

}  // namespace uvmtrace
