#include "examples/common/machine.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <fstream>
#include <memory>

#include "examples/common/host_memory.h"
#include "examples/common/program.h"

namespace examples {
namespace {

// The simulator's libcuda says what it is by exporting this symbol. The runtime has opened the library without making
// it global, so the default scope is not enough; and a runtime that found no GPU has closed it again.
bool IsSimulator() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) return false;
  const bool simulated = dlsym(driver, "uvmsim_host") != nullptr;
  dlclose(driver);
  return simulated;
}

// The runtime only tells which CUDA version the driver implements; its own version stands in /sys or /proc.
std::string ReadDriverVersion() {
  std::string version;
  if (std::ifstream("/sys/module/nvidia/version") >> version) return version;
  // NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build ...
  std::ifstream file("/proc/driver/nvidia/version");
  while (file >> version) {
    if (version.find('.') != std::string::npos && version.find_first_not_of("0123456789.") == std::string::npos) {
      return version;
    }
  }
  return "unknown";
}

std::string CudaVersion(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

Machine ReadMachine() {
  constexpr const char* kNoGpuHint =
      "; this example needs an NVIDIA GPU, or the simulator: uvmtrace run --simulate=tiny -- PROGRAM";
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess && IsSimulator()) {
    throw Refused(std::string("the simulator does not work here: ") + cudaGetErrorString(error) +
                  "; a program that was linked with the static CUDA runtime needs a GPU, take the one without _static");
  }
  if (error != cudaSuccess) {
    throw Refused(std::string("no usable GPU: ") + cudaGetErrorString(error) + kNoGpuHint);
  }
  if (count == 0) throw Refused(std::string("no GPU is visible to this process") + kNoGpuHint);

  Check(cudaSetDevice(0), "cudaSetDevice(0)");
  Check(cudaFree(nullptr), "making the context on device 0");
  Machine machine;
  // On the heap: the structure grew past a kilobyte over the versions.
  const auto properties = std::make_unique<cudaDeviceProp>();
  Check(cudaGetDeviceProperties(properties.get(), 0), "cudaGetDeviceProperties");
  machine.gpu_name = properties->name;
  machine.simulated = IsSimulator();
  machine.driver_version = machine.simulated ? "simulated" : ReadDriverVersion();
  Check(cudaDriverGetVersion(&machine.cuda_version), "cudaDriverGetVersion");
  Check(cudaRuntimeGetVersion(&machine.runtime_version), "cudaRuntimeGetVersion");
  machine.compiled_version = CUDART_VERSION;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  machine.free_bytes = free_bytes;
  machine.total_bytes = total_bytes;
  if (const auto host = ReadHostMemory()) {
    machine.host_available_bytes = host->available_bytes;
    machine.host_limited_by = host->limited_by;
  }
  return machine;
}

void RequireDemandPaging() {
  int concurrent = 0;
  Check(cudaDeviceGetAttribute(&concurrent, cudaDevAttrConcurrentManagedAccess, 0),
        "cudaDevAttrConcurrentManagedAccess");
  if (concurrent == 0) {
    throw Refused(
        "device 0 does not page managed memory on demand (concurrentManagedAccess is 0, as on Windows, WSL "
        "and some virtual GPUs): nothing would fault or migrate; use the modes without managed memory");
  }
}

std::string SetupLine(const Machine& machine) {
  std::string line = "setup: " + machine.gpu_name + " | driver " + machine.driver_version + " | CUDA " +
                     CudaVersion(machine.cuda_version) + ", runtime " + CudaVersion(machine.runtime_version) +
                     " | device memory " + FormatBytes(machine.free_bytes) + " free of " +
                     FormatBytes(machine.total_bytes) + " | host memory ";
  line += machine.host_available_bytes == 0
              ? "unknown"
              : FormatBytes(machine.host_available_bytes) + " (" + machine.host_limited_by + ")";
  return line + (machine.simulated ? " | SIMULATED" : " | hardware");
}

}  // namespace examples
