// The usual trick to oversubscribe a program that was not written for it: cudaMalloc gives managed memory.
extern "C" int cudaMallocManaged(void**, unsigned long, unsigned);
extern "C" __attribute__((visibility("default"))) int cudaMalloc(void** pointer, unsigned long bytes) {
  return cudaMallocManaged(pointer, bytes, 1);
}
