// A program that comes to CUDA by the doors that others forget: versioned look-ups, deep binding, namespaces, several
// runtimes, pointers fetched before anything else happened. Linked with nothing of CUDA. It prints what the host sees,
// never an address.
#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

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

void* Library(const char* name, int flags = RTLD_NOW | RTLD_LOCAL) {
  void* const library = dlopen((std::string(TEST_LIBRARY_DIR "/") + name).c_str(), flags);
  if (library == nullptr) printf("%s\n", dlerror());
  Check(library != nullptr, name);
  return library;
}

// --- pointers fetched before main, before cuInit, before any session ---

decltype(&cuMemAlloc_v2) early_allocate = nullptr;
decltype(&cuMemFree_v2) early_free = nullptr;
decltype(&cuGetProcAddress_v2) early_get = nullptr;
CUresult (*early_init)(unsigned) = nullptr;

__attribute__((constructor)) void FetchEarly() {
  if (getenv("FETCH_EARLY") == nullptr) return;
  void* const driver = Driver();
  early_allocate = Look<decltype(early_allocate)>(driver, "cuMemAlloc_v2");
  early_get = Look<decltype(early_get)>(driver, "cuGetProcAddress_v2");
  void* pointer = nullptr;
  early_get("cuMemFree", &pointer, 12000, 0, nullptr);
  early_free = reinterpret_cast<decltype(early_free)>(pointer);
  early_get("cuInit", &pointer, 12000, 0, nullptr);
  early_init = reinterpret_cast<decltype(early_init)>(pointer);
}

int EarlyRound() {
  CUdeviceptr pointer = 0;
  printf("%d", early_init(0));
  printf(" %d", early_allocate(&pointer, 321));
  printf(" %d\n", early_free(pointer));
  return 0;
}

int EarlyPointers() {
  EarlyRound();
  const pid_t child = fork();
  if (child == 0) exit(EarlyRound());
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

// --- versioned look-ups ---

int VersionedLookups() {
  void* const runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  const auto allocate =
      reinterpret_cast<cudaError_t (*)(void**, size_t)>(dlvsym(runtime, "cudaMalloc", "libcudart.so.13"));
  Check(allocate != nullptr, "dlvsym of cudaMalloc");
  void* pointer = nullptr;
  printf("%d\n", allocate(&pointer, 555));
  printf("%s\n", dlvsym(runtime, "cudaMalloc", "libcudart.so.99") == nullptr ? "no such version" : "some");
  printf("%s\n", dlerror() != nullptr ? "dlerror is set" : "dlerror is not set");
  printf("%s\n", dlvsym(runtime, "cudnnCreate", "libcudart.so.13") == nullptr ? "none" : "some");
  const char* const error = dlerror();
  printf("%s\n", error != nullptr && strstr(error, "cudnnCreate") != nullptr ? "dlerror names it" : "?");
  Check(dlvsym(RTLD_DEFAULT, "printf", "GLIBC_2.2.5") != nullptr, "dlvsym of printf");
  // libcuda has no versions: glibc says no, whatever the version.
  printf("%s\n", dlvsym(Driver(), "cuMemAlloc_v2", "GLIBC_2.2.5") == nullptr ? "none" : "some");
  return 0;
}

// --- the crash classes ---

// HAMi-core took the second look-up of a name by a thread for a recursion, and answered with null.
int SecondLookup() {
  void* const driver = Driver();
  void* const first = dlsym(driver, "cuMemAlloc_v2");
  std::atomic<int> same{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) same += dlsym(driver, "cuMemAlloc_v2") == first;
    });
  }
  for (std::thread& thread : threads) thread.join();
  printf("%d of 400 look-ups are the same\n", same.load());
  return 0;
}

