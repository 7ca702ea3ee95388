// Uses what it takes for device memory; with force_managed.cc before it, that is managed memory, and is touched here.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern "C" {
int cudaMalloc(void**, unsigned long);
int cudaMemset(void*, int, unsigned long);
int cudaDeviceSynchronize();
int cudaFree(void*);
}

int main() {
  void* pointer = nullptr;
  printf("%d", cudaMalloc(&pointer, 8 << 20));
  memset(pointer, 1, 8 << 20);
  printf(" %d", cudaMemset(pointer, 2, 8 << 20));
  printf(" %d", cudaDeviceSynchronize());
  usleep(50'000);
  printf(" %d\n", cudaFree(pointer));
  return 0;
}
