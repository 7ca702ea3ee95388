// A program linked with nothing of CUDA, that comes to it by dlopen, dlsym, cuGetProcAddress and
// cudaGetDriverEntryPoint. It prints what the host sees, never an address: with and without the library the output must
// be the same.
#include <dirent.h>
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#include "preload/calls/cuda_api.h"
#include "tests/programs/host.h"

namespace {

template <typename Function>
Function Look(void* library, const char* name) {
  Check(library != nullptr, "dlopen");
  void* const found = dlsym(library, name);
  Check(found != nullptr, name);
  return reinterpret_cast<Function>(found);
}

void* Driver() { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); }

using GetProcAddress1 = CUresult (*)(const char*, void**, int, cuuint64_t);
using GetProcAddress2 = decltype(&cuGetProcAddress_v2);

void* Ask(GetProcAddress2 get, const char* name, int version, cuuint64_t flags) {
  void* pointer = nullptr;
  const CUresult result = get(name, &pointer, version, flags, nullptr);
  printf("%s %d %d: %d\n", name, version, static_cast<int>(flags), result);
  return pointer;
}

int NoCuda() {
  int threads = 0;
  DIR* const folder = opendir("/proc/self/task");
  while (readdir(folder) != nullptr) ++threads;
  closedir(folder);
  printf("%d threads\n", threads - 2);
  return 0;
}

// Look-ups alone, as a program does that only asks whether there is a GPU library.
int LookOnly() {
  void* const driver = Driver();
  Check(dlsym(driver, "cuMemAlloc_v2") != nullptr, "cuMemAlloc_v2");
  return NoCuda();
}

int LocalDlopen() {
  void* const runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  const auto allocate = Look<cudaError_t (*)(void**, size_t, unsigned)>(runtime, "cudaMallocManaged");
  const auto release = Look<cudaError_t (*)(void*)>(runtime, "cudaFree");
  void* pointer = nullptr;
  printf("%d", allocate(&pointer, 4096, 1));
  printf(" %d\n", release(pointer));
  return 0;
}

int DriverDlsym() {
  void* const driver = Driver();
  printf("%d\n", Look<CUresult (*)(unsigned)>(driver, "cuInit")(0));
  CUdeviceptr pointer = 0;
  printf("%d\n", Look<decltype(&cuMemAllocManaged)>(driver, "cuMemAllocManaged")(&pointer, 8192, 1));
  printf("%d\n", Look<decltype(&cuMemFree_v2)>(driver, "cuMemFree_v2")(pointer));
  return 0;
}

int DriverInit() {
  printf("%d\n", Look<CUresult (*)(unsigned)>(Driver(), "cuInit")(0));
  return 0;
}

// What libcudart does: an empty name first, both ABIs, both kinds of stream, versions, a name that is not there.
int Routing() {
  void* const driver = Driver();
  const auto first = Look<GetProcAddress2>(driver, "cuGetProcAddress_v2");
  Ask(first, "", 0, 0);
  const auto old_abi = reinterpret_cast<GetProcAddress1>(Ask(first, "cuGetProcAddress", 11030, 0));
  const auto new_abi = reinterpret_cast<GetProcAddress2>(Ask(first, "cuGetProcAddress", 12000, 0));
  Check(reinterpret_cast<void*>(old_abi) != reinterpret_cast<void*>(new_abi), "the two ABIs are two functions");
  CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
  void* untouched = reinterpret_cast<void*>(0x77);
  printf("absent: %d", new_abi("cuNoSuchFunction", &untouched, 12000, 0, &status));
  printf(", status %d, pointer %p\n", status, untouched);
  printf("null pointer: %d\n", new_abi("cuMemAlloc", nullptr, 12000, 0, nullptr));
  printf("null name: %d\n", new_abi(nullptr, &untouched, 12000, 0, nullptr));
  void* pointer = nullptr;
  printf("old ABI: %d\n", old_abi("cuMemAlloc", &pointer, 3020, 0));
  CUdeviceptr memory = 0;
  printf("%d\n", reinterpret_cast<decltype(&cuMemAlloc_v2)>(pointer)(&memory, 1234));

  const auto legacy = reinterpret_cast<decltype(&cuMemFreeAsync)>(Ask(new_abi, "cuMemFreeAsync", 11020, 0));
  const auto per_thread = reinterpret_cast<decltype(&cuMemFreeAsync)>(
      Ask(new_abi, "cuMemFreeAsync", 11020, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM));
  Check(legacy != per_thread, "per-thread streams have their own function");
  printf("%d\n", legacy(memory, reinterpret_cast<CUstream>(0x10)));
  printf("%d\n", per_thread(0, reinterpret_cast<CUstream>(0x20)));

  // One name, two signatures by version.
  const auto prefetch1 = reinterpret_cast<CUresult (*)(CUdeviceptr, size_t, CUdevice, CUstream)>(
      Ask(new_abi, "cuMemPrefetchAsync", 8000, 0));
  const auto prefetch2 =
      reinterpret_cast<decltype(&cuMemPrefetchAsync_v2)>(Ask(new_abi, "cuMemPrefetchAsync", 12020, 0));
  printf("%d\n", prefetch1(0x1000, 100, 3, reinterpret_cast<CUstream>(0x30)));
  printf("%d\n", prefetch2(0x2000, 200, {CU_MEM_LOCATION_TYPE_DEVICE, 4}, 0, reinterpret_cast<CUstream>(0x40)));
  printf("%d\n", prefetch2(0x3000, 300, {CU_MEM_LOCATION_TYPE_HOST, 0}, 0, nullptr));

  // A function that is not in the list, and the same pointer twice.
  int version = 0;
  reinterpret_cast<CUresult (*)(int*)>(Ask(new_abi, "cuDriverGetVersion", 2020, 0))(&version);
  printf("driver %d\n", version);
  Check(Ask(new_abi, "cuMemAlloc", 3020, 0) == Ask(new_abi, "cuMemAlloc", 3020, 0), "the same pointer twice");
  Check(dlsym(driver, "cuMemAlloc_v2") == dlsym(driver, "cuMemAlloc_v2"), "the same symbol twice");
  return 0;
}