// The very first look-ups of a process, of the loader's own functions: nothing may need what is being looked up.
int OwnDlsym() {
  using Find = void* (*)(void*, const char*);
  const auto find = reinterpret_cast<Find>(dlsym(RTLD_NEXT, "dlsym"));
  Check(find != nullptr, "dlsym of dlsym");
  Check(dlsym(RTLD_DEFAULT, "dlvsym") != nullptr && dlsym(RTLD_DEFAULT, "dlopen") != nullptr, "the loader's functions");
  const auto versioned = reinterpret_cast<Find>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
  Check(versioned != nullptr && versioned(RTLD_DEFAULT, "printf") != nullptr, "dlvsym of dlsym");
  CUdeviceptr pointer = 0;
  printf("%d\n", Look<decltype(&cuMemAlloc_v2)>(Driver(), "cuMemAlloc_v2")(&pointer, 64));
  return 0;
}

int WeakSelfLookup() {
  void* const library = Library("libweak_self_lookup.so", RTLD_NOW | RTLD_GLOBAL);
  printf("%d\n", Look<int (*)()>(library, "ask_tools")());
  return 0;
}

// --- several runtimes ---

void PrintRegisters(void* library) {
  const auto registers = Look<const uint64_t* (*)()>(library, "registers")();
  for (int i = 0; i < 5; ++i) printf("%lx ", registers[i]);
  printf("\n");
}

// Two extensions, each linked with a runtime of its own. `flags`: into the global scope or not.
int TwoRuntimes(int flags) {
  void* const old_one = Library("libuses_runtime_12.so", flags);
  void* const new_one = Library("libuses_runtime_13.so", flags);
  for (int round = 0; round < 2; ++round) {
    printf("%d\n", Look<int (*)(int)>(old_one, "prefetch")(6));
    printf("%d\n", Look<int (*)(int)>(new_one, "prefetch")(7));
  }
  PrintRegisters(old_one);
  PrintRegisters(new_one);
  return 0;
}

int BoundLocal(const char* name) {
  void* const library = Library(name);
  printf("%d\n", Look<int (*)()>(library, "allocate")());
  return 0;
}

