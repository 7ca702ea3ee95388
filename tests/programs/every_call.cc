// Every call of preload/calls/calls.inc, looked up in its library and called: with nothing (null pointers, zeros), then
// with arguments that point to zeroed memory. It prints the names in order; the trace must say the same. So a row whose
// description reads what it must not, or that is routed to another function, fails a test when it is added.
//
//   every_call symbols | twins
#include <dlfcn.h>
#include <string.h>

#include <string>
#include <type_traits>

#include "preload/calls/cuda_api.h"
#include "tests/programs/host.h"

namespace {

using RuntimeResult = cudaError_t;
using DriverResult = CUresult;

alignas(64) char zeros[64 * 1024];

enum class Arguments { kNothing, kPointers };

template <Arguments kArguments, typename T>
T Value() {
  if constexpr (kArguments == Arguments::kNothing) {
    return T{};
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<T>(reinterpret_cast<uintptr_t>(zeros));
  } else if constexpr (std::is_same_v<T, unsigned long long>) {
    return reinterpret_cast<uintptr_t>(zeros);  // a CUdeviceptr, or flags
  } else if constexpr (std::is_class_v<T>) {
    return T{};
  } else {
    return static_cast<T>(1);
  }
}

enum class Operation {
  kOther,
  kAllocate,
  kFree,
  kCopy,
  kSet,
  kPrefetch,
  kAdvise,
  kRegister,
  kUnregister,
  kReserve,
  kUnreserve,
  kCreate,
  kRelease,
  kMap,
  kUnmap,
  kSetAccess,
  kInitialize,
  kReset,
  kProfilerStart,
  kProfilerStop,
  kMake,
};

template <Arguments kArguments, typename Result, typename... Parameters>
void Call(void* function, Result (*)(Parameters...)) {
  memset(zeros, 0, sizeof(zeros));
  reinterpret_cast<Result (*)(Parameters...)>(function)(Value<kArguments, Parameters>()...);
}

template <typename Signature>
void CallTwice(const char* name, void* function, Operation operation) {
  Check(function != nullptr, name);
  printf("%s\n", name);
  Call<Arguments::kNothing>(function, Signature{nullptr});
  if (operation == Operation::kFree) return;  // of memory that nobody allocated
  printf("%s\n", name);
  Call<Arguments::kPointers>(function, Signature{nullptr});
}

void* libraries[2];
enum { Runtime, Driver };

int Symbols() {
#define UVMTRACE_CALL(layer, symbol, operation, parameters, ...) \
  CallTwice<layer##Result(*) parameters>(#symbol, dlsym(libraries[layer], #symbol), Operation::k##operation);
#include "preload/calls/calls.inc"
  return 0;
}

bool EndsWith(const std::string& text, const char* end) {
  const size_t length = strlen(end);
  return text.size() > length && text.compare(text.size() - length, length, end) == 0;
}

// The twin of a stream function and the function itself, asked of cuGetProcAddress by the name that both share.
template <typename Signature>
void AskTwins(const std::string& symbol, Operation operation) {
  static const auto get =
      reinterpret_cast<decltype(&cuGetProcAddress_v2)>(dlsym(libraries[Driver], "cuGetProcAddress_v2"));
  if (!EndsWith(symbol, "_ptds") && !EndsWith(symbol, "_ptsz")) return;
  const std::string plain = symbol.substr(0, symbol.size() - 5);
  if (dlsym(libraries[Driver], (plain + "_v2").c_str()) != nullptr) return;  // an older version of the name
  std::string name = plain;
  if (EndsWith(name, "_v2")) name.resize(name.size() - 3);
  void* legacy = nullptr;
  void* per_thread = nullptr;
  Check(get(name.c_str(), &legacy, 13000, 0, nullptr) == CUDA_SUCCESS, name.c_str());
  Check(get(name.c_str(), &per_thread, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, nullptr) == CUDA_SUCCESS,
        name.c_str());
  Check(legacy != per_thread, "the twin is a function of its own");
  CallTwice<Signature>(plain.c_str(), legacy, operation);
  CallTwice<Signature>(symbol.c_str(), per_thread, operation);
}

int Twins() {
#define ASK_Runtime(...)
#define ASK_Driver(symbol, operation, parameters) \
  AskTwins<DriverResult(*) parameters>(#symbol, Operation::k##operation);
#define UVMTRACE_CALL(layer, symbol, operation, parameters, ...) ASK_##layer(symbol, operation, parameters)
#include "preload/calls/calls.inc"
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  libraries[Runtime] = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  libraries[Driver] = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  Check(libraries[Runtime] != nullptr && libraries[Driver] != nullptr, "dlopen");
  return RunScenario({{"symbols", &Symbols}, {"twins", &Twins}}, argc, argv);
}
