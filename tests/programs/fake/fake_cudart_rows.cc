// Every runtime call of the list, doing nothing: weak, so that what fake_cudart.cc defines takes its place.
// cudaFakeCalled is set by fake_cupti.cc; what fake_cudart.cc defines does not call it.
#include "preload/calls/cuda_api.h"

extern "C" __attribute__((visibility("default"))) void (*cudaFakeCalled)(bool runtime, const char* symbol);
void (*cudaFakeCalled)(bool runtime, const char* symbol) = nullptr;

#define FAKE_Driver(...)
#define FAKE_Runtime(symbol, parameters)                                                                    \
  extern "C" __attribute__((visibility("default"), weak)) cudaError_t Row_##symbol parameters asm(#symbol); \
  cudaError_t Row_##symbol parameters {                                                                     \
    if (cudaFakeCalled != nullptr) cudaFakeCalled(true, #symbol);                                           \
    return cudaSuccess;                                                                                     \
  }
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define UVMTRACE_CALL(layer, symbol, operation, parameters, ...) FAKE_##layer(symbol, parameters)
#include "preload/calls/calls.inc"
