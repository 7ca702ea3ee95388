// A program linked with libcudart that ends, forks and starts threads in every way that a profiler must survive.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "preload/calls/cuda_api.h"
#include "tests/programs/host.h"

namespace {

char* program = nullptr;

void Work() {
  void* device = nullptr;
  void* managed = nullptr;
  Check(cudaMalloc(&device, 1000) == cudaSuccess, "cudaMalloc");
  Check(cudaMallocManaged(&managed, 1 << 20, 1) == cudaSuccess, "cudaMallocManaged");
  static_cast<char*>(managed)[0] = 1;
  Check(cudaFree(device) == cudaSuccess, "cudaFree");
  Check(cudaFree(managed) == cudaSuccess, "cudaFree of managed memory");
}

int Worked(int status) {
  Work();
  printf("worked\n");
  return status;
}

int Wait(pid_t child) {
  int status = 0;
  Check(waitpid(child, &status, 0) == child, "waitpid");
  printf("child %s %d\n", WIFEXITED(status) ? "exited" : "was killed by",
         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  return status == 0 ? 0 : 1;
}

void* KeepCalling(void*) {
  for (;;) {
    void* pointer = nullptr;
    if (cudaMalloc(&pointer, 64) == cudaSuccess) cudaFree(pointer);
  }
  return nullptr;
}

// A vfork child may exec or _exit and nothing else.
int VforkExit() {
  Work();
  const pid_t child = vfork();
  if (child == 0) _exit(9);
  Wait(child);
  Work();
  return 0;
}

int VforkExec() {
  Work();
  const pid_t child = vfork();
  if (child == 0) {
    execl("/bin/true", "true", nullptr);
    _exit(127);
  }
  const int result = Wait(child);
  Work();
  return result;
}

int ForkAfter() {
  Work();
  const pid_t child = fork();
  if (child == 0) exit(Worked(0));
  const int result = Wait(child);
  Work();
  return result;
}

int ForkBefore() {
  const pid_t child = fork();
  if (child == 0) _exit(Worked(0));
  const int result = Wait(child);
  Work();
  return result;
}

int ForkIdle() {
  Work();
  const pid_t child = fork();
  if (child == 0) exit(0);  // makes no CUDA call: must leave the parent's file alone
  const int result = Wait(child);
  Work();
  return result;
}

// Past every pthread_atfork handler.
int RawClone() {
  Work();
  const pid_t child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (child == 0) {
    Work();
    _exit(0);
  }
  const int result = Wait(child);
  Work();
  return result;
}

int ForkWithBusyThreads() {
  pthread_t threads[3];
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, &KeepCalling, nullptr);
  Work();
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    if (child == 0) exit(Worked(0));
    if (Wait(child) != 0) return 1;
  }
  return 0;
}

int ForkExec() {
  Work();
  const pid_t child = fork();
  if (child == 0) {
    execl(program, program, "normal", nullptr);
    _exit(127);
  }
  return Wait(child);
}

int ThreadAlive() {
  pthread_t threads[2];
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, &KeepCalling, nullptr);
  Work();
  usleep(20'000);
  return 0;
}

int ThreadExits() {
  Work();
  std::thread([] {
    Work();
    exit(7);
  }).join();
  return 0;
}

int TwoThreadsExit() {
  Work();
  std::vector<std::thread> threads;
  threads.emplace_back([] { _exit(11); });
  threads.emplace_back([] { _exit(11); });
  for (std::thread& thread : threads) thread.join();
  return 0;
}

void CallAtExit() {
  Work();
  printf("called at exit\n");
}

int AtExit() {
  atexit(&CallAtExit);  // before CUDA is initialised, so it runs after everything of CUDA's and ours
  Work();
  return 0;
}

struct CallsInDestructor {
  ~CallsInDestructor() { cudaFree(nullptr); }
};

int ThreadLocalDestructor() {
  std::thread([] {
    thread_local CallsInDestructor calls;
    static_cast<void>(calls);
    Work();
  }).join();
  return 0;
}

