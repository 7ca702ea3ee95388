// The machine under an experiment: numbers without it cannot be compared, so every example prints it first.
#pragma once

#include <cstdint>
#include <string>

namespace examples {

struct Machine {
  std::string gpu_name;
  std::string driver_version;  // "580.159.04"; "unknown" where the driver does not show it
  int cuda_version = 0;        // of the driver, as 13000
  int runtime_version = 0;     // of the runtime this program is running with, as 13000
  int compiled_version = 0;    // of the runtime this program was compiled for, as 13000
  uint64_t free_bytes = 0;     // of device memory, with this process's context already made
  uint64_t total_bytes = 0;
  uint64_t host_available_bytes = 0;  // 0: unknown
  std::string host_limited_by;        // what sets host_available_bytes
  bool simulated = false;             // the libcuda of this process is uvmtrace's simulator
};

// Makes the context on device 0 and asks. Throws Refused where there is no usable GPU.
Machine ReadMachine();

// Throws Refused unless managed memory can be paged on demand: without it "managed" means a copy before each launch.
void RequireDemandPaging();

// "setup: NVIDIA H200 | driver ... | CUDA ... | device memory ... free of ... | host memory ... | hardware"
std::string SetupLine(const Machine& machine);

}  // namespace examples
