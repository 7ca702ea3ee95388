#include "sim/libcudart/registration.h"

#include <pthread.h>

#include <map>
#include <string>
#include <vector>

#include "sim/include/uvmsim.h"

namespace uvmsim {
namespace {

struct Kernel {
  std::string name;
  const void* host_function = nullptr;
  UvmsimKernelModel model = nullptr;
  CUfunction function = nullptr;  // made at the first launch
};

struct Variable {
  size_t bytes = 0;
  void* address = nullptr;
};

struct ManagedVariable {
  void** shadow;  // the program reads its address from here
  size_t bytes;
  bool ready;
};

class Guard {
 public:
  Guard() { pthread_mutex_lock(&mutex_); }
  ~Guard() { pthread_mutex_unlock(&mutex_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  static void Reset() { mutex_ = PTHREAD_MUTEX_INITIALIZER; }

 private:
  static inline pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

// Start-up code of other libraries registers before, and calls after, any constructor or destructor of ours: never
// destroyed.
struct Registry {
  std::map<const void*, Kernel> kernels;
  std::map<const void*, Variable> variables;
  std::vector<ManagedVariable> managed;
};
Registry& GetRegistry() {
  static auto* registry = new Registry;
  return *registry;
}

}  // namespace

void ResetRegistryLockAfterFork() { Guard::Reset(); }

cudaError_t FindKernel(const Driver& driver, const void* host_function, CUfunction* function) {
  const Guard guard;
  auto& kernels = GetRegistry().kernels;
  const auto it = kernels.find(host_function);
  if (it == kernels.end() || it->second.name.empty()) return cudaErrorInvalidDeviceFunction;
  Kernel& kernel = it->second;
  if (kernel.function == nullptr)
    kernel.function = driver.simulator->create_function(kernel.name.c_str(), kernel.model);
  *function = kernel.function;
  return kernel.function == nullptr ? cudaErrorInitializationError : cudaSuccess;
}

cudaError_t PrepareManagedVariables(const Driver& driver) {
  const Guard guard;
  for (ManagedVariable& variable : GetRegistry().managed) {
    if (variable.ready) continue;
    void* address = driver.simulator->allocate_variable(variable.bytes, true);
    if (address == nullptr) return cudaErrorMemoryAllocation;
    *variable.shadow = address;
    variable.ready = true;
  }
  return cudaSuccess;
}

cudaError_t FindSymbol(const Driver& driver, const void* symbol, void** address, size_t* bytes) {
  const Guard guard;
  Registry& registry = GetRegistry();
  for (const ManagedVariable& variable : registry.managed) {
    if (variable.shadow == symbol || (variable.ready && *variable.shadow == symbol)) {
      *address = *variable.shadow;
      *bytes = variable.bytes;
      return cudaSuccess;
    }
  }
  const auto it = registry.variables.find(symbol);
  if (it == registry.variables.end()) return cudaErrorInvalidSymbol;
  if (it->second.address == nullptr) it->second.address = driver.simulator->allocate_variable(it->second.bytes, false);
  *address = it->second.address;
  *bytes = it->second.bytes;
  return *address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

}  // namespace uvmsim

using uvmsim::GetRegistry;
using uvmsim::Guard;

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
EXPORT void __cudaRegisterFatBinaryEnd(void**) {}
EXPORT void __cudaUnregisterFatBinary(void**) {}

EXPORT void __cudaRegisterFunction(void**, const char* host_function, char*, const char* name, int, uint3*, uint3*,
                                   dim3*, dim3*, int*) {
  const Guard guard;
  uvmsim::Kernel& kernel = GetRegistry().kernels[host_function];
  kernel.name = name;
  kernel.host_function = host_function;
}

EXPORT void __cudaRegisterVar(void**, char* host_variable, char*, const char*, int, size_t bytes, int, int) {
  const Guard guard;
  GetRegistry().variables[host_variable].bytes = bytes;
}

// The initial value of the variable is in the GPU's code, which the simulator cannot read: it starts as zero.
EXPORT void __cudaRegisterManagedVar(void**, void** shadow, char*, const char*, int, size_t bytes, int, int) {
  const Guard guard;
  GetRegistry().managed.push_back({shadow, bytes, false});
}

EXPORT char __cudaInitModule(void**) {
  const cudaError_t error =
      uvmsim::WithDriver([](const uvmsim::Driver& driver) { return uvmsim::PrepareManagedVariables(driver); });
  return error == cudaSuccess ? 1 : 0;
}

// The handle of a kernel is its host stub.
EXPORT cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host_function));
  return cudaSuccess;
}

EXPORT void uvmsim_cudart_register_kernel(const void* host_function, UvmsimKernelModel model) {
  const Guard guard;
  uvmsim::Kernel& kernel = GetRegistry().kernels[host_function];
  kernel.model = model;
  kernel.function = nullptr;
}

EXPORT void* uvmsim_cudart_access(const UvmsimLaunch* launch, const void* address, size_t bytes, int access) {
  const uvmsim::Driver* driver = uvmsim::LoadDriver();
  return driver == nullptr ? nullptr : driver->simulator->access(launch, address, bytes, access);
}

EXPORT void uvmsim_cudart_compute(const UvmsimLaunch* launch, double ns) {
  const uvmsim::Driver* driver = uvmsim::LoadDriver();
  if (driver != nullptr) driver->simulator->compute(launch, ns);
}

EXPORT double uvmsim_cudart_now_ns() {
  const uvmsim::Driver* driver = uvmsim::LoadDriver();
  return driver == nullptr ? 0 : driver->simulator->now_ns();
}

}  // extern "C"
