// A program that is linked with libcudart and libcuda. Built in the ways that a linker binds calls: lazily, at once,
// without a PLT, at a fixed address. It calls by name, through a table in its data, and through a pointer made at run
// time.
#include <stdio.h>

extern "C" {
int cudaMalloc(void**, unsigned long);
int cudaFree(void*);
int cuInit(unsigned);
int cuMemAlloc_v2(unsigned long long*, unsigned long);
}

static int (*const table[])(void**, unsigned long) = {&cudaMalloc};

int main() {
  void* pointer = nullptr;
  printf("%d", cuInit(0));
  printf(" %d", cudaMalloc(&pointer, 101));
  printf(" %d", table[0](&pointer, 102));
  int (*volatile later)(void**, unsigned long) = &cudaMalloc;
  printf(" %d", later(&pointer, 103));
  printf(" %d", later == table[0]);
  unsigned long long memory = 0;
  printf(" %d", cuMemAlloc_v2(&memory, 104));
  printf(" %d\n", cudaFree(pointer));
  return 0;
}
