// How an example tells the simulator what its kernels do, so that the same binary runs with and without a GPU.
//
// The simulator cannot run GPU code. A program that wants to run on it registers, for each kernel, a host function: the
// simulator calls it instead of the kernel, on the simulated GPU's thread, in stream order, with the launch's
// arguments. The host function names the bytes that the kernel reads and writes, page by page in the order of the
// kernel, and really reads and writes them through the pointers that it gets back, so that results are right and can be
// verified.
//
// Nothing of the simulator is linked: the functions are looked up in the process. On a real GPU they do not exist, and
// UVMSIM_REGISTER does nothing. Example:
//
//   __global__ void Add(int* data, size_t count, int value) { ... }
//
//   static void AddOnHost(const UvmsimLaunch* launch) {
//     int* data = UvmsimArgument<int*>(launch, 0);
//     size_t count = UvmsimArgument<size_t>(launch, 1);
//     int value = UvmsimArgument<int>(launch, 2);
//     UvmsimForEachSpan(launch, data, count, UVMSIM_READ_WRITE, [&](int* span, size_t n, size_t) {
//       for (size_t i = 0; i < n; ++i) span[i] += value;
//     });
//   }
//   UVMSIM_REGISTER(Add, AddOnHost);
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

extern "C" {

struct UvmsimDim {
  unsigned x, y, z;
};

struct UvmsimLaunch {
  void** arguments;  // as cudaLaunchKernel gets them: arguments[i] points to the value of argument i
  UvmsimDim grid;
  UvmsimDim block;
  int device;
  void* engine;  // the simulator's own
};

typedef void (*UvmsimKernelModel)(const UvmsimLaunch* launch);

enum { UVMSIM_READ = 1, UVMSIM_WRITE = 2, UVMSIM_READ_WRITE = 3 };

}  // extern "C"

// A function of the simulated libcudart.so.13; null with the real one. dlsym, and not a weak symbol: a linker may
// settle an undefined weak symbol of an executable as null for ever.
inline void* UvmsimFind(const char* name) {
  void* function = dlsym(RTLD_DEFAULT, name);
  if (function == nullptr) {
    // A program whose libcudart was loaded RTLD_LOCAL, by a Python module for instance.
    void* library = dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
    if (library != nullptr) function = dlsym(library, name);
  }
  return function;
}

// Registers `model` as the behaviour of the kernel whose host stub is `host_function`. Nothing happens on a real GPU.
inline void uvmsim_register_kernel(const void* host_function, UvmsimKernelModel model) {
  using Function = void (*)(const void*, UvmsimKernelModel);
  const auto function = reinterpret_cast<Function>(UvmsimFind("uvmsim_cudart_register_kernel"));
  if (function != nullptr) function(host_function, model);
}

// The kernel touches [address, address + bytes), device memory, pinned host memory or managed memory; what is not
// resident on the GPU faults, migrates or is mapped, as the driver would. Returns a pointer through which the model may
// read and write these bytes without a fault; it is good until the next call of uvmsim_access. At most one 2 MiB block
// should be touched by one call: bytes touched together fault together. Null for an address that the GPU cannot reach:
// the launch then fails with cudaErrorIllegalAddress. Call it from within a model only, and touch memory through it
// only: the CPU has no access to device memory.
inline void* uvmsim_access(const UvmsimLaunch* launch, const void* address, size_t bytes, int access) {
  using Function = void* (*)(const UvmsimLaunch*, const void*, size_t, int);
  static const auto function = reinterpret_cast<Function>(UvmsimFind("uvmsim_cudart_access"));
  return function == nullptr ? nullptr : function(launch, address, bytes, access);
}

// The kernel computes for `ns` nanoseconds, beside the time that its accesses take. From within a model only.
inline void uvmsim_compute(const UvmsimLaunch* launch, double ns) {
  using Function = void (*)(const UvmsimLaunch*, double);
  static const auto function = reinterpret_cast<Function>(UvmsimFind("uvmsim_cudart_compute"));
  if (function != nullptr) function(launch, ns);
}

// The calling thread's time on the simulator's virtual clock, in nanoseconds; negative on a real GPU. What a program
// measures with the real clock is the simulator's own work; this is what the program would have measured on the machine
// that is simulated: use it wherever a timer on the host is read. See "Time" in sim/README.md.
inline double uvmsim_now_ns() {
  using Function = double (*)();
  static const auto function = reinterpret_cast<Function>(UvmsimFind("uvmsim_cudart_now_ns"));
  return function == nullptr ? -1 : function();
}

template <typename T>
inline T UvmsimArgument(const UvmsimLaunch* launch, int index) {
  return *static_cast<T*>(launch->arguments[index]);
}

// Walks `count` elements from `first`, touching a 64 KiB piece at a time, in address order: the walk of a streaming
// kernel that faults one big page after the other. `body(span, n, offset)` gets a writable view of elements [offset,
// offset + n).
template <typename T, typename Body>
inline void UvmsimForEachSpan(const UvmsimLaunch* launch, T* first, size_t count, int access, Body body) {
  constexpr uintptr_t kPiece = uintptr_t{64} * 1024;
  size_t offset = 0;
  while (offset < count) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(first + offset);
    const uintptr_t end = (at / kPiece + 1) * kPiece;
    size_t n = (end - at + sizeof(T) - 1) / sizeof(T);
    if (n > count - offset) n = count - offset;
    void* view = uvmsim_access(launch, first + offset, n * sizeof(T), access);
    if (view == nullptr) return;
    body(static_cast<T*>(view), n, offset);
    offset += n;
  }
}

#define UVMSIM_JOIN_EXPANDED(a, b) a##b
#define UVMSIM_JOIN(a, b) UVMSIM_JOIN_EXPANDED(a, b)
// NOLINTBEGIN(bugprone-macro-parentheses): names, not expressions
// At namespace scope. `kernel` may be an instance of a template: UVMSIM_REGISTER(Scale<float>, ScaleOnHost).
#define UVMSIM_REGISTER(kernel, model)                                                   \
  [[maybe_unused]] static const bool UVMSIM_JOIN(uvmsim_registered_, __COUNTER__) = [] { \
    uvmsim_register_kernel(reinterpret_cast<const void*>(&kernel), &model);              \
    return true;                                                                         \
  }()
// NOLINTEND(bugprone-macro-parentheses)
