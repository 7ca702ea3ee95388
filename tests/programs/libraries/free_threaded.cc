// What a free-threaded CPython looks like from outside, as far as it may be touched: its version. Anything else that is
// asked of it ends the program.
#include <stdlib.h>

#define PYTHON_EXPORT extern "C" __attribute__((visibility("default")))

PYTHON_EXPORT int Py_IsInitialized() { return 1; }
PYTHON_EXPORT const char* Py_GetVersion() {
  return "3.14.0 free-threading build (main, Oct  7 2025, 12:00:00) [GCC 14.2.0]";
}
PYTHON_EXPORT void* PyGILState_GetThisThreadState() { abort(); }
PYTHON_EXPORT int PyGILState_Check() { abort(); }
