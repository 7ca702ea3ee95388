// The kernels and variables that nvcc's start-up code registers, and the models that examples register for them.
#pragma once

#include "sim/libcudart/driver.h"

namespace uvmsim {

// The kernel behind a host stub, with its model; null with an error if there is none.
cudaError_t FindKernel(const Driver& driver, const void* host_function, CUfunction* function);
// Gives every __managed__ variable its memory.
cudaError_t PrepareManagedVariables(const Driver& driver);
// Device address and size of a __device__ variable.
cudaError_t FindSymbol(const Driver& driver, const void* symbol, void** address, size_t* bytes);

}  // namespace uvmsim
