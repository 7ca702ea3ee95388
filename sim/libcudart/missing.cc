// What a function of the runtime does that the simulator does not have.
#include <cstdio>

#include "sim/libcudart/driver.h"

// Called by the generated stubs; `told` is theirs, so that each speaks once.
extern "C" int uvmsim_missing(const char* name, int* told) {
  if (__atomic_exchange_n(told, 1, __ATOMIC_RELAXED) == 0) {
    fprintf(stderr, "uvmsim: the simulator has no %s; it returns cudaErrorNotSupported.\n", name);
  }
  return uvmsim::Return(cudaErrorNotSupported);
}
