// Calls of one CUDA function from few places and from thousands of them. Prints nothing that differs from run to run;
// the nanoseconds of a call go to the file that its argument names: of few places, then of many.
//
//   call_sites_host FILE
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

extern "C" int cudaMemsetAsync(void*, int, unsigned long, void*);

#define CALL cudaMemsetAsync(nullptr, 0, 0, nullptr);
#define CALL_8 CALL CALL CALL CALL CALL CALL CALL CALL
#define CALL_64 CALL_8 CALL_8 CALL_8 CALL_8 CALL_8 CALL_8 CALL_8 CALL_8
#define CALL_512 CALL_64 CALL_64 CALL_64 CALL_64 CALL_64 CALL_64 CALL_64 CALL_64
#define CALL_4096 CALL_512 CALL_512 CALL_512 CALL_512 CALL_512 CALL_512 CALL_512 CALL_512

__attribute__((noinline)) static void Few() {
  for (int i = 0; i < 128; ++i) {
    CALL_64
  }
}
__attribute__((noinline)) static void Many() { CALL_4096 CALL_4096 }

static double Time(void (*pass)()) {
  timespec begin;
  timespec end;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
  pass();
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
  return static_cast<double>((end.tv_sec - begin.tv_sec) * 1'000'000'000 + end.tv_nsec - begin.tv_nsec) / 8192;
}

int main(int, char** argv) {
  double few = 1e9;
  double many = 1e9;
  for (int round = 0; round < 20; ++round) {
    few = std::min(few, Time(&Few));
    many = std::min(many, Time(&Many));
    usleep(5000);  // lets the writer keep up
  }
  FILE* const file = fopen(argv[1], "w");
  if (file == nullptr) return 1;
  fprintf(file, "%.1f %.1f\n", few, many);
  return fclose(file);
}
