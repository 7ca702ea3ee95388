// What an intercepted call costs the host's thread over the call itself, against a driver that does nothing.
//
// The same program runs as pairs of children, with the library preloaded and without, interleaved, so that whatever
// else the machine does falls on both alike. A child calls cuMemsetD8_v2 (no stack) or cuMemHostUnregister (a stack)
// twelve frames deep, a batch at a time so that the ring never fills, and prints nanoseconds per call. Printed: the
// median of the pairs' differences, and its quartiles.
//
//   call_bench libuvmtrace.so folder-of-the-no-op-libcuda.so.1
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "preload/calls/cuda_api.h"

namespace {

constexpr int kPairs = 15;
constexpr int kBatches = 40;
constexpr int kCallsInBatch = 400;  // a host thread's ring holds 256 KiB
constexpr double kLimitNs = 150;
constexpr double kLimitWithStackNs = 3000;

double NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

using Call = void (*)(void* function);

void Set(void* function) { reinterpret_cast<decltype(&cuMemsetD8_v2)>(function)(0x1000, 0, 64); }
void Unregister(void* function) { reinterpret_cast<decltype(&cuMemHostUnregister)>(function)(nullptr); }

// Makes the batch of calls `depth` frames further down.
__attribute__((noinline)) double TimeBatch(int depth, Call call, void* function) {
  if (depth > 0) {
    const double result = TimeBatch(depth - 1, call, function);
    asm volatile("" ::: "memory");  // no tail call
    return result;
  }
  const double start = NowNs();
  for (int i = 0; i < kCallsInBatch; ++i) call(function);
  return (NowNs() - start) / kCallsInBatch;
}

int Child(bool with_stack) {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return 1;
  void* const function = dlsym(driver, with_stack ? "cuMemHostUnregister" : "cuMemsetD8_v2");
  // main, Child and the C library's start are frames as well: twelve in all.
  const int depth = with_stack ? 7 : 0;
  TimeBatch(depth, with_stack ? &Unregister : &Set, function);
  std::vector<double> batches;
  for (int i = 0; i < kBatches; ++i) {
    usleep(60'000 / (with_stack ? 1 : 2));  // the writer drains every 50 ms
    batches.push_back(TimeBatch(depth, with_stack ? &Unregister : &Set, function));
  }
  std::nth_element(batches.begin(), batches.begin() + kBatches / 2, batches.end());
  printf("%f\n", batches[kBatches / 2]);
  return 0;
}

double RunChild(const char* self, const char* mode, const std::string& environment) {
  const std::string command = environment + " '" + self + "' --child " + mode;
  FILE* const pipe = popen(command.c_str(), "r");
  double result = -1;
  if (pipe == nullptr || fscanf(pipe, "%lf", &result) != 1) result = -1;
  if (pipe != nullptr) pclose(pipe);
  if (result < 0) {
    fprintf(stderr, "call_bench: this failed: %s\n", command.c_str());
    exit(1);
  }
  return result;
}

bool Measure(const char* self, const char* mode, const std::string& library, const std::string& folder,
             double limit_ns) {
  const std::string without = "LD_LIBRARY_PATH='" + folder + "'";
  const std::string with =
      without + " UVMTRACE_OUT=/tmp/call_bench.%p.pb UVMTRACE_LOG=quiet LD_PRELOAD='" + library + "'";
  std::vector<double> differences;
  double base = 0;
  for (int i = 0; i < kPairs; ++i) {
    double pair[2];
    for (int j = 0; j < 2; ++j) {
      const int which = (i + j) % 2;
      pair[which] = RunChild(self, mode, which == 0 ? without : with);
    }
    differences.push_back(pair[1] - pair[0]);
    base += pair[0] / kPairs;
  }
  std::sort(differences.begin(), differences.end());
  const double median = differences[kPairs / 2];
  printf("%-22s %8.1f ns a call %+9.1f ns  (quartiles %+.1f .. %+.1f, %d pairs, limit %.0f)\n", mode, base, median,
         differences[kPairs / 4], differences[kPairs - 1 - kPairs / 4], kPairs, limit_ns);
  return median <= limit_ns;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "--child") == 0) return Child(strcmp(argv[2], "with_stack") == 0);
  if (argc != 3) {
    fprintf(stderr, "usage: %s libuvmtrace.so folder-of-libcuda.so.1\n", argv[0]);
    return 2;
  }
  const bool plain = Measure(argv[0], "without_stack", argv[1], argv[2], kLimitNs);
  const bool stack = Measure(argv[0], "with_stack", argv[1], argv[2], kLimitWithStackNs);
  [[maybe_unused]] const int removed = system("rm -f /tmp/call_bench.*.pb /tmp/call_bench.*.pb.old");
  return plain && stack ? 0 : 1;
}
