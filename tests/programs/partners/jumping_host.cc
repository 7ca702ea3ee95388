// Leaves a CUDA call by longjmp, out of a signal handler, and goes on calling.
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>

static sigjmp_buf before;
static void Jump(int) { siglongjmp(before, 1); }

int main() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto allocate = reinterpret_cast<int (*)(unsigned long long*, unsigned long)>(dlsym(driver, "cuMemAlloc_v2"));
  const auto copy =
      reinterpret_cast<int (*)(unsigned long long, const void*, unsigned long)>(dlsym(driver, "cuMemcpyHtoD_v2"));
  signal(SIGSEGV, &Jump);
  unsigned long long pointer = 0;
  printf("%d %d\n", init(0), allocate(&pointer, 4096));
  if (sigsetjmp(before, 1) == 0) {
    printf("returned %d\n", copy(pointer, reinterpret_cast<const void*>(16), 4096));
  } else {
    printf("jumped\n");
  }
  for (int i = 0; i < 10; ++i) printf("%d", allocate(&pointer, 100));
  printf("\n");
  return 0;
}
