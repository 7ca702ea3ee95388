// A library with one fault for each sanitizer: what its runtime finds here must fail a case, or nothing that it finds would.
#include <pthread.h>
#include <stdlib.h>

namespace {

int shared = 0;
volatile char bytes[16];
volatile int index_behind = 16;

[[maybe_unused]] void* Write(void*) {
  for (int i = 0; i < 1000; ++i) ++shared;
  return nullptr;
}

__attribute__((constructor)) void Fault() {
#if defined(__SANITIZE_ADDRESS__)
  if (bytes[index_behind] == 1) abort();
#elif defined(__SANITIZE_THREAD__)
  pthread_t threads[2];
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, &Write, nullptr);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
#else
  if (bytes[index_behind - 1] == 1) abort();
#endif
}

}  // namespace
