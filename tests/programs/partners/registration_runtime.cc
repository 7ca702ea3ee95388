// A runtime that is not called libcudart, and says what reaches it.
#include <stdio.h>

extern "C" {
__attribute__((visibility("default"))) void __cudaRegisterManagedVar(void**, void**, char*, const char* name, int,
                                                                     unsigned long bytes, int, int) {
  printf("registered %s, %lu bytes\n", name, bytes);
}
__attribute__((visibility("default"))) char __cudaInitModule(void**) {
  printf("initialised\n");
  return 7;
}
}
