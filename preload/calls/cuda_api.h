// <cuda.h> and <cuda_runtime_api.h> as the libraries export their functions: with every versioned and per-thread-stream
// name declared, and without the macros that turn cuMemAdvise into cuMemAdvise_v2.
#pragma once

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaProfiler.h>
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#undef __CUDA_API_VERSION_INTERNAL

#if CUDA_VERSION < 13000
#error "uvmtrace is built with the headers of CUDA 13.0 or later. It runs with drivers and runtimes of CUDA 12 and 13."
#endif
