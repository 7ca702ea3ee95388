// The parts of sim_program: its kernels, which sim_program.cu launches for all, and the cases that each part offers.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "tests/unit/sim_check.h"

namespace uvmsim::tests {

// Adds `value` to each of `count` elements.
cudaError_t TryLaunch(int* data, size_t count, int value, cudaStream_t stream = nullptr);
inline void Launch(int* data, size_t count, int value, cudaStream_t stream = nullptr) {
  CUDA(TryLaunch(data, count, value, stream));
}
// Counts the elements that differ from `expected`, and adds one to all.
void LaunchCheckAndBump(int* data, size_t count, int expected, unsigned long long* wrong);
// Touches the buffer for ever.
void LaunchForever(int* data, size_t count);

Cases MemoryCases();
Cases WorkCases();
Cases ProcessCases();
Cases CuptiCases();
Cases ClockCases();
Cases GpusCases();

}  // namespace uvmsim::tests
