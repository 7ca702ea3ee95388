extern "C" {
int cudaMalloc(void**, unsigned long);
extern int (*neighbours_function)();
}

static int Allocate() {
  void* pointer = nullptr;
  return cudaMalloc(&pointer, 77);
}

__attribute__((constructor)) static void Tell() { neighbours_function = &Allocate; }
