// Uses ioctl in each way that a program may, and prints what came of it: the recorder stands in front of it.
//
//   ioctl_host                prints the answers
//   ioctl_host cost           writes what a call costs in front of a function that does nothing, without it and with
//   it,
//                             in nanoseconds, to the file "cost"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

// Of a preloaded tool that counts. Null without it.
extern "C" __attribute__((weak)) unsigned long watched_ioctls();

namespace {

constexpr unsigned long kMigrate = 51;  // the driver's UVM_MIGRATE, which other devices may know as something else

int pipe_ends[2];
int before_main = -1;

int Waiting(int descriptor) {
  int bytes = -1;
  errno = 0;
  return ioctl(descriptor, FIONREAD, &bytes) == 0 ? bytes : -errno;
}

__attribute__((constructor)) void Early() {
  int ends[2];
  if (pipe(ends) != 0 || write(ends[1], "four", 4) != 4) return;
  before_main = Waiting(ends[0]);
  close(ends[0]);
  close(ends[1]);
}

volatile int in_handler = -1;
void OnSignal(int) { in_handler = Waiting(pipe_ends[0]); }

void Print() {
  char argument[64] = {};
  printf("before main %d\n", before_main);
  printf("waiting %d\n", Waiting(pipe_ends[0]));
  printf("closes on exec %d %d\n", ioctl(pipe_ends[0], FIOCLEX), fcntl(pipe_ends[0], F_GETFD));
  errno = 0;
  printf("51 of a pipe %d", ioctl(pipe_ends[0], kMigrate, argument));
  printf(" %d\n", errno);
  errno = 0;
  printf("51 of nothing %d", ioctl(-1, kMigrate, nullptr));
  printf(" %d\n", errno);
  const int null_device = open("/dev/null", O_RDWR);
  errno = 0;
  printf("51 of a device %d", ioctl(null_device, kMigrate, nullptr));
  printf(" %d\n", errno);
  errno = EXDEV;
  const int kept = Waiting(pipe_ends[0]);
  printf("errno after success %d %d\n", kept, errno);
  signal(SIGUSR1, OnSignal);
  raise(SIGUSR1);
  printf("in a handler %d\n", in_handler);
  fflush(stdout);
  int status = 0;
  pid_t child = fork();
  if (child == 0) _exit(Waiting(pipe_ends[0]));
  waitpid(child, &status, 0);
  printf("in a child %d\n", WEXITSTATUS(status));
  child = vfork();
  if (child == 0) _exit(ioctl(pipe_ends[0], kMigrate, argument) == -1 ? 7 : 8);
  waitpid(child, &status, 0);
  printf("in a child of vfork %d\n", WEXITSTATUS(status));
  if (watched_ioctls != nullptr) printf("seen by the tool %lu\n", watched_ioctls());
}

using Ioctl = int (*)(int, unsigned long, ...);

double NsPerCall(Ioctl function) {
  constexpr int kCalls = 1'000'000;
  timespec start;
  timespec end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < kCalls; ++i) function(-2, 1, nullptr);
  clock_gettime(CLOCK_MONOTONIC, &end);
  return ((end.tv_sec - start.tv_sec) * 1e9 + static_cast<double>(end.tv_nsec - start.tv_nsec)) / kCalls;
}

}  // namespace

int main(int argc, char** argv) {
  if (pipe(pipe_ends) != 0 || write(pipe_ends[1], "three", 5) != 5) return 1;
  void* libcuda = dlopen("libcuda.so.1", RTLD_NOW);
  auto* const init = libcuda != nullptr ? reinterpret_cast<int (*)(unsigned)>(dlsym(libcuda, "cuInit")) : nullptr;
  if (init != nullptr) init(0);
  if (argc < 2 || strcmp(argv[1], "cost") != 0) {
    Print();
    return 0;
  }
  void* const tool = dlopen("libioctl_watcher.so", RTLD_NOW | RTLD_NOLOAD);
  if (tool == nullptr) return 1;
  const auto behind = reinterpret_cast<Ioctl>(dlsym(tool, "ioctl"));
  double least[2] = {1e9, 1e9};
  for (int round = 0; round < 21; ++round) {
    least[0] = std::min(least[0], NsPerCall(behind));
    least[1] = std::min(least[1], NsPerCall(&ioctl));
  }
  FILE* const file = fopen("cost", "w");
  if (file == nullptr) return 1;
  fprintf(file, "%.2f %.2f\n", least[0], least[1]);
  return fclose(file);
}
