// Every runtime call of the list, doing nothing: weak, so that what fake_cudart.cc defines takes its place.
#include "preload/cuda_api.h"

#define FAKE_Driver(...)
#define FAKE_Runtime(symbol, parameters)                                                                    \
  extern "C" __attribute__((visibility("default"), weak)) cudaError_t Row_##symbol parameters asm(#symbol); \
  cudaError_t Row_##symbol parameters { return cudaSuccess; }
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define UVMTRACE_CALL(layer, symbol, operation, parameters, ...) FAKE_##layer(symbol, parameters)
#include "preload/calls.inc"
