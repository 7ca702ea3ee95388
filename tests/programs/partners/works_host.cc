// Calls `work` of the library that it is linked with, or, with an argument, of the library that it opens.
//
//   works_host [LIBRARY [global]]
#include <dlfcn.h>
#include <stdio.h>

extern "C" int work() __attribute__((weak));

int main(int argc, char** argv) {
  auto function = &work;
  if (argc > 1) {
    void* const library = dlopen(argv[1], RTLD_LAZY | (argc > 2 ? RTLD_GLOBAL : RTLD_LOCAL));
    if (library == nullptr) {
      printf("%s\n", dlerror());
      return 1;
    }
    function = reinterpret_cast<int (*)()>(dlsym(library, "work"));
  }
  if (function == nullptr) {
    printf("FAILED: no work\n");
    return 1;
  }
  const int first = function();
  const int second = function();
  printf("%s: %d %d\n", first < 0 ? "FAILED" : "done", first, second);
  return 0;
}
