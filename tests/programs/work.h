// The CUDA work that the programs do between two misbehaviours: four calls, of which two allocate.
#pragma once

#include <sys/wait.h>

#include "preload/calls/cuda_api.h"
#include "tests/programs/host.h"

inline void Work() {
  void* device = nullptr;
  void* managed = nullptr;
  Check(cudaMalloc(&device, 1000) == cudaSuccess, "cudaMalloc");
  Check(cudaMallocManaged(&managed, 1 << 20, 1) == cudaSuccess, "cudaMallocManaged");
  static_cast<char*>(managed)[0] = 1;
  Check(cudaFree(device) == cudaSuccess, "cudaFree");
  Check(cudaFree(managed) == cudaSuccess, "cudaFree of managed memory");
}

// Waits for a child and says how it ended: 0 if well.
inline int WaitFor(pid_t child) {
  int status = 0;
  Check(waitpid(child, &status, 0) == child, "waitpid");
  printf("child %s %d\n", WIFEXITED(status) ? "exited" : "was killed by",
         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  return status == 0 ? 0 : 1;
}

inline void* AllocateForEver(void*) {
  for (;;) {
    void* pointer = nullptr;
    if (cudaMallocManaged(&pointer, 4096, 1) == cudaSuccess) cudaFree(pointer);
  }
  return nullptr;
}
