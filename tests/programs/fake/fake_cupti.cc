// A stand-in libcupti.so.13 that counts API calls, for tests of the audit: the stand-in libcuda and libcudart tell it
// of each call beneath the doors, as the real libraries tell the real CUPTI. Everything else succeeds and does nothing.
//
// The names of the callback ids are the real ones: those of the runtime carry the version of a signature.
#include <cupti.h>
#include <dlfcn.h>
#include <string.h>
#include <time.h>

#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::mutex mutex;
std::vector<std::string> names{"none"};  // by callback id, of both domains
std::vector<CUpti_ActivityAPI> records;
CUpti_BuffersCallbackRequestFunc request_buffer = nullptr;
CUpti_BuffersCallbackCompleteFunc complete_buffer = nullptr;

void Called(bool runtime, const char* symbol) {
  const std::lock_guard<std::mutex> lock(mutex);
  // cudaMemset2D_ptds_v7000, cudaMemAdvise_v12020: the version of the export is left out.
  std::string name = symbol;
  if (runtime) {
    if (const size_t version = name.find("_v2"); version != std::string::npos) name.erase(version, 3);
    name += "_v7000";
  }
  size_t id = 1;
  while (id < names.size() && names[id] != name) ++id;
  if (id == names.size()) names.push_back(name);
  CUpti_ActivityAPI record{};
  record.kind = runtime ? CUPTI_ACTIVITY_KIND_RUNTIME : CUPTI_ACTIVITY_KIND_DRIVER;
  record.cbid = static_cast<CUpti_CallbackId>(id);
  records.push_back(record);
}

using Called_ = void (*)(bool, const char*);

void Listen(const char* library, const char* variable) {
  void* const handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) return;
  if (void* const found = dlsym(handle, variable)) *static_cast<Called_*>(found) = &Called;
}

}  // namespace

EXPORT CUptiResult cuptiGetVersion(uint32_t* version) {
  *version = CUPTI_API_VERSION;
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiGetTimestamp(uint64_t* time) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);  // CUPTI's own, where no client has brought another
  *time = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiGetResultString(CUptiResult, const char** text) {
  *text = "an error";
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                                  CUpti_BuffersCallbackCompleteFunc complete) {
  request_buffer = request;
  complete_buffer = complete;
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, size_t*, void*) { return CUPTI_SUCCESS; }
EXPORT CUptiResult cuptiActivityConfigureUnifiedMemoryCounter(CUpti_ActivityUnifiedMemoryCounterConfig*, uint32_t) {
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  if (kind == CUPTI_ACTIVITY_KIND_DRIVER) Listen("libcuda.so.1", "fake_api_called");
  if (kind == CUPTI_ACTIVITY_KIND_RUNTIME) Listen("libcudart.so.13", "cudaFakeCalled");
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiActivityFlushAll(uint32_t) {
  std::vector<CUpti_ActivityAPI> taken;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    taken.swap(records);
  }
  size_t next = 0;
  while (next < taken.size()) {
    uint8_t* buffer = nullptr;
    size_t bytes = 0;
    size_t most = 0;
    request_buffer(&buffer, &bytes, &most);
    size_t used = 0;
    for (; next < taken.size() && buffer != nullptr && used + sizeof(taken[0]) <= bytes; used += sizeof(taken[0])) {
      memcpy(buffer + used, &taken[next++], sizeof(taken[0]));
    }
    if (used == 0) return CUPTI_ERROR_OUT_OF_MEMORY;
    complete_buffer(nullptr, 0, buffer, bytes, used);
  }
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiActivityGetNextRecord(uint8_t* buffer, size_t valid, CUpti_Activity** record) {
  uint8_t* const next = *record == nullptr ? buffer : reinterpret_cast<uint8_t*>(*record) + sizeof(CUpti_ActivityAPI);
  if (next >= buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped) {
  *dropped = 0;
  return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiGetCallbackName(CUpti_CallbackDomain, uint32_t id, const char** name) {
  static std::vector<std::string> kept(4096);
  const std::lock_guard<std::mutex> lock(mutex);
  if (id == 0 || id >= names.size()) return CUPTI_ERROR_INVALID_PARAMETER;
  kept[id] = names[id];
  *name = kept[id].c_str();
  return CUPTI_SUCCESS;
}