int EntryPoint() {
  void* const runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  const auto get = Look<cudaError_t (*)(const char*, void**, unsigned long long, cudaDriverEntryPointQueryResult*)>(
      runtime, "cudaGetDriverEntryPoint");
  void* pointer = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointVersionNotSufficent;
  printf("%d", get("cuMemCreate", &pointer, 0, &status));
  printf(" %d\n", status);
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties{};
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 2};
  printf("%d\n", reinterpret_cast<decltype(&cuMemCreate)>(pointer)(&handle, 2 << 20, &properties, 0));
  return 0;
}

int NullHandle() {
  printf("%s\n", dlsym(RTLD_DEFAULT, "cuThereIsNoSuchFunction") == nullptr ? "none" : "some");
  const char* const error = dlerror();
  printf("%s\n", error != nullptr && strstr(error, "cuThereIsNoSuchFunction") != nullptr ? "dlerror names it" : "?");
  void* const driver = Driver();
  printf("%s\n", dlsym(driver, "cuMemNoSuchFunction") == nullptr ? "none" : "some");
  printf("%s\n", dlerror() != nullptr ? "dlerror is set" : "dlerror is not set");
  Check(dlsym(driver, "cuMemAlloc_v2") != nullptr, "cuMemAlloc_v2");
  printf("%s\n", dlerror() != nullptr ? "dlerror is set" : "dlerror is not set");
  // The whole program's handle: finds what is bound by the linker.
  printf("%s\n", dlsym(dlopen(nullptr, RTLD_NOW), "printf") != nullptr ? "printf" : "none");
  return 0;
}

int PrefixMatch() {
  void* const library = dlopen(TEST_LIBRARY_DIR "/libcudnn_like.so", RTLD_NOW | RTLD_LOCAL);
  printf("%d\n", Look<int (*)()>(library, "cudnnCreate")());
  return 0;
}

int SelfLookup() {
  void* const library = dlopen(TEST_LIBRARY_DIR "/libself_lookup.so", RTLD_NOW | RTLD_GLOBAL);
  printf("%d\n", Look<int (*)()>(library, "start_tool")());
  return 0;
}

int Runpath() {
  void* const library = dlopen(TEST_LIBRARY_DIR "/librunpath.so", RTLD_NOW | RTLD_LOCAL);
  printf("%d\n", Look<int (*)()>(library, "call_beside")());
  return 0;
}

int DeepBind() {
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  CUdeviceptr pointer = 0;
  printf("%d\n", Look<decltype(&cuMemAlloc_v2)>(library, "cuMemAlloc_v2")(&pointer, 128));
  return 0;
}

// The registers that a runtime of the given major version gets.
int Registers(const char* soname) {
  void* const runtime = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
  const auto last = Look<const uint64_t* (*)()>(runtime, "FakeLastRegisters");
  const auto print = [&] {
    for (int i = 0; i < 5; ++i) printf("%lx ", last()[i]);
    printf("\n");
  };
  void* const stream = reinterpret_cast<void*>(0x5555);
  if (strstr(soname, "13") != nullptr) {
    Look<cudaError_t (*)(const void*, size_t, cudaMemLocation, unsigned, void*)>(runtime, "cudaMemPrefetchAsync")(
        reinterpret_cast<void*>(0x1000), 111, {cudaMemLocationTypeDevice, 6}, 0, stream);
    print();
    Look<cudaError_t (*)(const void*, size_t, cudaMemoryAdvise, cudaMemLocation)>(runtime, "cudaMemAdvise")(
        reinterpret_cast<void*>(0x2000), 222, cudaMemAdviseSetPreferredLocation, {cudaMemLocationTypeHost, 0});
  } else {
    Look<cudaError_t (*)(const void*, size_t, int, void*)>(runtime, "cudaMemPrefetchAsync")(
        reinterpret_cast<void*>(0x1000), 111, 6, stream);
    print();
    Look<cudaError_t (*)(const void*, size_t, cudaMemoryAdvise, int)>(runtime, "cudaMemAdvise")(
        reinterpret_cast<void*>(0x2000), 222, cudaMemAdviseSetPreferredLocation, -1);
  }
  print();
  return 0;
}

int MissingLibrary() {
  printf("%s\n", dlopen("libcudart.so.99", RTLD_NOW) == nullptr ? "none" : "some");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Scenarios scenarios = {
      {"no_cuda", &NoCuda},
      {"look_only", &LookOnly},
      {"local_dlopen", &LocalDlopen},
      {"driver_dlsym", &DriverDlsym},
      {"driver_dlsym_init", &DriverInit},
      {"routing", &Routing},
      {"entry_point", &EntryPoint},
      {"null_handle", &NullHandle},
      {"prefix_match", &PrefixMatch},
      {"self_lookup", &SelfLookup},
      {"runpath", &Runpath},
      {"deep_bind", &DeepBind},
      {"registers_12", [] { return Registers("libcudart.so.12"); }},
      {"registers_13", [] { return Registers("libcudart.so.13"); }},
      {"missing_library", &MissingLibrary},
  };
  return RunScenario(scenarios, argc, argv);
}
