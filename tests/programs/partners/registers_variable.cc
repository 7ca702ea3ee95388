// Registers a __managed__ variable as nvcc's start-up code does, and is not itself linked with a runtime: it gets the
// one of the library that is linked with both (wraps_registration.cc).
#include <stdio.h>

extern "C" {
void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, unsigned long, int, int);
char __cudaInitModule(void**);

__attribute__((visibility("default"))) int register_variable() {
  static void* fat_binary[8];
  static void* shadow;
  static char name[] = "v";
  __cudaRegisterManagedVar(fat_binary, &shadow, name, "v", 0, 4096, 0, 0);
  return __cudaInitModule(fat_binary);
}
}