int Errno() {
  errno = 77;
  void* pointer = nullptr;
  Check(cudaMallocManaged(&pointer, 4096, 1) == cudaSuccess, "cudaMallocManaged");
  printf("errno is %d\n", errno);
  errno = 78;
  cudaFree(pointer);
  printf("errno is %d\n", errno);
  return 0;
}

// Other threads find the session starting.
int StartTogether() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back(&Work);
  for (std::thread& thread : threads) thread.join();
  return 0;
}

int CloseFrom() {
  Work();
  usleep(120'000);
  for (int descriptor = 3; descriptor < 1024; ++descriptor) close(descriptor);
  // The same descriptors are now the host's: not a byte of ours may go there.
  std::vector<FILE*> files;
  for (int i = 0; i < 20; ++i) files.push_back(fopen(("victim." + std::to_string(i)).c_str(), "w"));
  Work();
  usleep(120'000);
  for (FILE* file : files) fclose(file);
  return 0;
}

int FileSizeLimit() {
  signal(SIGXFSZ, SIG_DFL);
  const rlimit limit{1000, 1000};
  setrlimit(RLIMIT_FSIZE, &limit);
  return Worked(0);
}

int ChangeFolder() {
  Work();
  Check(chdir("/") == 0, "chdir");
  Work();
  return 0;
}

int SleepThen(int signal_number) {
  Work();
  usleep(250'000);
  raise(signal_number);
  return 0;
}

int Failing() {
  void* pointer = reinterpret_cast<void*>(0x1234);
  printf("cudaMalloc of nothing: %d\n", cudaMalloc(&pointer, 0));
  printf("cudaMalloc into nowhere: %d\n", cudaMalloc(nullptr, 64));
  printf("pointer is still %p\n", pointer);
  printf("cudaFree: %d\n", cudaFree(reinterpret_cast<void*>(0xbad)));
  return 0;
}

int SignalMask() {
  Work();
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  int blocked = 0;
  for (int signal_number = 1; signal_number < 32; ++signal_number) blocked += sigismember(&mask, signal_number);
  printf("%d signals are blocked\n", blocked);
  for (int signal_number = 1; signal_number < 32; ++signal_number) {
    struct sigaction action {};
    sigaction(signal_number, nullptr, &action);
    if (action.sa_handler != SIG_DFL) printf("signal %d has a handler\n", signal_number);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  const Scenarios scenarios = {
      {"normal", [] { return Worked(0); }},
      {"exit3",
       [] {
         Work();
         exit(3);
         return 0;
       }},
      {"_exit4",
       [] {
         Work();
         _exit(4);
         return 0;
       }},
      {"_Exit5",
       [] {
         Work();
         _Exit(5);
         return 0;
       }},
      {"quick_exit6",
       [] {
         Work();
         quick_exit(6);
         return 0;
       }},
      {"abort",
       [] {
         Work();
         abort();
         return 0;
       }},
      {"throw",
       []() -> int {
         Work();
         throw std::runtime_error("nobody catches this");
       }},
      {"segv", [] { return SleepThen(SIGSEGV); }},
      {"sigterm", [] { return SleepThen(SIGTERM); }},
      {"sigkill", [] { return SleepThen(SIGKILL); }},
      {"fork_before", &ForkBefore},
      {"fork_after", &ForkAfter},
      {"fork_idle", &ForkIdle},
      {"fork_busy", &ForkWithBusyThreads},
      {"fork_exec", &ForkExec},
      {"raw_clone", &RawClone},
      {"vfork_exec", &VforkExec},
      {"vfork_exit", &VforkExit},
      {"thread_alive", &ThreadAlive},
      {"thread_exits", &ThreadExits},
      {"two_threads_exit", &TwoThreadsExit},
      {"thread_local_destructor", &ThreadLocalDestructor},
      {"start_together", &StartTogether},
      {"atexit", &AtExit},
      {"errno", &Errno},
      {"closefrom", &CloseFrom},
      {"file_size_limit", &FileSizeLimit},
      {"chdir", &ChangeFolder},
      {"failing", &Failing},
      {"signal_mask", &SignalMask},
  };
  return RunScenario(scenarios, argc, argv);
}
