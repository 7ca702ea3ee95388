// What the driver tells about itself and its devices, asked once, off the hot path, through the real functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/calls/cuda_api.h"

namespace uvmtrace {

// Defines every device in the trace. Returns CUDA_SUCCESS, or what the driver said: CUDA_ERROR_NOT_INITIALIZED before
// cuInit.
CUresult DefineDevices();

// cuDriverGetVersion; 0 while libcuda is not in the process.
uint32_t DriverVersion();

// "CUDA_ERROR_NO_DEVICE (100)".
void DescribeError(CUresult error, char* text, size_t size);

// The simulator's root folder, or null for a real driver.
const char* SimulatorRoot();

// First line of /sys/module/nvidia/version; empty if there is no such driver.
void KernelDriverVersion(char* text, size_t size);

// Whether a device was defined that reaches all of the process's memory (HMM, ATS).
bool PageableMemoryAccess();

// Whether the driver says that an address is managed memory.
bool IsManagedAddress(uint64_t address);

}  // namespace uvmtrace
