// See probe.h.
#include "preload/launcher/probe.h"

#include <cuda.h>
#include <dlfcn.h>
#include <time.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "preload/launcher/source_states.h"
#include "sim/include/uvmsim_host.h"

namespace uvmtrace::launcher {
namespace {

constexpr size_t kManagedBytes = 4096;
constexpr int kLookMs = 20;
// What tells its state at all has done so by then, on a busy machine too.
constexpr int kLongestWaitMs = 5000;
// A thread of the driver that did not appear until then does not.
constexpr int kThreadWaitMs = 1000;

class Answerer {
 public:
  explicit Answerer(const std::string& path) : file_(path) {}
  // At once, because the next call may be the last.
  void Tell(const char* key, std::string value) {
    for (char& letter : value) letter = letter == '\n' ? ' ' : letter;
    file_ << key << ' ' << value << std::endl;
  }

 private:
  std::ofstream file_;
};

class Cuda {
 public:
  explicit Cuda(void* library) : library_(library) {}

  template <typename Function>
  Function* Find(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(library_, name));
  }
  // What a call of this name and type answers; absent functions answer as an old driver would.
  template <typename Function, typename... Arguments>
  CUresult Call(const char* name, Function*, Arguments... arguments) const {
    Function* const function = Find<Function>(name);
    return function == nullptr ? CUDA_ERROR_NOT_FOUND : function(arguments...);
  }
  std::string Failure(const char* call, CUresult result) const {
    const char* name = nullptr;
    Call("cuGetErrorName", &::cuGetErrorName, result, &name);
    return std::string(call) + " failed: " + (name != nullptr ? name : "error " + std::to_string(result));
  }

 private:
  void* library_;
};

// "NVRM version: ... 580.95.05 ...": the first word that is a number with a dot.
std::string DriverVersion(const std::string& root) {
  std::ifstream file(root + "/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (word[0] >= '0' && word[0] <= '9' && word.find('.') != std::string::npos) return word;
  }
  return {};
}

bool Told(const SourceStates& states, const char* source) {
  const auto found = states.find(source);
  return found != states.end() && found->second.kind != SourceStateKind::kIdle;
}

// Until every source has told what it is.
void WaitForSources(const std::string& trace) {
  for (int waited = 0; waited < kLongestWaitMs; waited += kLookMs) {
    const SourceStates states = ReadSourceStates(trace);
    const auto threads = states.find("bh_threads");
    const bool threads_told = waited >= kThreadWaitMs
                                  ? Told(states, "bh_threads")
                                  : threads != states.end() && threads->second.kind == SourceStateKind::kActive;
    if (threads_told && Told(states, "link_counters") && Told(states, "driver_queue") &&
        Told(states, "exact_counters")) {
      return;
    }
    const timespec pause{0, kLookMs * 1'000'000L};
    nanosleep(&pause, nullptr);
  }
}

void DescribeDevice(const Cuda& cuda, CUdevice device, Answerer* answers) {
  char name[256] = "";
  if (cuda.Call("cuDeviceGetName", &::cuDeviceGetName, name, int{sizeof name}, device) == CUDA_SUCCESS) {
    answers->Tell("device", name);
  }
  const auto tell = [&](const char* key, CUdevice_attribute attribute) {
    int value = 0;
    if (cuda.Call("cuDeviceGetAttribute", &::cuDeviceGetAttribute, &value, attribute, device) == CUDA_SUCCESS) {
      answers->Tell(key, std::to_string(value));
    }
  };
  tell("pageable", CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS);
  tell("host_tables", CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES);
}

void UseManagedMemory(const Cuda& cuda, const std::string& trace, Answerer* answers) {
  CUdeviceptr address = 0;
  const CUresult result = cuda.Call("cuMemAllocManaged", &::cuMemAllocManaged, &address, kManagedBytes,
                                    static_cast<unsigned>(CU_MEM_ATTACH_GLOBAL));
  if (result != CUDA_SUCCESS) answers->Tell("managed", cuda.Failure("cuMemAllocManaged", result));
  WaitForSources(trace);
  if (result == CUDA_SUCCESS) cuda.Call("cuMemFree_v2", &::cuMemFree, address);
}

}  // namespace

Answers ReadAnswers(const std::string& path) {
  Answers answers;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t blank = line.find(' ');
    if (blank != std::string::npos) answers[line.substr(0, blank)] = line.substr(blank + 1);
  }
  return answers;
}

int Probe(const std::string& folder) {
  Answerer answers(folder + "/" + kProbeAnswers);
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    const char* const error = dlerror();
    answers.Tell("error", error != nullptr ? error : "libcuda.so.1 cannot be opened");
    return 0;
  }
  const Cuda cuda(library);
  const auto* const host = static_cast<const UvmsimHost*>(dlsym(library, "uvmsim_host"));
  if (host != nullptr) answers.Tell("simulated", "1");
  CUresult result = cuda.Call("cuInit", &::cuInit, 0u);
  answers.Tell("driver", DriverVersion(host != nullptr && host->root != nullptr ? host->root : ""));
  if (result != CUDA_SUCCESS) {
    answers.Tell("error", cuda.Failure("cuInit", result));
    return 0;
  }
  int version = 0;
  if (cuda.Call("cuDriverGetVersion", &::cuDriverGetVersion, &version) == CUDA_SUCCESS) {
    answers.Tell("cuda", std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10));
  }
  int count = 0;
  if (cuda.Call("cuDeviceGetCount", &::cuDeviceGetCount, &count) == CUDA_SUCCESS) {
    answers.Tell("devices", std::to_string(count));
  }
  CUdevice device = 0;
  CUcontext context = nullptr;
  result = count == 0 ? CUDA_ERROR_NO_DEVICE : cuda.Call("cuDeviceGet", &::cuDeviceGet, &device, 0);
  if (result != CUDA_SUCCESS) {
    answers.Tell("error", cuda.Failure("cuDeviceGet", result));
    return 0;
  }
  DescribeDevice(cuda, device, &answers);
  result = cuda.Call("cuDevicePrimaryCtxRetain", &::cuDevicePrimaryCtxRetain, &context, device);
  if (result == CUDA_SUCCESS) result = cuda.Call("cuCtxSetCurrent", &::cuCtxSetCurrent, context);
  if (result != CUDA_SUCCESS) {
    answers.Tell("error", cuda.Failure("cuDevicePrimaryCtxRetain", result));
    return 0;
  }
  UseManagedMemory(cuda, folder + "/" + kProbeTrace, &answers);
  return 0;  // the context ends with the process, as that of most programs
}

}  // namespace uvmtrace::launcher
