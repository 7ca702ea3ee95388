#include "sim/libcudart/driver.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>

namespace uvmsim {
namespace {

constexpr int kVersion = 13000;

std::atomic<const Driver*> g_driver{nullptr};
std::atomic<bool> g_initialized{false};
std::atomic<int> g_load_error{cudaSuccess};
pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
thread_local cudaError_t t_last_error = cudaSuccess;
thread_local bool t_context_current = false;

template <typename Function>
void Ask(decltype(&::cuGetProcAddress) get_proc_address, const char* name, cuuint64_t flags, Function* function) {
  void* found = nullptr;
  CUdriverProcAddressQueryResult status;
  if (get_proc_address(name, &found, kVersion, flags, &status) == CUDA_SUCCESS) {
    *function = reinterpret_cast<Function>(found);
  } else {
    fprintf(stderr, "uvmsim: libcuda.so.1 has no %s: the simulated libraries are not all of the same build.\n", name);
  }
}

const Driver* Load() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) return nullptr;
  auto* driver = new Driver;
  driver->get_proc_address = reinterpret_cast<decltype(&::cuGetProcAddress)>(dlsym(library, "cuGetProcAddress_v2"));
  if (driver->get_proc_address == nullptr) return nullptr;

  // What the real runtime begins with: an empty name, and the address of cuGetProcAddress itself in both ABIs.
  void* ignored = nullptr;
  CUdriverProcAddressQueryResult status;
  driver->get_proc_address("", &ignored, 0, 0, &status);
  driver->get_proc_address("cuGetProcAddress", &ignored, 11030, 0, &status);
  driver->get_proc_address("cuGetProcAddress", &ignored, 12000, 0, &status);

#define UVMSIM_ASK(name) Ask(driver->get_proc_address, #name, CU_GET_PROC_ADDRESS_DEFAULT, &driver->name);
  UVMSIM_DRIVER_FUNCTIONS(UVMSIM_ASK)
#undef UVMSIM_ASK
#define UVMSIM_ASK(name)                                                                   \
  Ask(driver->get_proc_address, #name, CU_GET_PROC_ADDRESS_DEFAULT, &driver->legacy.name); \
  Ask(driver->get_proc_address, #name, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &driver->per_thread.name);
  UVMSIM_DRIVER_STREAM_FUNCTIONS(UVMSIM_ASK)
#undef UVMSIM_ASK

  const void* table = nullptr;
  if (driver->cuGetExportTable == nullptr || driver->cuGetExportTable(&table, &kRuntimeTableId) != CUDA_SUCCESS) {
    fprintf(stderr,
            "uvmsim: libcuda.so.1 is not the simulator's: set LD_LIBRARY_PATH to the folder of all three libraries.\n");
    return nullptr;
  }
  driver->simulator = static_cast<const RuntimeTable*>(table);
  return driver;
}

}  // namespace

cudaError_t Return(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) t_last_error = error;
  return error;
}

cudaError_t LoadError() { return static_cast<cudaError_t>(g_load_error.load()); }

const Driver* LoadDriver() {
  const Driver* driver = g_driver.load(std::memory_order_acquire);
  if (driver != nullptr || g_load_error != cudaSuccess) return driver;
  pthread_mutex_lock(&g_mutex);
  driver = g_driver.load(std::memory_order_acquire);
  if (driver == nullptr && g_load_error == cudaSuccess) {
    driver = Load();
    if (driver == nullptr) g_load_error = cudaErrorInsufficientDriver;
    g_driver.store(driver, std::memory_order_release);
  }
  pthread_mutex_unlock(&g_mutex);
  return driver;
}

const Driver* Ready() {
  const Driver* driver = LoadDriver();
  if (driver == nullptr) return nullptr;
  if (!g_initialized) {
    const CUresult result = driver->cuInit(0);
    if (result != CUDA_SUCCESS) {
      g_load_error = static_cast<int>(result);
      return nullptr;
    }
    g_initialized = true;
  }
  if (!t_context_current) {
    CUcontext context = nullptr;
    if (driver->cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS) {
      t_context_current = driver->cuCtxSetCurrent(context) == CUDA_SUCCESS;
    }
  }
  return driver;
}

}  // namespace uvmsim

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = uvmsim::t_last_error;
  uvmsim::t_last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return uvmsim::t_last_error; }

}  // extern "C"
