// The cases of sim_program that are about its process: faults that are not the simulator's, handlers of the host's own,
// fork, exit, and a process that may map no more.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "sim/include/uvmsim_host.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

int* volatile g_nowhere = nullptr;

void SegmentationFault() {
  int* data = Managed<int>(4096);
  *data = 1;
  *g_nowhere = 1;
}

void TouchDeviceMemory() {
  int* data = nullptr;
  CUDA(cudaMalloc(&data, 4096));
  *data = 1;
}

void UseAfterFree() {
  int* data = Managed<int>(4096);
  *data = 1;
  CUDA(cudaFree(data));
  *data = 2;
}

void RaiseSegv() {
  int* data = Managed<int>(4096);
  *data = 1;
  raise(SIGSEGV);
}

void* volatile g_caught_address = nullptr;
void HostHandler(int, siginfo_t* info, void*) {
  g_caught_address = info->si_addr;
  _exit(info->si_addr == reinterpret_cast<void*>(0x10) ? 21 : 22);
}
struct sigaction g_before_host;
void ChainingHostHandler(int number, siginfo_t* info, void* context) {
  if (info->si_addr == reinterpret_cast<void*>(0x10)) _exit(23);
  if ((g_before_host.sa_flags & SA_SIGINFO) != 0) {
    g_before_host.sa_sigaction(number, info, context);
  } else {
    signal(number, SIG_DFL);
  }
}
void Install(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &g_before_host);
}

void HandlerBefore() {
  Install(HostHandler);
  int* data = Managed<int>(4096);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 2);
  *reinterpret_cast<volatile int*>(0x10) = 1;
}

// Installed over ours, and does not chain: the next launch puts ours in front again.
void HandlerAfter() {
  int* data = Managed<int>(4096);
  Install(HostHandler);
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 1);
  *reinterpret_cast<volatile int*>(0x10) = 1;
}

void HandlerAfterChains() {
  int* data = Managed<int>(4096);
  Install(ChainingHostHandler);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 2);
  *reinterpret_cast<volatile int*>(0x10) = 1;
}

// As above, but the fault is nobody's: handing it back and forth must end, in the default.
void HandlersGiveUp() {
  int* data = Managed<int>(4096);
  Install(ChainingHostHandler);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  *g_nowhere = 1;
}

void Fork() {
  int* data = Managed<int>(4 * kMiB);
  for (size_t i = 0; i < kMiB; ++i) data[i] = 1;
  std::atomic<bool> stop{false};
  std::thread busy([&] {  // holds the engine's lock as often as it can
    while (!stop) {
      void* memory = nullptr;
      CUDA(cudaMallocManaged(&memory, 4096));
      *static_cast<int*>(memory) = 1;
      CUDA(cudaFree(memory));
    }
  });
  for (int round = 0; round < 20; ++round) {
    Launch(data, kMiB, 1);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      void* memory = nullptr;
      if (cudaMallocManaged(&memory, 4096) != cudaErrorInitializationError) _exit(1);
      if (cudaGetLastError() != cudaErrorInitializationError) _exit(2);
      int count = 0;
      if (cudaGetDeviceCount(&count) != cudaErrorInitializationError) _exit(3);
      if (round % 2 == 0) exit(5);  // with all destructors
      // The driver's mappings are not inherited.
      *static_cast<volatile int*>(data) = 1;
      _exit(4);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (round % 2 == 0) {
      CHECK(WIFEXITED(status));
      CHECK_EQ(WEXITSTATUS(status), 5);
    } else {
      CHECK(WIFSIGNALED(status));
      CHECK_EQ(WTERMSIG(status), SIGSEGV);
    }
  }
  stop = true;
  busy.join();
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(data[7], 21);
  // The children left the folder alone.
  CHECK(access(static_cast<const UvmsimHost*>(FromDriver("uvmsim_host"))->root, F_OK) == 0);
}

// A process that forks before it uses CUDA: the child may.
void ForkFirst() {
  const pid_t child = fork();
  if (child != 0) {
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  int* data = Managed<int>(4096);
  *data = 1;
  Launch(data, 1, 1);
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(*data, 2);
}

void ExitWhileBusy() {
  int* data = Managed<int>(128 * kMiB);
  LaunchForever(data, 128 * kMiB / sizeof(int));
  for (int t = 0; t < 3; ++t) {
    std::thread([data, t] {
      for (size_t i = 0;; i = (i + 4099) % kMiB) static_cast<volatile int*>(data)[t * kMiB + i] = 1;
    }).detach();
  }
  usleep(50000);
  exit(7);
}

// With no mapping to spare the pages of a block cannot get protections of their own: that ends, one way or the other.
void NoMappingsLeft() {
  int* data = Managed<int>(4 * kMiB);
  for (size_t i = 0; i < kMiB; ++i) data[i] = 1;
  Launch(data, kMiB, 1);
  CUDA(cudaDeviceSynchronize());
  for (;;) {  // neighbours that cannot be merged
    const int protection = rand() % 2 != 0 ? PROT_READ : PROT_READ | PROT_WRITE;
    static bool shared = false;
    shared = !shared;
    if (mmap(nullptr, 4096, protection, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0) == MAP_FAILED)
      break;
  }
  for (size_t i = 0; i < kMiB; i += 4096) CHECK_EQ(data[i], 2);
}

}  // namespace

Cases ProcessCases() {
  return {
      {"segmentation-fault", SegmentationFault},
      {"touch-device-memory", TouchDeviceMemory},
      {"use-after-free", UseAfterFree},
      {"raise-segv", RaiseSegv},
      {"handler-before", HandlerBefore},
      {"handler-after", HandlerAfter},
      {"handler-after-chains", HandlerAfterChains},
      {"handlers-give-up", HandlersGiveUp},
      {"fork", Fork},
      {"fork-first", ForkFirst},
      {"exit-while-busy", ExitWhileBusy},
      {"no-mappings-left", NoMappingsLeft},
  };
}

}  // namespace uvmsim::tests
