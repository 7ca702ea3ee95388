// The cases of sim_tools_program whose reader is wrong or goes away: the driver must refuse it, or go on without it.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/unit/sim_check.h"
#include "tests/unit/sim_tools_program.h"

namespace uvmsim::tests {
namespace {

void Refuses() {
  const UvmsimTools& tools = Tools();
  int found[2];
  CHECK_EQ(tools.find_va_spaces(found, 2), 0u);  // CUDA has not started
  const int early = tools.open_device();
  CHECK(early >= 0);
  InitEventTrackerArgument argument = {};
  ToolsEntry* ring = Pages<ToolsEntry>(64 * sizeof(ToolsEntry));
  argument.queue = reinterpret_cast<uint64_t>(ring);
  argument.queue_entries = 64;
  argument.control = reinterpret_cast<uint64_t>(Pages<char>(4096));
  argument.va_space_descriptor = static_cast<uint32_t>(early);
  const auto initialize = [&](int descriptor) {
    InitEventTrackerArgument copy = argument;
    copy.status = 99;
    CHECK_EQ(tools.control(descriptor, kInitEventTracker, &copy), 0);
    return copy.status;
  };
  CHECK_EQ(initialize(early), kStatusInsufficientPermissions);
  Initialize();
  argument.va_space_descriptor = 0;
  CHECK_EQ(initialize(early), kStatusInsufficientPermissions);
  argument.va_space_descriptor = static_cast<uint32_t>(VaSpace());
  for (uint64_t entries : {uint64_t{1}, uint64_t{3}, uint64_t{63}, uint64_t{1} << 33}) {
    argument.queue_entries = entries;
    CHECK_EQ(initialize(early), kStatusInvalidArgument);
  }
  argument.queue_entries = 64;
  argument.queue += 64;
  CHECK_EQ(initialize(early), kStatusInvalidAddress);
  argument.queue = 4096;  // nothing is mapped there
  CHECK_EQ(initialize(early), kStatusInvalidArgument);
  argument.queue = reinterpret_cast<uint64_t>(Managed<char>(kBlock));
  CHECK_EQ(initialize(early), kStatusInvalidArgument);
  argument.queue = reinterpret_cast<uint64_t>(ring);
  CHECK_EQ(SetFlags(early, kEnableEvents, 2), kStatusInvalidArgument);  // no tracker yet
  CHECK_EQ(tools.control(early, kInitEventTrackerV2, &argument), 0);
  CHECK_EQ(argument.status, kStatusNotSupported);
  // A copy of the descriptor is as good, and the original may be closed.
  const int copy = fcntl(early, F_DUPFD_CLOEXEC, 300);
  close(early);
  CHECK_EQ(initialize(copy), kStatusOk);
  CHECK_EQ(initialize(copy), kStatusInvalidArgument);  // once only
  CHECK_EQ(SetFlags(copy, kEnableCounters, 1), kStatusInvalidArgument);
  CHECK_EQ(SetFlags(copy, kEnableEvents, uint64_t{1} << 62), kStatusInvalidArgument);
  CHECK_EQ(SetFlags(copy, kEnableEvents, 1), kStatusInvalidArgument);
  CHECK_EQ(SetFlags(copy, kEnableEvents, kEverything), kStatusOk);
  FlushArgument flush = {};
  CHECK(tools.control(copy, 4711, &flush) == -1 && errno == EINVAL);
  CHECK(tools.control(VaSpace(), kEnableEvents, &flush) == -1 && errno == EINVAL);
  CHECK(tools.control(1, kFlushEvents, &flush) == -1 && errno == ENOTTY);
  CHECK(tools.control(-1, kFlushEvents, &flush) == -1 && errno == EBADF);
  CHECK(tools.control(copy, kEnableEvents, nullptr) == -1 && errno == EFAULT);
}

// A reader that goes away while the driver writes, with and without its memory, or that writes nonsense.
void Vanishes() {
  Initialize();
  char* data = Managed<char>(32 * kMiB);
  TouchOnCpu(data, 32 * kMiB);
  std::atomic<bool> stop{false};
  std::thread gpu([&] {
    while (!stop) {
      TouchOnGpu(data, 32 * kMiB);
      CUDA(cudaMemPrefetchAsync(data, 32 * kMiB, {cudaMemLocationTypeHost, 0}, 0, nullptr));
      CUDA(cudaDeviceSynchronize());
    }
  });
  for (int round = 0; round < 30; ++round) {
    Queue queue(1 << 10);
    Counters counters;
    usleep(2000);
    if (round % 3 == 0) munmap(queue.ring, 64 << 10);  // pinned: the driver goes on
    if (round % 3 == 1) {
      queue.control->get_behind = 0xdeadbeef;
      queue.control->put_behind = 0x12345678;
      queue.control->get_ahead = 0xffffffff;
      usleep(2000);
    }
    close(queue.descriptor);
    if (round % 3 != 0) munmap(queue.ring, 64 << 10);
    munmap(queue.control, 4096);
    close(counters.descriptor);
    munmap(counters.values, 4096);
  }
  stop = true;
  gpu.join();
}

void Fork() {
  Initialize();
  Queue queue(1 << 12);
  Counters counters;
  char* data = Managed<char>(kBlock);
  const pid_t child = fork();
  if (child == 0) {
    int found[2];
    CHECK_EQ(Tools().find_va_spaces(found, 2), 0u);
    CHECK(Tools().open_device() == -1 && errno == ENODEV);
    FlagsArgument flags = {kEverything, 0};
    CHECK(Tools().control(queue.descriptor, kEnableEvents, &flags) == -1 && errno == ENODEV);
    close(queue.descriptor);
    _exit(33);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
  data[0] = 1;
  CHECK_EQ(counters[kCounterCpuFaults], 1u);
  CHECK_EQ(queue.Drain().size(), 1u);
}

// A program that becomes a daemon closes all that it finds, and gets the numbers for files of its own.
void EverythingClosed() {
  Initialize();
  Queue queue(64, Bit(kToolsCpuFault));
  ThresholdArgument threshold = {1, 0};
  CHECK_EQ(Tools().control(queue.descriptor, kSetNotificationThreshold, &threshold), 0);
  char* data = Managed<char>(8 * kBlock);
  char name[] = "/tmp/uvmsim-closed-XXXXXX";
  const int file = mkstemp(name);
  CHECK(file >= 0);
  unlink(name);
  std::vector<int> closed;
  for (int i = 3; i < 1024; ++i) {
    if (i != file && fcntl(i, F_GETFD) >= 0) closed.push_back(i);
  }
  for (int i : closed) CHECK_EQ(dup2(file, i), i);
  for (int i = 0; i < 8; ++i) {
    data[i * kBlock] = 1;
    usleep(2000);
    queue.Drain();
  }
  TouchOnGpu(data, kBlock);
  CHECK_EQ(lseek(file, 0, SEEK_END), 0);  // nobody wrote into it
  int found[2];
  CHECK_EQ(Tools().find_va_spaces(found, 2), 0u);
}

}  // namespace

Cases ReaderCases() {
  return {
      {"refuses", Refuses},
      {"vanishes", Vanishes},
      {"fork", Fork},
      {"everything-closed", EverythingClosed},
  };
}

}  // namespace uvmsim::tests
