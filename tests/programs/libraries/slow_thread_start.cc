// Stands for a tool that sets every thread up before it runs, as a sanitizer's runtime does: that takes
// THREAD_START_MS, and a lock from the thread's creation on, which nobody gives back in a child that is forked
// meanwhile.
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

namespace {

using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);

sem_t* Lock() {
  static sem_t lock;
  static const int made = sem_init(&lock, 0, 1);
  return made == 0 ? &lock : nullptr;
}

struct Thread {
  void* (*main)(void*);
  void* argument;
  bool has_lock;
};

void* Start(void* data) {
  const Thread thread = *static_cast<Thread*>(data);
  free(data);
  const char* const milliseconds = getenv("THREAD_START_MS");
  if (!thread.has_lock) sem_wait(Lock());
  if (milliseconds != nullptr) usleep(static_cast<useconds_t>(atoi(milliseconds)) * 1000);
  sem_post(Lock());
  return thread.main(thread.argument);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread,
                                                                     const pthread_attr_t* attributes,
                                                                     void* (*main)(void*), void* argument) {
  static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  auto* const data = static_cast<Thread*>(malloc(sizeof(Thread)));
  *data = {main, argument, sem_trywait(Lock()) == 0};
  return real(thread, attributes, &Start, data);
}
