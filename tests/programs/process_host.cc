// A program that becomes several processes in every way that there is.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "tests/programs/work.h"

namespace {

char* program = nullptr;

int WorkIn(pid_t child) {
  if (child != 0) return WaitFor(child);
  Work();
  _exit(0);
}

// The fork handler finds the recorder's locks held by threads that the child does not have.
int ForkFromThreadWhileOthersAllocate() {
  Work();  // CUDA's own start is not to be forked
  pthread_t busy[4];
  for (pthread_t& thread : busy) pthread_create(&thread, nullptr, &AllocateForEver, nullptr);
  int failed = 0;
  std::thread([&failed] {
    for (int i = 0; i < 6; ++i) failed += WorkIn(fork());
  }).join();
  _exit(failed);
}

// Straight to the driver: what starts in the runtime at its first call is not ours to fork.
void DriverWork(void* driver) {
  CUdeviceptr memory = 0;
  Check(reinterpret_cast<decltype(&cuInit)>(dlsym(driver, "cuInit"))(0) == CUDA_SUCCESS, "cuInit");
  const auto allocate = reinterpret_cast<decltype(&cuMemAllocManaged)>(dlsym(driver, "cuMemAllocManaged"));
  Check(allocate(&memory, 4096, 1) == CUDA_SUCCESS, "cuMemAllocManaged");
  Check(reinterpret_cast<decltype(&cuMemFree_v2)>(dlsym(driver, "cuMemFree_v2"))(memory) == CUDA_SUCCESS, "cuMemFree");
}

// The child's copy of a session that was half started.
int ForkWhileStarting() {
  int failed = 0;
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  Check(driver != nullptr, "libcuda.so.1");
  std::thread starter(&DriverWork, driver);
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      DriverWork(driver);
      _exit(0);
    }
    children.push_back(child);
    usleep(300);
  }
  for (const pid_t child : children) failed += WaitFor(child);
  starter.join();
  return failed;
}

int ForkChain(int depth) {
  Work();
  if (depth == 0) return 0;
  const pid_t child = fork();
  if (child == 0) exit(ForkChain(depth - 1));
  return WaitFor(child);
}

int ManyChildren() {
  Work();
  std::vector<pid_t> children;
  for (int i = 0; i < 12; ++i) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    Work();
    exit(0);
  }
  int failed = 0;
  for (const pid_t child : children) failed += WaitFor(child);
  return failed;
}

// Other threads, ours among them, are in the loader from time to time: the child must not inherit its lock.
int ForkBesideTheLoader() {
  int failed = 0;
  for (int i = 0; i < 20; ++i) {
    Work();
    usleep(static_cast<useconds_t>(40'000 + 2'000 * i));  // the recorder writes every 50 ms
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);
      Check(dlopen("libcudart.so.13", RTLD_NOW) != nullptr, "dlopen");
      Work();
      exit(0);
    }
    failed += WaitFor(child);
  }
  return failed;
}

// Twice forked with a session of its own in between, so that its parent is init. Returns once it is done.
template <typename Body>
void Daemonize(Body body) {
  int done[2];
  Check(pipe(done) == 0, "pipe");
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    if (fork() != 0) _exit(0);
    close(done[0]);
    const pid_t left = getppid();
    for (int i = 0; i < 200 && getppid() == left && left != 1; ++i) usleep(1000);
    body();
    exit(0);
  }
  close(done[1]);
  int status = 0;
  waitpid(child, &status, 0);
  char byte;
  Check(read(done[0], &byte, 1) == 0, "the daemon's end");
  close(done[0]);
}

int DaemonAfterWork() {
  Work();
  Daemonize(&Work);
  return 0;
}

// The program itself never calls CUDA, so nothing of ours is in its memory when it forks.
int DaemonsBeforeWork() {
  Daemonize(&Work);
  Daemonize(&Work);
  return 0;
}

int ParentDiesFirst() {
  Work();
  if (fork() == 0) {
    usleep(100'000);
    Work();
    exit(0);
  }
  return 0;
}

int NewSession() {
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    Work();
    exit(0);
  }
  const int failed = WaitFor(child);
  Work();
  return failed;
}

