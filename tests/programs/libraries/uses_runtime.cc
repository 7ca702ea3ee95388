// A library that is linked with one libcudart, as a framework's extension is: built once for each major version, with
// the signatures that this version has.
#include <stddef.h>
#include <stdint.h>

extern "C" {

struct Location {
  int type;
  int id;
};
#if USES_MAJOR >= 13
int cudaMemPrefetchAsync(const void* pointer, size_t size, Location location, unsigned flags, void* stream);
#else
int cudaMemPrefetchAsync(const void* pointer, size_t size, int device, void* stream);
#endif
int cudaMalloc(void** pointer, size_t size);
int cudaFree(void* pointer);
const uint64_t* FakeLastRegisters();

// By way of a tail call the caller would be our caller, whom no runtime can be told of.
volatile int last_result = 0;

__attribute__((visibility("default"))) int prefetch(int device) {
  void* const pointer = reinterpret_cast<void*>(uintptr_t{0x1000});
  void* const stream = reinterpret_cast<void*>(uintptr_t{0x5555});
#if USES_MAJOR >= 13
  last_result = cudaMemPrefetchAsync(pointer, 111, {1, device}, 0, stream);
#else
  last_result = cudaMemPrefetchAsync(pointer, 111, device, stream);
#endif
  return last_result;
}
// What the runtime that this library is linked with got.
__attribute__((visibility("default"))) const uint64_t* registers() { return FakeLastRegisters(); }
__attribute__((visibility("default"))) int allocate() {
  void* pointer = nullptr;
  const int result = cudaMalloc(&pointer, 77);
  return result != 0 ? result : cudaFree(pointer);
}

}  // extern "C"
