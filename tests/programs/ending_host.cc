// A program that ends in every way, with and without signal handlers of its own.
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <exception>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/programs/work.h"

namespace {

char* program = nullptr;

void Say(const char* text) { static_cast<void>(!write(STDOUT_FILENO, text, strlen(text))); }

void Handle(int signal_number, void (*handler)(int), int flags = 0) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  Check(sigaction(signal_number, &action, nullptr) == 0, "sigaction");
}

volatile uintptr_t nowhere = 8;
void Crash() { *reinterpret_cast<volatile int*>(nowhere) = 1; }

// Beyond the writer's period: what was recorded before is in the file.
void Rest() { usleep(150'000); }

int CrashHandledByExit() {
  Handle(SIGSEGV, [](int) {
    Say("handled\n");
    _exit(42);
  });
  Work();
  Crash();
  return 0;
}

sigjmp_buf before_crash;

int CrashSurvived() {
  Handle(SIGSEGV, [](int) { siglongjmp(before_crash, 1); });
  Work();
  if (sigsetjmp(before_crash, 1) == 0) Crash();
  Say("survived\n");
  Work();
  return 0;
}

// What a crash reporter does: on a stack of its own, then once more without it.
int CrashReported() {
  static char stack[64 * 1024];
  const stack_t alternate{stack, 0, sizeof(stack)};
  Check(sigaltstack(&alternate, nullptr) == 0, "sigaltstack");
  Handle(
      SIGSEGV,
      [](int signal_number) {
        Say("reported\n");
        signal(signal_number, SIG_DFL);
      },
      SA_ONSTACK);
  Work();
  Rest();
  Crash();
  return 0;
}

int StackOverflow(int depth) {
  volatile char space[4096];
  space[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : StackOverflow(depth + 1) + space[0];
}

int DieOf(int signal_number) {
  signal(signal_number, SIG_DFL);  // a shell's background job ignores some
  Work();
  Rest();
  raise(signal_number);
  Rest();
  return 0;
}

int Terminated(void (*handler)(int)) {
  Handle(SIGTERM, handler);
  Work();
  raise(SIGTERM);
  return 0;
}

// A recorded call, with its stack, in which the stand-in does not allocate: exit may free memory, so a handler that
// calls it must not have interrupted malloc.
void FreeNothingForEver() {
  for (;;) cudaFree(nullptr);
}

// The handler ends the process while the thread is inside a recorded call.
int EndedInsideACall(void (*handler)(int), void (*call_for_ever)()) {
  Handle(SIGALRM, handler);
  Work();
  const itimerval timer{{0, 0}, {0, 30'000}};
  Check(setitimer(ITIMER_REAL, &timer, nullptr) == 0, "setitimer");
  call_for_ever();
  return 0;
}

int ExitWhileThreadsAllocate(void (*end)(int)) {
  pthread_t threads[8];
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, &AllocateForEver, nullptr);
  Work();
  usleep(30'000);
  end(3);
  return 0;
}

int AbortHandled() {
  Handle(SIGABRT, [](int) { Say("aborting\n"); });
  Work();
  Rest();
  abort();
}

int TerminateHandled() {
  std::set_terminate([] {
    Say("terminating\n");
    _exit(9);
  });
  Work();
  throw std::runtime_error("nobody catches this");
}

int DeviceReset() {
  const auto reset = reinterpret_cast<cudaError_t (*)()>(dlsym(RTLD_DEFAULT, "cudaDeviceReset"));
  if (reset == nullptr) return 77;  // the stand-ins may not have it
  Work();
  printf("cudaDeviceReset: %d\n", reset());
  Work();
  return 0;
}

// A plugin that brings CUDA in and is unloaded again.
int Unload() {
  for (int i = 0; i < 3; ++i) {
    void* const library = dlopen(TEST_LIBRARY_DIR "/libplugin.so", RTLD_NOW | RTLD_LOCAL);
    Check(library != nullptr, dlerror());
    const auto work = reinterpret_cast<int (*)()>(dlsym(library, "PluginWork"));
    printf("plugin: %d\n", work());
    printf("dlclose: %d\n", dlclose(library));
  }
  return 0;
}

void WorkAtQuickExit() {
  Work();
  Say("worked at quick_exit\n");
}

int QuickExitHandler() {
  Work();
  at_quick_exit(&WorkAtQuickExit);
  quick_exit(6);
}

// The process ends with its last thread.
int MainThreadEndsFirst() {
  Work();
  std::thread([] {
    usleep(50'000);
    Work();
  }).detach();
  pthread_exit(nullptr);
}

int RawExit() {
  Work();
  Rest();
  syscall(SYS_exit_group, 8);
  return 0;
}

void ExitAgain() { exit(12); }

int ExitInAnExitHandler() {
  Work();
  atexit(&ExitAgain);
  return 0;
}

struct WorksAtTheEnd {
  ~WorksAtTheEnd() {
    if (active) Work();
  }
  bool active = false;
} works_at_the_end;

int StaticDestructor() {
  works_at_the_end.active = true;
  Work();
  return 0;
}

int StoppedAndContinued() {
  Work();
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    usleep(100'000);
    kill(parent, SIGCONT);
    _exit(0);
  }
  raise(SIGSTOP);
  WaitFor(child);
  Work();
  return 0;
}

// Whether a core would have been written, and by which signal.
int CoreDump() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_CORE, &unlimited);
  for (const int signal_number : {SIGABRT, SIGSEGV, SIGTERM}) {
    const pid_t child = fork();
    if (child == 0) {
      Work();
      raise(signal_number);
      _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("signal %d, core %d\n", WTERMSIG(status), WCOREDUMP(status) != 0);
  }
  return 0;
}

int KilledBySomebodyElse() {
  int ready[2];
  Check(pipe(ready) == 0, "pipe");
  const pid_t child = fork();
  if (child == 0) {
    Work();
    Rest();
    Check(write(ready[1], "", 1) == 1, "write");
    for (;;) pause();
  }
  char byte;
  Check(read(ready[0], &byte, 1) == 1, "read");
  kill(child, SIGKILL);
  WaitFor(child);
  return 0;
}

int ThreadCancelled() {
  std::vector<pthread_t> threads(4);
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, &AllocateForEver, nullptr);
  usleep(20'000);
  for (const pthread_t thread : threads) {
    pthread_cancel(thread);
    // Nothing in the loop is a cancellation point, with us or without.
  }
  Work();
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  const Scenarios scenarios = {
      {"crash_handled_by_exit", &CrashHandledByExit},
      {"crash_survived", &CrashSurvived},
      {"crash_reported", &CrashReported},
      {"stack_overflow",
       [] {
         Work();
         Rest();
         return StackOverflow(0);
       }},
      {"sigint", [] { return DieOf(SIGINT); }},
      {"sigquit", [] { return DieOf(SIGQUIT); }},
      {"sigpipe", [] { return DieOf(SIGPIPE); }},
      {"sigalrm", [] { return DieOf(SIGALRM); }},
      {"sigterm_handled_by_exit", [] { return Terminated([](int) { exit(5); }); }},
      {"sigterm_handled_by__exit", [] { return Terminated([](int) { _exit(6); }); }},
      {"sigterm_handled_by_return", [] { return Terminated([](int) { Say("not now\n"); }); }},
      {"exit_inside_a_call", [] { return EndedInsideACall([](int) { exit(7); }, &FreeNothingForEver); }},
      {"_exit_inside_a_call", [] { return EndedInsideACall([](int) { _exit(8); }, [] { AllocateForEver(nullptr); }); }},
      {"death_inside_a_call", [] { return EndedInsideACall(SIG_DFL, [] { AllocateForEver(nullptr); }); }},
      {"exit_while_threads_allocate", [] { return ExitWhileThreadsAllocate(&exit); }},
      {"_exit_while_threads_allocate", [] { return ExitWhileThreadsAllocate(&_exit); }},
      {"quick_exit_while_threads_allocate", [] { return ExitWhileThreadsAllocate(&quick_exit); }},
      {"abort_handled", &AbortHandled},
      {"terminate_handled", &TerminateHandled},
      {"device_reset", &DeviceReset},
      {"unload", &Unload},
      {"quick_exit_handler", &QuickExitHandler},
      {"main_thread_ends_first", &MainThreadEndsFirst},
      {"raw_exit", &RawExit},
      {"exit_in_an_exit_handler", &ExitInAnExitHandler},
      {"static_destructor", &StaticDestructor},
      {"stopped_and_continued", &StoppedAndContinued},
      {"core_dump", &CoreDump},
      {"killed_by_somebody_else", &KilledBySomebodyElse},
      {"thread_cancelled", &ThreadCancelled},
  };
  return RunScenario(scenarios, argc, argv);
}
