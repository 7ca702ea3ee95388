// A program with a __managed__ variable, linked with a shared libcudart: what nvcc's start-up code does, by hand. The
// variable is registered before main, when nothing of CUDA may be started yet.
#include <stdio.h>
#include <string.h>

#include "preload/calls/cuda_api.h"
#include "tests/programs/host.h"

extern "C" void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, size_t, int, int);
extern "C" char __cudaInitModule(void**);

namespace {

int* variable = nullptr;

__attribute__((constructor)) void Register() {
  __cudaRegisterManagedVar(nullptr, reinterpret_cast<void**>(&variable), nullptr, "variable", 0, sizeof(int), 0, 0);
}

// The program registers it and never uses CUDA.
int Unused() {
  printf("%s\n", getenv("UVMTRACE_SIM_PROFILE") == nullptr && variable == nullptr ? "not registered" : "registered");
  return 0;
}

// The first touch comes before the first call that anybody could take for an allocation.
int Used() {
  printf("%d\n", __cudaInitModule(nullptr));
  *variable = 5;
  printf("%d\n", *variable);
  void* pointer = nullptr;
  printf("%d\n", cudaMalloc(&pointer, 64));
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return RunScenario({{"unused", &Unused}, {"used", &Used}}, argc, argv); }