// A third one only makes sense for look-ups.
int ThreeRuntimes() {
  for (const char* soname : {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"}) {
    void* const runtime = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    void* pointer = nullptr;
    printf("%d\n", Look<cudaError_t (*)(void**, size_t)>(runtime, "cudaMalloc")(&pointer, 99));
    int version = 0;
    Look<cudaError_t (*)(int*)>(runtime, "cudaRuntimeGetVersion")(&version);
    printf("%d\n", version);
  }
  return 0;
}

// --- past us ---

int DeepBound() {
  CUdeviceptr pointer = 0;
  printf("%d\n", Look<decltype(&cuMemAlloc_v2)>(Driver(), "cuMemAlloc_v2")(&pointer, 128));
  void* const library = Library("libuses_runtime_13.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  printf("%d\n", Look<int (*)()>(library, "allocate")());
  return 0;
}

int Namespace() {
  CUdeviceptr pointer = 0;
  printf("%d\n", Look<decltype(&cuMemAlloc_v2)>(Driver(), "cuMemAlloc_v2")(&pointer, 128));
  void* const library = dlmopen(LM_ID_NEWLM, TEST_LIBRARY_DIR "/libuses_runtime_13.so", RTLD_NOW | RTLD_LOCAL);
  printf("%s\n", library != nullptr ? "opened" : "not opened");
  if (library != nullptr) printf("%d\n", Look<int (*)()>(library, "allocate")());
  return 0;
}

// --- entry points ---

int EntryPoints() {
  void* const runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  const auto get =
      Look<cudaError_t (*)(const char*, void**, unsigned, unsigned long long, cudaDriverEntryPointQueryResult*)>(
          runtime, "cudaGetDriverEntryPointByVersion");
  const auto ask = [&](const char* name, unsigned version, unsigned long long flags) {
    void* pointer = nullptr;
    cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t result = get(name, &pointer, version, flags, &status);
    printf("%s %u: %d %d\n", name, version, result, status);
    return pointer;
  };
  const auto advise1 =
      reinterpret_cast<CUresult (*)(CUdeviceptr, size_t, CUmem_advise, CUdevice)>(ask("cuMemAdvise", 8000, 0));
  const auto advise2 = reinterpret_cast<decltype(&cuMemAdvise_v2)>(ask("cuMemAdvise", 12020, 0));
  printf("%d\n", advise1(0x1000, 10, CU_MEM_ADVISE_SET_READ_MOSTLY, 3));
  printf("%d\n", advise2(0x1000, 10, CU_MEM_ADVISE_SET_READ_MOSTLY, {CU_MEM_LOCATION_TYPE_DEVICE, 4}));
  const auto free_async =
      reinterpret_cast<decltype(&cuMemFreeAsync)>(ask("cuMemFreeAsync", 11020, cudaEnablePerThreadDefaultStream));
  printf("%d\n", free_async(0, nullptr));
  ask("cuThereIsNoSuchFunction", 12000, 0);
  return 0;
}

// --- threads ---

// THREADS threads make CALLS calls each.
int Stress() {
  const char* const threads_text = getenv("STRESS_THREADS");
  const char* const calls_text = getenv("STRESS_CALLS");
  const int thread_count = threads_text != nullptr ? atoi(threads_text) : 64;
  const long calls = calls_text != nullptr ? atol(calls_text) : 10'000;
  const auto set = Look<decltype(&cuMemsetD8_v2)>(Driver(), "cuMemsetD8_v2");
  std::vector<std::thread> threads;
  for (int i = 0; i < thread_count; ++i) {
    threads.emplace_back([=] {
      for (long call = 0; call < calls; ++call) set(0x1000, 0, static_cast<size_t>(call));
    });
  }
  for (std::thread& thread : threads) thread.join();
  printf("%ld calls\n", thread_count * calls);
  return 0;
}

int DriverInternal() {
  printf("%d\n", Look<int (*)()>(Driver(), "FakeLooksItselfUp")());
  return 0;
}

// --- audit ---

// Six of the eight sets pass a door; the runtime call is one of its own and makes no driver call.
int Audit() {
  void* const driver = Driver();
  void* const runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  const auto set = Look<decltype(&cuMemsetD8_v2)>(driver, "cuMemsetD8_v2");
  printf("%d", set(0x1000, 0, 1));  // before the first context: not counted
  CUcontext context = nullptr;
  printf(" %d", Look<CUresult (*)(unsigned)>(driver, "cuInit")(0));
  printf(" %d", Look<decltype(&cuDevicePrimaryCtxRetain)>(driver, "cuDevicePrimaryCtxRetain")(&context, 0));
  for (int i = 0; i < 5; ++i) printf(" %d", set(0x1000, 0, 1));
  void* const past_us = Library("libpast_us.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  printf(" %d", Look<int (*)()>(past_us, "set_past_us")());
  printf(" %d",
         Look<cudaError_t (*)(void*, size_t, int, size_t, size_t)>(runtime, "cudaMemset2D")(nullptr, 1, 0, 1, 1));
  printf(" %d", Look<cudaError_t (*)(void*, size_t, cudaMemLocation, unsigned, void*)>(
                    runtime, "cudaMemPrefetchAsync_ptsz")(nullptr, 1, {cudaMemLocationTypeHost, 0}, 0, nullptr));
  printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Scenarios scenarios = {
      {"early_pointers", &EarlyPointers},
      {"versioned_lookups", &VersionedLookups},
      {"second_lookup", &SecondLookup},
      {"own_dlsym", &OwnDlsym},
      {"weak_self_lookup", &WeakSelfLookup},
      {"two_runtimes", [] { return TwoRuntimes(RTLD_NOW | RTLD_LOCAL); }},
      {"two_runtimes_global", [] { return TwoRuntimes(RTLD_NOW | RTLD_GLOBAL); }},
      {"three_runtimes", &ThreeRuntimes},
      {"bound_local_11", [] { return BoundLocal("libuses_runtime_11.so"); }},
      {"bound_local_12", [] { return BoundLocal("libuses_runtime_12.so"); }},
      {"bound_local_13", [] { return BoundLocal("libuses_runtime_13.so"); }},
      {"deep_bound", &DeepBound},
      {"namespace", &Namespace},
      {"entry_points", &EntryPoints},
      {"stress", &Stress},
      {"audit", &Audit},
      {"driver_internal", &DriverInternal},
  };
  return RunScenario(scenarios, argc, argv);
}
