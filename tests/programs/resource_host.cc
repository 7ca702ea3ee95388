// A program that has too little of something: descriptors, address space, disk, stack, /proc.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "tests/programs/work.h"

namespace {

constexpr int kSkip = 77;

int Worked() {
  Work();
  printf("worked\n");
  return 0;
}

// Descriptors ------------------------------------------------------------------------------------------------------

std::vector<int> TakeAllDescriptors() {
  std::vector<int> taken;
  for (int descriptor = dup(0); descriptor >= 0; descriptor = dup(0)) taken.push_back(descriptor);
  return taken;
}

int NoDescriptorsAtTheStart() {
  void* pointer = nullptr;
  cudaFree(pointer);  // CUDA's own files are open before
  const rlimit few{64, 64};
  setrlimit(RLIMIT_NOFILE, &few);
  TakeAllDescriptors();
  return Worked();
}

int NoDescriptorsLater() {
  Work();
  const rlimit few{600, 600};
  setrlimit(RLIMIT_NOFILE, &few);
  TakeAllDescriptors();
  return Worked();
}

// What the program prints must not go into a file of ours.
int NoStandardStreams() {
  const int out = dup(1);
  for (int descriptor = 0; descriptor < 3; ++descriptor) close(descriptor);
  Work();
  printf("into nothing\n");
  fprintf(stderr, "into nothing\n");
  dup2(out, 1);
  printf("into the pipe again\n");
  Work();
  return 0;
}

// Memory -----------------------------------------------------------------------------------------------------------

size_t AddressSpace() {
  FILE* const file = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  Check(file != nullptr && fscanf(file, "%lu", &pages) == 1, "statm");
  fclose(file);
  return pages * 4096;
}

void LimitAddressSpace(size_t more) {
  const rlimit limit{AddressSpace() + more, AddressSpace() + more};
  Check(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
}

int NoMemoryAtTheStart() {
  LimitAddressSpace(3 << 20);
  void* pointer = nullptr;
  printf("%d", cudaMalloc(&pointer, 1000));
  printf(" %d\n", cudaFree(pointer));
  return 0;
}

int NoMemoryLater() {
  void* pointer = nullptr;
  cudaMalloc(&pointer, 1000);
  LimitAddressSpace(9 << 20);
  // A stack of 8 MiB leaves no room for a ring.
  std::thread([&pointer] { printf("%d\n", cudaFree(pointer)); }).join();
  return 0;
}

// The smallest stack that there is.
int SmallStack() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  Check(pthread_attr_setstacksize(&attributes, 20 * 1024) == 0, "pthread_attr_setstacksize");
  Work();  // the first call of a process takes more: it starts everything
  for (int i = 0; i < 3; ++i) {
    pthread_t thread;
    Check(pthread_create(
              &thread, &attributes,
              [](void*) -> void* {
                Work();
                return nullptr;
              },
              nullptr) == 0,
          "pthread_create");
    pthread_join(thread, nullptr);
  }
  return 0;
}

// Disk -------------------------------------------------------------------------------------------------------------

// A mount namespace of our own; false where that is not permitted.
bool OwnMounts() {
  return unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

void Copy(const char* from, const char* to) {
  FILE* const in = fopen(from, "rb");
  FILE* const out = fopen(to, "wb");
  if (in != nullptr && out != nullptr) {
    char block[4096];
    for (size_t bytes = fread(block, 1, sizeof(block), in); bytes > 0; bytes = fread(block, 1, sizeof(block), in)) {
      fwrite(block, 1, bytes, out);
    }
  }
  if (in != nullptr) fclose(in);
  if (out != nullptr) fclose(out);
}

// The disk fills up while the program runs, and what was written before stays readable.
int DiskFillsUp() {
  if (!OwnMounts()) return kSkip;
  mkdir("small", 0700);
  Check(mount("small", "small", "tmpfs", 0, "size=200k") == 0, "mount");
  for (int i = 0; i < 30'000; ++i) {
    void* pointer = nullptr;
    if (cudaMalloc(&pointer, static_cast<size_t>(1000 + i * 7919 % 100'000)) == cudaSuccess) cudaFree(pointer);
  }
  usleep(200'000);
  Copy("small/trace.pb", "trace.pb");
  return 0;
}

int ReadOnlyDisk() {
  if (!OwnMounts()) return kSkip;
  mkdir("small", 0700);
  Check(mount("small", "small", "tmpfs", MS_RDONLY, nullptr) == 0, "mount");
  return Worked();
}

int HiddenProc() {
  if (!OwnMounts()) return kSkip;
  Check(mount("none", "/proc", "tmpfs", 0, nullptr) == 0, "mount");
  return Worked();
}

int FolderIsRemoved() {
  Work();
  usleep(120'000);
  Check(unlink("trace.pb") == 0 || access("trace.pb", F_OK) != 0, "unlink");
  return Worked();
}

int FileSizeLimitLater() {
  signal(SIGXFSZ, SIG_DFL);
  Work();
  usleep(120'000);
  const rlimit limit{1, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &limit);
  for (int i = 0; i < 50; ++i) Work();
  usleep(120'000);
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &none);
  return Worked();
}

// Threads ----------------------------------------------------------------------------------------------------------

// Every call is in the trace or counted as lost.
// THREAD_CALLS of each, if set: for measurements by hand.
int ManyThreads() {
  constexpr int kThreads = 64;
  const char* const wanted = getenv("THREAD_CALLS");
  const int calls = wanted == nullptr ? 4000 : atoi(wanted);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([calls] {
      for (int call = 0; call < calls / 2; ++call) {
        void* pointer = nullptr;
        cudaMalloc(&pointer, 64);
        cudaFree(pointer);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  printf("%d calls\n", kThreads * calls);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Scenarios scenarios = {
      {"work", &Worked},
      {"no_descriptors_at_the_start", &NoDescriptorsAtTheStart},
      {"no_descriptors_later", &NoDescriptorsLater},
      {"no_standard_streams", &NoStandardStreams},
      {"no_memory_at_the_start", &NoMemoryAtTheStart},
      {"no_memory_later", &NoMemoryLater},
      {"small_stack", &SmallStack},
      {"disk_fills_up", &DiskFillsUp},
      {"read_only_disk", &ReadOnlyDisk},
      {"hidden_proc", &HiddenProc},
      {"folder_is_removed", &FolderIsRemoved},
      {"file_size_limit_later", &FileSizeLimitLater},
      {"many_threads", &ManyThreads},
  };
  return RunScenario(scenarios, argc, argv);
}
