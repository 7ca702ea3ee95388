// The ways into and out of a process that are not CUDA calls.
//
// exit() runs the library's destructor. _exit and _Exit run nothing, so they are interposed: they write what is left,
// within two seconds, and then end the process as before. A child of vfork, or of fork without a session of its own,
// goes straight through. Death by signal is left alone: the file is complete up to the writer's last round.
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/doors/resolve.h"
#include "preload/session/session.h"

#define UVMTRACE_EXPORT __attribute__((visibility("default")))

namespace uvmtrace {
namespace {

// Not the C library's _exit: to find it would take the loader's lock, which a forked child may find locked for ever.
[[noreturn]] void ExitNow(int status) {
  for (;;) syscall(SYS_exit_group, status);
}

__attribute__((destructor)) void FinishAtUnload() { FinishSession(); }

// Whether our symbols stand before those of the C library, as they do when preloaded or linked.
bool Preloaded() { return IsOwnAddress(LibcDlsym()(RTLD_DEFAULT, "dlsym")); }

}  // namespace

extern "C" UVMTRACE_EXPORT void InterposedExit(int status) asm("_exit");
extern "C" UVMTRACE_EXPORT void InterposedUpperExit(int status) asm("_Exit");

void InterposedExit(int status) {
  FinishSession();
  ExitNow(status);
}

void InterposedUpperExit(int status) {
  FinishSession();
  ExitNow(status);
}

// Called by the driver when CUDA_INJECTION64_PATH names this library. 1 means success.
extern "C" UVMTRACE_EXPORT int InitializeInjection() {
  if (!Preloaded()) StartInjectedSession();
  return 1;
}

}  // namespace uvmtrace
