// A program that asks in every way whether CUDA is there. It is linked with none of it: without the recorder each
// answer is no, unless its argument names a library to open first.
//
//   probe_host [LIBRARY local|global]
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <initializer_list>

extern "C" {
__attribute__((weak)) int cudaMallocAsync(void**, unsigned long, void*);
__attribute__((weak)) int cuInit(unsigned);
__attribute__((weak)) void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, unsigned long, int, int);
}

// In data, which the loader relocates as well.
static int (*weak_pointer)(unsigned) = &cuInit;

static const char* Said(void* found) {
  const char* const error = dlerror();
  if (found != nullptr) return error == nullptr ? "present" : "present, with an error";
  return error != nullptr && strstr(error, "cu") != nullptr ? "absent, and dlerror names it"
                                                            : "absent without an error";
}

int main(int argc, char** argv) {
  if (argc == 3) {
    const int scope = strcmp(argv[2], "global") == 0 ? RTLD_GLOBAL : RTLD_LOCAL;
    printf("opened: %d\n", dlopen(argv[1], RTLD_NOW | scope) != nullptr);
  }
  printf("weak: %d %d %d %d\n", cudaMallocAsync != nullptr, cuInit != nullptr, __cudaRegisterManagedVar != nullptr,
         weak_pointer != nullptr);
  void* const program = dlopen(nullptr, RTLD_NOW);
  void* const libm = dlopen("libm.so.6", RTLD_NOW);
  void* const libm_by_path = dlopen("/lib64/ld-linux-x86-64.so.2", RTLD_NOW);
  for (const char* name : {"cuInit", "cudaMalloc", "cuGetProcAddress_v2", "cuMemAlloc_v2", "__cudaInitModule",
                           "cuThereIsNoSuchFunction"}) {
    dlerror();
    printf("%s by RTLD_DEFAULT: %s\n", name, Said(dlsym(RTLD_DEFAULT, name)));
    printf("%s by RTLD_NEXT: %s\n", name, Said(dlsym(RTLD_NEXT, name)));
    printf("%s in the program: %s\n", name, Said(dlsym(program, name)));
    printf("%s in libm: %s\n", name, Said(dlsym(libm, name)));
    if (libm_by_path != nullptr) printf("%s in the loader: %s\n", name, Said(dlsym(libm_by_path, name)));
    printf("%s by dlvsym: %s\n", name, Said(dlvsym(RTLD_DEFAULT, name, "libcudart.so.13")));
  }
  return 0;
}
