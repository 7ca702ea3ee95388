// What the CUDA programs that run on the simulated libraries have in common: checks that end the process, and what the
// simulator tells by its own symbols. No test framework: the programs are killed, forked and left in the middle of
// their work, and their exit status is the answer.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <map>
#include <string>

#include "sim/engine/tables.h"

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                                 \
    }                                                                           \
  } while (0)
#define CHECK_EQ(a, b)                                                                                \
  do {                                                                                                \
    const auto left = (a);                                                                            \
    const auto right = (b);                                                                           \
    if (!(left == right)) {                                                                           \
      fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, (long long)left, #b, \
              (long long)right);                                                                      \
      _exit(1);                                                                                       \
    }                                                                                                 \
  } while (0)
#define CUDA(call) CHECK_EQ(call, cudaSuccess)

namespace uvmsim::tests {

inline constexpr size_t kMiB = 1 << 20;

// The cases of a program, by the name that its command line gives.
using Cases = std::map<std::string, void (*)()>;

// A symbol of the simulated driver. With RTLD_NOLOAD in `mode`, CUDA must have loaded it.
inline void* FromDriver(const char* name, int mode = RTLD_NOW | RTLD_NOLOAD) {
  void* driver = dlopen("libcuda.so.1", mode);
  CHECK(driver != nullptr);
  void* symbol = dlsym(driver, name);
  CHECK(symbol != nullptr);
  return symbol;
}

inline const CuptiTable& Table() { return *static_cast<const CuptiTable*>(FromDriver("uvmsim_cupti_table")); }

// What the paging model counted so far.
inline EngineTotals Totals() {
  EngineTotals totals;
  Table().totals(&totals);
  return totals;
}

template <typename T>
T* Managed(size_t bytes) {
  void* memory = nullptr;
  CUDA(cudaMallocManaged(&memory, bytes));
  return static_cast<T*>(memory);
}

}  // namespace uvmsim::tests
