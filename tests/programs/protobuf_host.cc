// A host that carries libprotobuf and the very messages of the trace: two copies of either in a process abort it.
#include <stdio.h>

#include "preload/calls/cuda_api.h"
#include "proto/uvmtrace.pb.h"

int main() {
  uvmtrace::Trace trace;
  trace.add_chunk()->set_sequence(3);
  void* pointer = nullptr;
  const cudaError_t result = cudaMallocManaged(&pointer, 4096, 1);
  printf("%d %zu\n", result, trace.SerializeAsString().size());
  return cudaFree(pointer);
}