int Spawn(char** environment) {
  Work();
  char command[] = "work";
  char* arguments[] = {program, command, nullptr};
  pid_t child = 0;
  Check(posix_spawn(&child, program, nullptr, nullptr, arguments, environment) == 0, "posix_spawn");
  return WaitFor(child);
}

// The child is not preloaded, and finds CUDA's libraries all the same.
int SpawnWithoutEnvironment() {
  std::string libraries = std::string("LD_LIBRARY_PATH=") + getenv("LD_LIBRARY_PATH");
  char* environment[] = {libraries.data(), nullptr};
  return Spawn(environment);
}

int VforkExec() {
  Work();
  const pid_t child = vfork();
  if (child == 0) {
    execl(program, program, "work", nullptr);
    _exit(127);
  }
  const int failed = WaitFor(child);
  Work();
  return failed;
}

int Shell() {
  Work();
  const std::string command = std::string("'") + program + "' work; '" + program + "' work";
  return system(command.c_str());
}

int Pipe() {
  Work();
  FILE* const pipe = popen((std::string("'") + program + "' work").c_str(), "r");
  char line[100] = "";
  Check(pipe != nullptr && fgets(line, sizeof(line), pipe) != nullptr, "popen");
  printf("from the pipe: %s", line);
  return pclose(pipe);
}

int ExecItself() {
  Work();
  execl(program, program, "work", nullptr);
  return 127;
}

int ExecFromThread() {
  Work();
  std::thread([] { execl(program, program, "work", nullptr); }).join();
  return 127;
}

int Ranks() {
  int failed = 0;
  for (int rank = 0; rank < 3; ++rank) {
    const pid_t child = fork();
    if (child != 0) {
      failed += WaitFor(child);
      continue;
    }
    setenv("RANK", std::to_string(rank).c_str(), 1);
    setenv("LOCAL_RANK", std::to_string(rank % 2).c_str(), 1);
    setenv("OMPI_COMM_WORLD_RANK", "../../etc", 1);  // no number: somebody else's
    execl(program, program, "work", nullptr);
    _exit(127);
  }
  return failed;
}

// As in a container: the process is number 1, and /proc numbers it otherwise.
int FirstProcessOfANamespace() {
  Work();
  if (unshare(CLONE_NEWPID) != 0) return 77;
  const pid_t child = fork();
  if (child == 0) {
    printf("I am %d\n", static_cast<int>(getpid()));
    Work();
    exit(0);
  }
  return WaitFor(child);
}

// As a server does that drops everything of its past.
int CloseAllAndFork() {
  Work();
  const pid_t child = fork();
  if (child == 0) {
    for (int descriptor = 3; descriptor < 1024; ++descriptor) close(descriptor);
    Work();
    exit(0);
  }
  return WaitFor(child);
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  const Scenarios scenarios = {
      {"work",
       [] {
         Work();
         printf("worked\n");
         return 0;
       }},
      {"fork_from_thread", &ForkFromThreadWhileOthersAllocate},
      {"fork_while_starting", &ForkWhileStarting},
      {"fork_chain", [] { return ForkChain(3); }},
      {"many_children", &ManyChildren},
      {"fork_beside_the_loader", &ForkBesideTheLoader},
      {"daemon_after_work", &DaemonAfterWork},
      {"daemons_before_work", &DaemonsBeforeWork},
      {"parent_dies_first", &ParentDiesFirst},
      {"new_session", &NewSession},
      {"spawn", [] { return Spawn(environ); }},
      {"spawn_without_environment", &SpawnWithoutEnvironment},
      {"vfork_exec", &VforkExec},
      {"shell", &Shell},
      {"pipe", &Pipe},
      {"exec_itself", &ExecItself},
      {"exec_from_thread", &ExecFromThread},
      {"ranks", &Ranks},
      {"first_process", &FirstProcessOfANamespace},
      {"close_all_and_fork", &CloseAllAndFork},
  };
  return RunScenario(scenarios, argc, argv);
}
