// Opens its neighbour by its bare name, which only its own RUNPATH finds, and calls it without looking anything up: the
// neighbour's constructor has told where its function is.
#include <dlfcn.h>

extern "C" {
extern int (*neighbours_function)();
__attribute__((visibility("default"))) int (*neighbours_function)() = nullptr;
}

extern "C" __attribute__((visibility("default"))) int work() {
  if (neighbours_function == nullptr && dlopen("libneighbour.so", RTLD_NOW | RTLD_LOCAL) == nullptr) return -1;
  return neighbours_function != nullptr ? neighbours_function() : -2;
}
